//! A FUSE file system that shows a directory and locks what is locked there in that directory as well (bindfs), so that it
//! and the directory are as two hosts of a cluster file system are.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::PATIENCE;
use crate::need::Need;

/// What these need from the machine.
pub const FUSE: &[Need] = &[
    Need::Root,
    Need::Path("/dev/fuse", "the kernel's fuse module"),
    Need::Program("bindfs", "bindfs"),
];

/// A mounted one; unmounted on drop. Let the server that exports it end first.
pub struct FuseFs {
    low: PathBuf,
    dir: PathBuf,
    daemon: Child,
}

impl FuseFs {
    /// Shows `low`, which is made, at `dir`, with extra arguments for bindfs.
    ///
    /// # Panics
    /// If it is not mounted in time.
    #[track_caller]
    pub fn new(low: &Path, dir: &Path, args: &[&str]) -> FuseFs {
        fs::create_dir_all(low).expect("a directory");
        fs::create_dir_all(dir).expect("a mount point");
        fs::set_permissions(low, Permissions::from_mode(0o1777)).expect("chmod");
        let mut command = Command::new("bindfs");
        let forwards = ["-f", "--multithreaded", "--enable-lock-forwarding"];
        command.args(forwards).args(args);
        command.arg(low).arg(dir).stdin(Stdio::null());
        let mut made = FuseFs {
            low: low.to_owned(),
            dir: dir.to_owned(),
            daemon: command.spawn().expect("bindfs"),
        };
        let end = Instant::now() + PATIENCE;
        while !made.mounted() {
            let dead = made.daemon.try_wait();
            assert!(matches!(dead, Ok(None)), "bindfs ended: {dead:?}");
            assert!(Instant::now() < end, "bindfs does not mount");
            thread::sleep(Duration::from_millis(5));
        }
        made
    }

    fn mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let here = format!(" {} ", self.dir.display());
        mounts.contains(&here)
    }

    /// The directory below.
    pub fn low(&self) -> &Path {
        &self.low
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.daemon.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("a signal");
    }

    /// Stops the daemon: whoever uses the file system waits until the value is dropped. Let that be before the server is
    /// killed: a process with threads stuck in the kernel does not end.
    ///
    /// # Panics
    /// If it does not stop in time.
    #[must_use = "it goes on when dropped"]
    pub fn stop(&self) -> Stopped<'_> {
        self.signal(Signal::STOP);
        let stopped = Stopped(self);
        // Until the thread that takes the signal has run, the others go on.
        let end = Instant::now() + PATIENCE;
        while !self.all_stopped() {
            assert!(Instant::now() < end, "bindfs does not stop");
            thread::sleep(Duration::from_millis(2));
        }
        stopped
    }

    /// All threads of the daemon are in the state `T` of proc_pid_stat(5).
    fn all_stopped(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.daemon.id()));
        tasks.expect("its threads").flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            stat.is_empty() || state.starts_with('T')
        })
    }
}

/// A daemon that does not answer.
pub struct Stopped<'a>(&'a FuseFs);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

impl Drop for FuseFs {
    fn drop(&mut self) {
        // Lazy: a server that is being killed may still hold it.
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
