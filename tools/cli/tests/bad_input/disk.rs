//! Bytes on disk that are not as they were left (B141 to B154): each row damages a copy of one data folder, which was
//! killed under its writes, and says what the next start must come to.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::support::Folder;
use super::support::node::{Node, Start};
use super::support::probe::Probe;

const RECOVERY: i32 = 16;
pub(super) const BLOCK: u64 = 4096;
/// Appends to each of the probe's two partitions.
const APPENDS: usize = 30;
/// Well before the first checkpoint is due by time: what was appended is in the journal only.
const BEFORE_CHECKPOINT: Duration = Duration::from_secs(8);

/// What a start on a damaged folder comes to.
enum Expect {
    /// It serves, and all that was acknowledged is there.
    All,
    /// It serves; each partition is a beginning of what was acknowledged, and at least so many records long.
    Prefix(usize),
    /// It does not start: recovery is refused, the words are in what it says.
    Refused(&'static [&'static str]),
    /// It does not start, or fences the one partition whose file it is, and names the file.
    Named(&'static str),
}

/// A data folder and what was acknowledged to its peer.
struct Base {
    folder: Folder,
    probe: Probe,
}

impl Base {
    /// The folder of a node that was killed before anything but its journal was written.
    fn killed(name: &str) -> Self {
        for _ in 0..5 {
            let folder = Folder::new(name);
            let begun = Instant::now();
            let mut node = Node::start(&start_in(folder.path(), "base"));
            let mut probe = Probe::new(node.address());
            for _ in 0..APPENDS {
                probe.check("nothing");
            }
            node.kill();
            if begun.elapsed() < BEFORE_CHECKPOINT {
                return Self { folder, probe };
            }
        }
        panic!("the machine is too slow for {APPENDS} appends before the first checkpoint");
    }

    /// The same after a clean stop: everything is in segments.
    fn stopped(name: &str) -> Self {
        let mut base = Self::killed(name);
        let node = Node::start(&start_in(base.folder.path(), "base"));
        base.probe.reconnect(node.address());
        base.probe.check_all();
        node.stop();
        base
    }

    /// Damages a copy and starts a node on it.
    fn check(&mut self, name: &str, damage: impl FnOnce(&Path), expect: &Expect) {
        let copy = self.copy();
        let data = copy.join("data");
        damage(&data);
        let before = segments(&data).len();
        match (Node::try_start(&start_in(self.folder.path(), "copy"), &[]), expect) {
            (Ok(node), Expect::All) => {
                self.probe.reconnect(node.address());
                self.probe.check_all();
                drop(node);
            }
            (Ok(node), &Expect::Prefix(least)) => {
                let mut probe = self.probe.clone();
                probe.reconnect(node.address());
                let records = probe.check_prefix();
                assert!(records.iter().all(|&it| it >= least), "{name}: {records:?} records are left");
                probe.check(name);
                drop(node);
            }
            (Ok(node), Expect::Named(words)) => {
                let said = node.said();
                assert!(said.contains(words), "{name}: it serves and does not say {words}:\n{said}");
                drop(node);
            }
            (Ok(_), Expect::Refused(_)) => panic!("{name}: it serves"),
            (Err(ended), Expect::Refused(words)) => {
                assert_eq!(ended.code, Some(RECOVERY), "{name}: {ended}");
                assert!(words.iter().all(|word| ended.said.contains(word)), "{name}: {ended}");
                assert_eq!(segments(&data).len(), before, "{name}: a refused start has removed data (B151)");
            }
            (Err(ended), Expect::Named(words)) => {
                assert!(ended.said.contains(words), "{name}: {ended}");
                assert!(matches!(ended.code, Some(RECOVERY | 12)), "{name}: {ended}");
            }
            (Err(ended), _) => panic!("{name}: {ended}"),
        }
        fs::remove_dir_all(copy).unwrap();
    }

    fn copy(&self) -> PathBuf {
        let (from, to) = (self.folder.path().join("base"), self.folder.path().join("copy"));
        let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(&to).status().unwrap();
        assert!(copied.success());
        to
    }
}

pub(super) fn start_in(folder: &Path, name: &str) -> Start {
    let data = folder.join(name).join("data");
    fs::create_dir_all(&data).unwrap();
    Start { data, log: folder.join("node.log"), port: 0, shards: 1 }
}

/// All segments that hold anything, sorted.
fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![data.join("topics")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            let path = entry.path();
            if path.symlink_metadata().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "log") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub(super) fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

pub(super) fn flip(path: &Path, at: u64) {
    let file = open(path);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

pub(super) fn zero(path: &Path, at: u64, bytes: u64) {
    let file = open(path);
    let bytes = bytes.min(file.metadata().unwrap().len().saturating_sub(at));
    file.write_all_at(&vec![0; bytes as usize], at).unwrap();
}

fn zero_all(path: &Path) {
    zero(path, 0, fs::metadata(path).unwrap().len());
}

/// Where the last block ends that is not all zeros.
fn end_of_data(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| (at as u64 + 1).next_multiple_of(BLOCK))
}

fn journal(data: &Path) -> PathBuf {
    data.join("journal/0/0000.journal")
}

fn replace(path: &Path, make: impl FnOnce(&Path)) {
    fs::remove_file(path).unwrap();
    make(path);
}

