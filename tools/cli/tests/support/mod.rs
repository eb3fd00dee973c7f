//! A real node as a process, load on it through the native client, and a checker of everything it acknowledged.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod checker;
pub(crate) mod load;
pub(crate) mod loop_disk;
pub(crate) mod node;
pub(crate) mod probe;
pub(crate) mod raw;

use std::io::Write;
use std::path::{Path, PathBuf};

/// Says something even when the test passes: the test harness keeps what `println!` says to itself.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// How often a fault is injected: the variable's value, else the default.
pub(crate) fn count_from(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number in the variable"))
}

/// A number that differs from run to run, told so that the run can be repeated.
pub(crate) fn seed() -> u64 {
    let fresh = std::process::id() as u64 ^ std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    std::env::var("CRASH_SEED").ok().map_or(fresh, |text| text.parse().expect("a number in CRASH_SEED"))
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}

/// A folder on the disk of the build (the system's temporary folder may be memory), removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What a failed run leaves is evidence.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
