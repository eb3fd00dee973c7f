//! What the machine refuses a node (B157 to B159): it ends by the first thing it can't do without, with the exit code and
//! the words that tell an operator what to do, or it does without.

use std::ffi::OsString;
use std::fs;

use super::support::loop_disk::run;
use super::support::node::{Ended, Node, Start};
use super::support::probe::Probe;
use super::support::{Folder, say};

const NOT_WRITABLE: i32 = 12;
const NO_DIRECT: i32 = 13;
const NO_RING: i32 = 14;
const LIMITS: i32 = 15;

const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const ENOSYS: i32 = 38;
/// io_uring_setup(2), which has the same number everywhere.
const IO_URING_SETUP: i32 = 425;

/// openat(2).
const OPENAT: i32 = if cfg!(target_arch = "x86_64") { 257 } else { 56 };
/// The bit of O_TMPFILE that no other flag has (fcntl.h), which openat(2) takes as its third argument.
const TMPFILE: u32 = 0x40_0000;
const EOPNOTSUPP: i32 = 95;

/// Has the kernel answer one system call with an error, by a filter of a few instructions (seccomp(2)), and becomes the
/// program that follows. With a mask other than 0 only where the third argument has one of its bits. In Perl, because
/// this workspace keeps unsafe calls to one crate.
const REFUSE_CALL: &str = r#"
    my ($call, $mask, $errno, @program) = @ARGV;
    my %prctl = (x86_64 => 157, aarch64 => 167);
    my $machine = (POSIX::uname())[4];
    my $number = $prctl{$machine} or die "the number of prctl(2) on $machine is not known";
    my @refuse = (0x06, 0, 0, 0x50000 | $errno, 0x06, 0, 0, 0x7fff0000);
    my @filter = (0x20, 0, 0, 0, 0x15, 0, $mask ? 3 : 1, $call);
    push @filter, (0x20, 0, 0, 32, 0x45, 0, 1, $mask) if $mask;
    push @filter, @refuse;
    my $filter = pack("(SCCL)*", @filter);
    my $list = pack("S x6 P", @filter / 4, $filter);
    syscall($number, 38, 1, 0, 0, 0) == 0 or die "PR_SET_NO_NEW_PRIVS: $!";
    syscall($number, 22, 2, $list) == 0 or die "PR_SET_SECCOMP: $!";
    exec(@program) or die "exec: $!";
"#;

fn start_in(folder: &Folder, data: &str) -> Start {
    Start { data: folder.path().join(data), log: folder.path().join("node.log"), port: 0, shards: 1 }
}

/// A node that is refused a system call, or with a mask some of them.
fn start_without(how: &Start, call: i32, mask: u32, errno: i32) -> Result<Node, Ended> {
    let (call, mask, errno) = (call.to_string(), mask.to_string(), errno.to_string());
    let by = ["perl", "-MPOSIX", "-e", REFUSE_CALL, &call, &mask, &errno];
    Node::try_start_by(&by, how, &[])
}

#[test]
fn a_file_system_without_direct_io_is_refused_before_anything_is_put_there() {
    let folder = Folder::new("no-direct");
    let mount = folder.path().join("ramfs");
    fs::create_dir(&mount).unwrap();
    let at = mount.display().to_string();
    if let Err(why) = run("mount", &["-t", "ramfs", "ramfs", &at]) {
        say(&format!("!!! SKIPPED: a file system without O_DIRECT: {why}"));
        return;
    }
    let how = start_in(&folder, "ramfs/data");
    let ended = Node::try_start(&how, &[]).err();
    let left = names_in(&how);
    // The same where the file that it tries that with must have a name.
    let named = start_without(&how, OPENAT, TMPFILE, EOPNOTSUPP).err();
    let left_by_named = names_in(&how);
    run("umount", &[&at]).unwrap();
    for (ended, left) in [(ended, left), (named, left_by_named)] {
        let ended = ended.expect("B157: there is no O_DIRECT");
        assert_eq!(ended.code, Some(NO_DIRECT), "B157: {ended}");
        assert!(ended.said.contains("O_DIRECT") && ended.said.contains(&at), "B157: {ended}");
        assert_eq!(left, ["lock"], "B157: nothing is put there");
    }
}

fn names_in(how: &Start) -> Vec<OsString> {
    fs::read_dir(&how.data).unwrap().map(|it| it.unwrap().file_name()).collect()
}

#[test]
fn a_file_system_without_nameless_files_will_do_and_nothing_is_left_of_the_probe() {
    let folder = Folder::new("no-nameless");
    let how = start_in(&folder, "data");
    let node = start_without(&how, OPENAT, TMPFILE, EOPNOTSUPP).unwrap_or_else(|ended| panic!("{ended}"));
    let mut probe = Probe::new(node.address());
    probe.check("a file system without O_TMPFILE");
    probe.check_all();
    node.stop();
    assert!(!names_in(&how).contains(&"probe".into()), "{:?}", names_in(&how));
    // What can't be written is told apart from what only has no nameless files.
    fs::create_dir(how.data.join("probe")).unwrap();
    let ended = start_without(&how, OPENAT, TMPFILE, EOPNOTSUPP).err().expect("the probe's name is taken");
    assert_eq!(ended.code, Some(NOT_WRITABLE), "{ended}");
}

#[test]
fn a_machine_without_io_uring_is_refused_with_what_to_do_and_a_later_start_serves() {
    let folder = Folder::new("no-ring");
    let how = start_in(&folder, "data");
    for (name, errno, code, words) in [
        ("B158: io_uring is forbidden", EPERM, NO_RING, ["kernel.io_uring_disabled", "seccomp"]),
        ("B158: io_uring is not there", ENOSYS, NO_RING, ["Linux 6.1", "seccomp"]),
        ("B159: the ring finds no memory", ENOMEM, LIMITS, ["ulimit -l", "LimitMEMLOCK"]),
    ] {
        let ended = start_without(&how, IO_URING_SETUP, 0, errno).err();
        let ended = ended.unwrap_or_else(|| panic!("{name}: it serves"));
        assert_eq!(ended.code, Some(code), "{name}: {ended}");
        assert!(words.iter().all(|word| ended.said.contains(word)), "{name}: {ended}");
        assert!(!how.data.exists(), "{name}: a data folder was made");
    }
    Node::start(&how).stop();
}

/// A ring counts as locked memory of who has not the capability to lock as much as they like (CAP_IPC_LOCK).
#[test]
fn too_little_memory_to_lock_is_told_with_what_is_needed_and_that_much_is_enough() {
    let folder = Folder::new("memlock");
    let how = start_in(&folder, "data");
    let privileged = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"];
    // Who may not give the capability up doesn't have it.
    let can_give_up = run(privileged[0], &[privileged[1], "true"]).is_ok();
    let start = |kib: &str| {
        let limited = ["sh", "-c", "ulimit -l \"$1\"; shift; exec \"$@\"", "sh", kib];
        let by: Vec<&str> = privileged.into_iter().filter(|_| can_give_up).chain(limited).collect();
        Node::try_start_by(&by, &how, &[])
    };
    let ended = start("0").err().expect("B159: a ring needs some");
    assert_eq!(ended.code, Some(LIMITS), "B159: {ended}");
    assert!(ended.said.contains("`ulimit -l` to 8192"), "B159: {ended}");
    assert!(!how.data.exists(), "B159: a data folder was made");
    let node = start("8192").unwrap_or_else(|ended| panic!("B159: {ended}"));
    assert_eq!(node.locked_bytes_max(), 8192 << 10);
    node.stop();
}
