//! A node of this build, started as a user would, killed as nobody should.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cutwater_client::ClientConfig;

const START_MAX: Duration = Duration::from_secs(60);

pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_cutwater")
}

/// A port that was free a moment ago, so that every life of a node can have the same. Below the range that connections
/// take theirs from (net.ipv4.ip_local_port_range), or one of them could hold it when the next life begins.
pub(crate) fn free_port() -> u16 {
    let mut random = super::Random(super::seed());
    loop {
        let port = 10_000 + random.below(20_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// How a node is started.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) port: u16,
    pub(crate) shards: u32,
}

impl Start {
    pub(crate) fn client(&self) -> ClientConfig {
        ClientConfig::new(SocketAddr::from(([127, 0, 0, 1], self.port)))
    }
}

/// How a node ended that was never ready.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; `None` for a signal.
    pub(crate) code: Option<i32>,
    /// What it said in that life.
    pub(crate) said: String,
}

impl core::fmt::Display for Ended {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ended ({:?}) before it was ready:\n{}", self.code, self.said)
    }
}

/// A running node. Dropping it kills it.
pub(crate) struct Node {
    child: Child,
    pub(crate) server: String,
    admin: String,
    log: PathBuf,
}

impl Node {
    /// A metric of the node, added up over its shards.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut socket = TcpStream::connect(&self.admin).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    pub(crate) fn start(how: &Start) -> Self {
        Self::try_start(how, &[]).unwrap_or_else(|ended| panic!("the node {ended}"))
    }

    /// Starts a node with more flags, or tells how it ended before it was ready.
    pub(crate) fn try_start(how: &Start, flags: &[&str]) -> Result<Self, Ended> {
        Self::try_start_by(&[], how, flags)
    }

    /// The same by a program that changes something about its process and then becomes the node.
    pub(crate) fn try_start_by(by: &[&str], how: &Start, flags: &[&str]) -> Result<Self, Ended> {
        let ready = how.log.with_extension("ready");
        let _ = fs::remove_file(&ready);
        let log = File::options().create(true).append(true).open(&how.log).unwrap();
        let log_from = log.metadata().unwrap().len();
        let listen = format!("127.0.0.1:{}", how.port);
        let program = by.first().map_or(binary(), |&program| program);
        let mut command = Command::new(program);
        if !by.is_empty() {
            command.args(&by[1..]).arg(binary());
        }
        let child = command
            .args(["serve", "--listen", &listen, "--admin", "127.0.0.1:0", "--idle", "park"])
            .args([
                "--shards",
                &how.shards.to_string(),
                "--journal-bytes",
                "192MiB",
                "--memory-bytes",
                "256MiB",
                // Tests compare what is resident.
                "--memory-ready-bytes",
                "0",
            ])
            .args(flags)
            .arg("--data")
            .arg(&how.data)
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut node = Self { child, server: String::new(), admin: String::new(), log: how.log.clone() };
        let started = Instant::now();
        loop {
            let text = fs::read_to_string(&ready).unwrap_or_default();
            // Without its last newline the file is still being written.
            if text.ends_with('\n') && text.lines().count() >= 2 {
                let mut lines = text.lines().map(|line| line.trim().to_owned());
                node.server = lines.next().unwrap();
                node.admin = lines.next().unwrap();
                return Ok(node);
            }
            if let Some(status) = node.child.try_wait().unwrap() {
                let said = fs::read(&how.log).unwrap_or_default();
                let said = said.get(log_from as usize..).unwrap_or_default();
                let said = String::from_utf8_lossy(said).into_owned();
                return Err(Ended { code: status.code(), said });
            }
            assert!(started.elapsed() < START_MAX, "the node is not ready:\n{}", node.last_words());
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.parse().unwrap()
    }

    /// The physical memory the process has now, in bytes (proc_pid_status(5), VmRSS).
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// How much memory the process may lock, in bytes (proc_pid_limits(5)).
    pub(crate) fn locked_bytes_max(&self) -> u64 {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap_or(u64::MAX)
    }

    /// All that was logged, former lives included.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the node ended by itself ({status}):\n{}", self.last_words());
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it whether it still runs or not: without its disk it may have ended.
    pub(crate) fn put_out(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// As an operator does; it must end well.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        // The shell's own: not every machine has the program.
        assert!(Command::new("sh").args(["-c", "kill -TERM $0", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.last_words());
    }

    /// Runs the binary against this node.
    pub(crate) fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        use std::io::Write;
        let mut child = Command::new(binary())
            .args(arguments)
            .args(["--server", &self.server])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A command that ends without reading all of its input breaks the pipe; its exit code tells the rest.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    fn last_words(&self) -> String {
        last_words(&self.log)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            super::say(&format!("the node's last words:\n{}", self.last_words()));
        }
    }
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