fn link(path: &Path) {
    let elsewhere = path.with_extension("elsewhere");
    fs::rename(path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(elsewhere, path).unwrap();
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_damaged_journal_loses_its_torn_end_only_and_is_refused_where_more_is_lost() {
    let mut base = Base::killed("bad-journal");
    let all = APPENDS;
    base.check("nothing damaged", |_| {}, &Expect::All);
    let torn = |cut: u64| {
        move |data: &Path| {
            let path = journal(data);
            zero(&path, end_of_data(&path) - cut, cut);
        }
    };
    base.check("B141: the last group without its last 100 bytes", torn(100), &Expect::Prefix(all - 2));
    base.check("B141: the last group without its last block", torn(BLOCK), &Expect::Prefix(all - 2));
    base.check("B142: three blocks of zeros", torn(3 * BLOCK), &Expect::Prefix(all - 4));
    let garbage = |data: &Path| {
        let path = journal(data);
        open(&path).write_all_at(&[0xa5; 3 * BLOCK as usize], end_of_data(&path)).unwrap();
    };
    base.check("B142: garbage behind the last group", garbage, &Expect::All);
    let stale = |data: &Path| {
        let path = journal(data);
        let (file, end) = (open(&path), end_of_data(&path));
        let mut blocks = vec![0; 2 * BLOCK as usize];
        file.read_exact_at(&mut blocks, end / 2 / BLOCK * BLOCK).unwrap();
        file.write_all_at(&blocks, end).unwrap();
    };
    base.check("B143: old groups behind the last one", stale, &Expect::All);

    let rotten = |data: &Path| {
        let path = journal(data);
        flip(&path, end_of_data(&path) / 2 + 200);
    };
    let refused = Expect::Refused(&["journal/0/0000.journal", "accept_loss"]);
    base.check("B145: a flipped bit in the middle", rotten, &refused);
    let hole = |data: &Path| {
        let path = journal(data);
        zero(&path, end_of_data(&path) / 2 / BLOCK * BLOCK, BLOCK);
    };
    base.check("B145: a block of zeros in the middle", hole, &refused);
    accepted_loss(&mut base, rotten);
    base.check("B154: the journal is a link", |data| link(&journal(data)), &Expect::Named("0000.journal"));
    base.check(
        "B154: the journal is a pipe",
        |data| replace(&journal(data), pipe),
        &Expect::Named("0000.journal"),
    );
    base.check(
        "B154: the journal is a folder",
        |data| replace(&journal(data), |path| fs::create_dir(path).unwrap()),
        &Expect::Named("0000.journal"),
    );
}

/// With an operator's word the node serves; what it shows is a beginning of what was acknowledged.
fn accepted_loss(base: &mut Base, damage: impl FnOnce(&Path)) {
    let copy = base.copy();
    damage(&copy.join("data"));
    let start = start_in(base.folder.path(), "copy");
    assert!(Node::try_start(&start, &[]).is_err(), "without the word it is refused");
    let node = Node::try_start(&start, &["--accept-loss"]).unwrap_or_else(|ended| panic!("{ended}"));
    assert!(node.said().contains("0000.journal"), "the loss is told: {}", node.said());
    let mut probe = base.probe.clone();
    probe.reconnect(node.address());
    let records = probe.check_prefix();
    assert!(records.iter().all(|&it| it > 0 && it <= APPENDS), "{records:?} records are left");
    node.stop();
    // The loss was accepted once and for all.
    let node = Node::try_start(&start, &[]).unwrap_or_else(|ended| panic!("{ended}"));
    probe.reconnect(node.address());
    probe.check_all();
    node.stop();
    fs::remove_dir_all(copy).unwrap();
}

#[test]
fn one_damaged_copy_is_repaired_and_two_are_refused_with_all_data_left() {
    let mut base = Base::stopped("bad-copies");
    for (folder, words) in [("metadata/log", &["metadata"][..]), ("journal/0/checkpoint", &["checkpoint"])] {
        let refused = Expect::Refused(words);
        let (first, second) = (format!("{folder}-0"), format!("{folder}-1"));
        for copy in [&first, &second] {
            base.check(
                &format!("B151: {copy}, a bit flipped"),
                |data| flip(&data.join(copy), 9),
                &Expect::All,
            );
            base.check(&format!("B147: {copy} is zeros"), |data| zero_all(&data.join(copy)), &Expect::All);
            base.check(
                &format!("B150: {copy} is empty"),
                |data| open(&data.join(copy)).set_len(0).unwrap(),
                &Expect::All,
            );
            base.check(
                &format!("{copy} is missing"),
                |data| fs::remove_file(data.join(copy)).unwrap(),
                &Expect::All,
            );
        }
        for (name, damage) in [
            ("flipped", (|path: &Path| flip(path, 9)) as fn(&Path)),
            ("zeros", zero_all),
            ("missing", |path: &Path| fs::remove_file(path).unwrap()),
        ] {
            base.check(
                &format!("B151: both copies of {folder} {name}"),
                |data| {
                    damage(&data.join(&first));
                    damage(&data.join(&second));
                },
                &refused,
            );
        }
    }
    base.check(
        "B151: the folder of the metadata is missing",
        |data| fs::remove_dir_all(data.join("metadata")).unwrap(),
        &Expect::Refused(&["metadata"]),
    );
}

#[test]
fn a_segment_that_is_gone_or_no_file_is_named_and_never_followed() {
    let mut base = Base::stopped("bad-segments");
    let first = |data: &Path| segments(data).first().expect("a segment").clone();
    let name = ".log";
    base.check("B149: missing", |data| fs::remove_file(first(data)).unwrap(), &Expect::Named(name));
    base.check("B149: empty", |data| open(&first(data)).set_len(0).unwrap(), &Expect::Named(name));
    base.check("B154: a link", |data| link(&first(data)), &Expect::Named(name));
    base.check("B154: a pipe", |data| replace(&first(data), pipe), &Expect::Named(name));
    base.check(
        "B154: a folder",
        |data| replace(&first(data), |path| fs::create_dir(path).unwrap()),
        &Expect::Named(name),
    );
}
