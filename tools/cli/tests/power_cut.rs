//! The power goes out under load, again and again (`POWER_CUTS`, 50 unless said): the node's data lies on an ext4 file
//! system of its own on a loop device, which is shut down without flushing its log (EXT4_IOC_SHUTDOWN). Whatever was
//! not flushed is gone then. Needs root and loop devices; skipped with a loud line without.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cutwater_client::Client;
use cutwater_model::topic::TopicConfig;

use support::checker::Checker;
use support::load::Load;
use support::node::{Node, Start, free_port};
use support::{Folder, Random, count_from, say, seed};

const PRODUCERS: u32 = 2;
const PARTITIONS: u32 = 3;
const TOPIC: &str = "survivors";
const DISK_BYTES: u64 = 6 << 30;
/// `ioctl(2)` of the file system's root: EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH (linux/fs/ext4/ext4.h). In
/// Perl, which every Debian has, because this workspace keeps unsafe calls to one crate.
const SHUTDOWN: &str = r#"
    open(my $root, "<", $ARGV[0]) or die "open: $!";
    my $flags = pack("L", 2);
    ioctl($root, 0x8004587d, $flags) or die "ioctl: $!";
"#;

#[test]
fn a_power_cut_under_load_loses_nothing_that_was_acknowledged() {
    let cuts = count_from("POWER_CUTS", 50);
    let seed = seed();
    let folder = Folder::new("power-cut");
    let disk = match Disk::new(folder.path()) {
        Ok(disk) => disk,
        Err(why) => {
            say(&format!("!!! SKIPPED: power cuts by a shut down file system on a loop device: {why}"));
            return;
        }
    };
    say(&format!("power cut: {cuts} cuts, CRASH_SEED={seed}"));
    let mut random = Random(seed);
    let how = Start {
        data: disk.mount.join("data"),
        log: folder.path().join("node.log"),
        port: free_port(),
        shards: 2,
    };
    let mut node = Node::start(&how);
    let config = TopicConfig { segment_bytes: 16 << 20, ..TopicConfig::default() };
    Client::new(&how.client()).unwrap().create_topic(TOPIC, PARTITIONS, config).unwrap();
    let load = Load::start(&how.client(), TOPIC, seed, (PRODUCERS, PARTITIONS), true);
    let mut checker = Checker::new(seed, TOPIC, &how.client(), PRODUCERS, PARTITIONS);
    let started = Instant::now();
    for cut in 1..=cuts {
        thread::sleep(Duration::from_millis(100 + random.below(900)));
        disk.shut_down();
        // A while without a disk: nothing may be acknowledged that isn't there afterwards.
        thread::sleep(Duration::from_millis(random.below(50)));
        node.put_out();
        let acks = load.take_acks();
        disk.remount();
        node = Node::start(&how);
        checker.check(acks, &load);
        if cut % 10 == 0 || cut == cuts {
            let (records, acked) = (checker.records(), checker.acked);
            let seconds = started.elapsed().as_secs();
            say(&format!("power cut: {cut} cuts done, {records} records, {acked} acknowledged, {seconds} s"));
        }
    }
    let (sent, acks) = load.finish();
    checker.check_all(&sent, acks);
    node.stop();
}

/// An ext4 file system on a loop device.
struct Disk {
    device: String,
    mount: PathBuf,
}

impl Disk {
    fn new(folder: &Path) -> Result<Self, String> {
        let image = folder.join("disk.img");
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(DISK_BYTES).map_err(|error| error.to_string())?;
        let device = run("losetup", &["--find", "--show", &image.display().to_string()])?.trim().to_owned();
        let disk = Self { device, mount: folder.join("mount") };
        std::fs::create_dir_all(&disk.mount).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &disk.device])?;
        run("mount", &[&disk.device, &disk.mount.display().to_string()])?;
        Ok(disk)
    }

    fn shut_down(&self) {
        run("perl", &["-e", SHUTDOWN, &self.mount.display().to_string()]).unwrap();
    }

    fn remount(&self) {
        let mount = self.mount.display().to_string();
        // Files of a process that has just been reaped may be let go a moment later.
        let mut outcome = run("umount", &[&mount]);
        for _ in 0..100 {
            if outcome.is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
            outcome = run("umount", &[&mount]);
        }
        outcome.unwrap();
        run("mount", &[&self.device, &mount]).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &[&self.mount.display().to_string()]);
        let _ = run("losetup", &["--detach", &self.device]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
