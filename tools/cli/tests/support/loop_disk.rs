//! A small disk of its own for a node: an ext4 file system on a loop device. Needs root and loop devices.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// `ioctl(2)` of the file system's root: EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH (linux/fs/ext4/ext4.h). In
/// Perl, which every Debian has, because this workspace keeps unsafe calls to one crate.
const SHUTDOWN: &str = r#"
    open(my $root, "<", $ARGV[0]) or die "open: $!";
    my $flags = pack("L", 2);
    ioctl($root, 0x8004587d, $flags) or die "ioctl: $!";
"#;

/// An ext4 file system on a loop device.
pub(crate) struct LoopDisk {
    device: String,
    pub(crate) mount: PathBuf,
}

impl LoopDisk {
    /// Makes the device, the file system and the mount below `folder`; the error says what is missing for that.
    pub(crate) fn new(folder: &Path, bytes: u64) -> Result<Self, String> {
        let image = folder.join("disk.img");
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        let device = run("losetup", &["--find", "--show", &image.display().to_string()])?.trim().to_owned();
        let disk = Self { device, mount: folder.join("mount") };
        std::fs::create_dir_all(&disk.mount).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &disk.device])?;
        run("mount", &[&disk.device, &disk.mount.display().to_string()])?;
        Ok(disk)
    }

    /// Everything that was not flushed is gone.
    pub(crate) fn shut_down(&self) {
        run("perl", &["-e", SHUTDOWN, &self.mount.display().to_string()]).unwrap();
    }

    pub(crate) fn remount(&self) {
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

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = run("umount", &[&self.mount.display().to_string()]);
        let _ = run("losetup", &["--detach", &self.device]);
    }
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
