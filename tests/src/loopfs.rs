//! File systems in image files, mounted in the test's own mount namespace of the machine, for tests that need one to be
//! small, frozen, read-only or another than the build directory's.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;

use crate::client::PATIENCE;
use crate::image::Fs;
use crate::need::Need;

/// What these need from the machine.
pub const LOOP: &[Need] = &[
    Need::Root,
    Need::Path("/dev/loop-control", "the kernel's loop module"),
    Need::Program("mkfs.ext4", "e2fsprogs"),
    Need::Program("fsfreeze", "util-linux"),
];

/// A mounted file system; unmounted on drop. Let the server that exports it end first.
pub struct LoopFs {
    dir: PathBuf,
    options: String,
}

/// A frozen file system; it thaws on drop. Let that be before the server is killed: a process with threads stuck in the
/// kernel does not end.
pub struct Frozen {
    dir: PathBuf,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let dir = self.dir.display().to_string();
        let _ = Command::new("fsfreeze").args(["-u", &dir]).status();
    }
}

/// Runs a command.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
}

impl LoopFs {
    /// Formats `DIR.img` with `mib` MiB and mounts it at `dir`, which is made, with mode 1777 and nothing in it.
    ///
    /// # Panics
    /// If something of that fails.
    #[track_caller]
    pub fn new(dir: &Path, fs: Fs, mib: u64, mkfs: &[&str], options: &str) -> LoopFs {
        let made = LoopFs::try_new(dir, fs, mib, mkfs, options);
        made.unwrap_or_else(|| panic!("cannot mount {} with {options:?}", dir.display()))
    }

    /// The same; `None` when the kernel does not mount it so.
    #[track_caller]
    pub fn try_new(dir: &Path, fs: Fs, mib: u64, mkfs: &[&str], options: &str) -> Option<LoopFs> {
        let image = dir.with_extension("img");
        let image_text = image.display().to_string();
        let made = File::create(&image).and_then(|file| file.set_len(mib << 20));
        made.expect("an image");
        let program = format!("mkfs.{}", fs.name());
        run(&program, &[&["-q"], mkfs, &[&image_text]].concat());
        fs::create_dir_all(dir).expect("a mount point");
        let dir_text = dir.display().to_string();
        let options = format!("loop,{options}");
        let mut mount = Command::new("mount");
        mount.args(["-o", &options, &image_text, &dir_text]);
        if !mount.status().is_ok_and(|status| status.success()) {
            return None;
        }
        let _ = fs::remove_dir(dir.join("lost+found"));
        fs::set_permissions(dir, Permissions::from_mode(0o1777)).expect("chmod");
        Some(LoopFs {
            dir: dir.to_owned(),
            options,
        })
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Freezes it: whoever writes waits.
    #[track_caller]
    #[must_use = "it thaws when dropped"]
    pub fn freeze(&self) -> Frozen {
        run("fsfreeze", &["-f", &self.dir.display().to_string()]);
        Frozen {
            dir: self.dir.clone(),
        }
    }

    /// Mounts it again with other options, such as `ro`.
    #[track_caller]
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        run("mount", &["-o", &options, &self.dir.display().to_string()]);
    }
}

impl LoopFs {
    /// Unmounts it as soon as nobody uses it, and mounts it anew.
    ///
    /// # Panics
    /// If it is in use for long.
    #[track_caller]
    pub fn mount_again(&self) {
        let late = Instant::now() + PATIENCE;
        while rustix::mount::unmount(&self.dir, UnmountFlags::empty()).is_err() {
            assert!(Instant::now() < late, "{} in use", self.dir.display());
            thread::sleep(Duration::from_millis(20));
        }
        let image = self.dir.with_extension("img").display().to_string();
        let dir = self.dir.display().to_string();
        run("mount", &["-o", &self.options, &image, &dir]);
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        let dir = self.dir.display().to_string();
        // Lazy: a server that is being killed may still hold it.
        let _ = Command::new("umount").args(["-l", &dir]).status();
        let _ = fs::remove_file(self.dir.with_extension("img"));
    }
}
