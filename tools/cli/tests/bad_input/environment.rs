//! What a node is started with and finds around it (B153, B155, B160 to B162): each row is refused with the exit code
//! and the words that tell an operator what to do.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::support::node::{Node, Start, binary};
use super::support::probe::Probe;
use super::support::{Folder, say};

const CONFIGURATION: i32 = 2;
const LOCKED: i32 = 11;
const NOT_WRITABLE: i32 = 12;
const LIMITS: i32 = 15;

/// Runs `serve` to its end; rows that don't end would hang, so each has a port that nobody can have.
fn serve(folder: &Path, flags: &[&str], file: Option<&str>) -> Output {
    let mut command = Command::new(binary());
    command.arg("serve").args(flags);
    if let Some(text) = file {
        let path = folder.join("cutwater.toml");
        fs::write(&path, text).unwrap();
        command.arg("--config").arg(path);
    }
    command.current_dir(folder).output().unwrap()
}

#[test]
fn a_bad_configuration_is_refused_by_its_key() {
    let folder = Folder::new("bad-config");
    for (name, flags, file, words) in [
        ("B161: an unknown key", &[][..], Some("jornal_bytes = 1\n"), &["jornal_bytes", "no such key"][..]),
        ("B161: a negative size", &[], Some("journal_bytes = -1\n"), &["journal_bytes", "-1"]),
        ("B161: a negative size as a flag", &["--memory-bytes=-1"], None, &["memory_bytes", "-1"]),
        ("B161: no shards", &["--shards", "0"], None, &["shards"]),
        ("B161: a number that is none", &["--shards", "NaN"], None, &["shards", "NaN"]),
        ("B161: more than 64 bits", &["--journal-bytes", "99999999999999999999"], None, &["journal_bytes"]),
        ("B161: no cores", &["--cores", ""], None, &["cores"]),
        ("a file that is no TOML", &[], Some("shards = = 2\n"), &["cutwater.toml", "TOML"]),
        ("B162: all addresses", &["--listen", "0.0.0.0:0"], None, &["listen", "--insecure"]),
        ("B162: all addresses of IPv6", &["--listen", "[::]:0"], None, &["listen", "--insecure"]),
        ("B105: a public admin port", &["--admin", "0.0.0.0:0"], None, &["admin", "--insecure"]),
        ("accept_loss that is neither", &[], Some("accept_loss = \"maybe\"\n"), &["accept_loss", "maybe"]),
    ] {
        let output = serve(folder.path(), flags, file);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(CONFIGURATION), "{name}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
        assert!(!folder.path().join("data").exists(), "{name}: a data folder was made");
    }
}

#[test]
fn a_folder_that_is_held_or_not_writable_is_refused_and_left_alone() {
    let folder = Folder::new("bad-folder");
    let how =
        Start { data: folder.path().join("data"), log: folder.path().join("node.log"), port: 0, shards: 1 };
    let node = Node::start(&how);
    let mut probe = Probe::new(node.address());
    probe.check("the start");
    let second = Start { log: folder.path().join("second.log"), ..how.clone() };
    let ended = Node::try_start(&second, &[]).err().expect("B153: the folder is held");
    assert_eq!(ended.code, Some(LOCKED), "B153: {ended}");
    assert!(ended.said.contains(&how.data.display().to_string()), "B153: {ended}");
    probe.check("B153: a second node on the folder");
    let busy = node.address().port();
    let elsewhere = folder.path().join("elsewhere");
    let third = Start { data: elsewhere, log: folder.path().join("third.log"), port: busy, ..how.clone() };
    let ended = Node::try_start(&third, &[]).err().expect("the port is taken");
    assert_eq!(ended.code, Some(10), "{ended}");
    assert!(ended.said.contains(&busy.to_string()), "{ended}");
    probe.check("a second node on the port");
    probe.check_all();
    node.stop();

    few_descriptors(&folder, &how);
    match ReadOnly::new(&how.data, &folder.path().join("read-only")) {
        Err(why) => say(&format!("!!! SKIPPED: a data folder that can't be written: {why}")),
        Ok(mount) => {
            let start = Start { data: mount.0.clone(), ..how.clone() };
            let ended = Node::try_start(&start, &[]).err().expect("B155: the folder can't be written");
            assert_eq!(ended.code, Some(NOT_WRITABLE), "B155: {ended}");
            assert!(ended.said.contains("read-only"), "B155: {ended}");
        }
    }
    let node = Node::start(&how);
    probe.reconnect(node.address());
    probe.check_all();
    node.stop();
}

/// B160: with few descriptors a node does not start and says which limit it is, or it serves.
fn few_descriptors(folder: &Folder, how: &Start) {
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 32; exec \"$0\" serve --listen 127.0.0.1:0 --admin 127.0.0.1:0 --shards 1 --data \"$1\""])
        .arg(binary())
        .arg(&how.data)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(LIMITS), "B160: {said}");
    assert!(said.contains("nofile") || said.contains("ulimit -n"), "B160: {said}");
}

/// A folder seen through a mount that can't be written; the mode of a folder doesn't stop root.
struct ReadOnly(std::path::PathBuf);

impl ReadOnly {
    fn new(of: &Path, at: &Path) -> Result<Self, String> {
        use super::support::loop_disk::run;
        fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let (of, target) = (of.display().to_string(), at.display().to_string());
        run("mount", &["--bind", &of, &target])?;
        let mount = Self(at.to_owned());
        run("mount", &["-o", "remount,ro,bind", &target])?;
        Ok(mount)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = super::support::loop_disk::run("umount", &[&self.0.display().to_string()]);
    }
}
