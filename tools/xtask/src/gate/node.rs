//! A node of the release build under measurement: started on its cores, watched from outside, stopped by its process id.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a node may take to come up before the gate gives up on it.
const START_MAX: Duration = Duration::from_secs(60);
/// Ticks per second of the times in /proc/PID/stat: `sysconf(_SC_CLK_TCK)`, 100 on every Linux that Rust runs on.
const TICKS_PER_S: f64 = 100.0;

/// A running node.
pub(crate) struct Node {
    child: Child,
    /// Where it listens for the native protocol.
    pub(crate) address: String,
    /// Where its control thread answers HTTP.
    control: String,
}

/// How a node is started.
pub(crate) struct Start<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) data: &'a Path,
    /// The cores of its shards, one shard each.
    pub(crate) cores: &'a [usize],
    pub(crate) log: &'a Path,
}

impl Node {
    /// Starts a node and waits until it is ready.
    pub(crate) fn start(how: &Start) -> Result<Self> {
        let ready: PathBuf = how.log.with_extension("ready");
        if ready.exists() {
            fs::remove_file(&ready)?;
        }
        let log = File::options().create(true).append(true).open(how.log)?;
        let cores: Vec<String> = how.cores.iter().map(usize::to_string).collect();
        let mut child = Command::new(how.binary)
            .arg("serve")
            .args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"])
            .args(["--shards", &how.cores.len().to_string(), "--cores", &cores.join(",")])
            .arg("--data")
            .arg(how.data)
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", how.binary.display()))?;
        let started = Instant::now();
        loop {
            let text = fs::read_to_string(&ready).unwrap_or_default();
            if let Some((address, control)) = addresses(&text) {
                return Ok(Self { child, address, control });
            }
            if let Some(status) = child.try_wait()? {
                bail!("the node ended ({status}) before it was ready; see {}", how.log.display());
            }
            if started.elapsed() > START_MAX {
                child.kill()?;
                child.wait()?;
                bail!("the node was not ready after {START_MAX:?}; see {}", how.log.display());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop and waits for a clean end.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        if !Command::new("sh")
            .args(["-c", "kill -TERM $0", &pid])
            .status()
            .context("cannot run sh")?
            .success()
        {
            bail!("cannot signal the node (process {pid})");
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the node did not stop cleanly: {status}");
        }
        Ok(())
    }

    /// Kills it without a warning, as `kill -9` does.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context("cannot kill the node")?;
        self.child.wait().context("cannot reap the node")?;
        Ok(())
    }

    /// Processor time it has used so far, user and system, of all its threads.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let text =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).context("the node is gone")?;
        cpu_seconds(&text).context("/proc/PID/stat has an unknown form")
    }

    /// Memory resident now, in MiB.
    pub(crate) fn rss_mib(&self) -> Result<f64> {
        let text =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).context("the node is gone")?;
        rss_mib(&text).context("/proc/PID/status has no VmRSS")
    }

    /// The sum over all shards of one of its metrics.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let mut stream = TcpStream::connect(&self.control)
            .with_context(|| format!("the control thread does not answer on {}", self.control))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("/metrics did not answer in 5 s")?;
        sum_of(&answer, name).with_context(|| format!("/metrics has no {name}"))
    }
}

impl Drop for Node {
    /// A node never outlives the gate that started it, whatever went wrong between.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The two lines of a ready file: the native address and the control address.
fn addresses(text: &str) -> Option<(String, String)> {
    // Without its last newline the file is still being written.
    let mut lines = text.strip_suffix('\n')?.lines();
    Some((lines.next()?.trim().to_owned(), lines.next()?.trim().to_owned()))
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name in parentheses may hold blanks; the fields after it are counted from 3 (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let user: f64 = fields.get(14 - 3)?.parse().ok()?;
    let system: f64 = fields.get(15 - 3)?.parse().ok()?;
    Some((user + system) / TICKS_PER_S)
}

fn rss_mib(status: &str) -> Option<f64> {
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1_024.0)
}

/// The sum of a metric over its labels, in the Prometheus text format.
fn sum_of(text: &str, name: &str) -> Option<f64> {
    let mut sum = None;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        if !rest.starts_with(['{', ' ']) {
            continue;
        }
        let value: f64 = rest.rsplit(' ').next()?.parse().ok()?;
        sum = Some(sum.unwrap_or(0.0) + value);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_files_are_understood() {
        let stat = "42 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 4 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(rss_mib("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2.0));
        assert_eq!(rss_mib("Name:\tx\n"), None);
    }

    #[test]
    fn metrics_are_summed_over_shards() {
        let text =
            "# HELP groups x\ngroups{shard=\"0\"} 3\ngroups{shard=\"1\"} 4\ngroups_bytes{shard=\"0\"} 9\n";
        assert_eq!(sum_of(text, "groups"), Some(7.0));
        assert_eq!(sum_of(text, "group"), None);
    }

    #[test]
    fn half_a_ready_file_is_not_ready() {
        assert_eq!(addresses("127.0.0.1:1\n127.0.0.1:2"), None);
        assert_eq!(addresses("127.0.0.1:1\n"), None);
        assert_eq!(
            addresses("127.0.0.1:1\n127.0.0.1:2\n"),
            Some(("127.0.0.1:1".into(), "127.0.0.1:2".into()))
        );
    }
}
