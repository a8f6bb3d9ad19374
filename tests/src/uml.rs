//! User-mode Linux guests: a real Linux kernel, and so the real NFS client, as a process of ours.
//!
//! A guest boots in under two seconds from this machine's own root over hostfs (read-only) and then runs shell
//! scripts, several at once if asked to. It has one CPU and its system calls cost about 17 us, a fork and exec tens of
//! ms: it is here to be right, not fast. See `tests/uml/init` for its side.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::netns::{Rig, first_child, tail};
use crate::stall::{self, Watch};

const INIT: &str = include_str!("../uml/init");

/// How to boot a guest.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Memory in MiB; only what the guest touches is really used (in /dev/shm).
    pub mem: u32,
    /// Last byte of the guest's address in 10.99.0.0/24 (and fd99::/64), 2..=254, unique in the rig.
    pub addr: u8,
    /// Disk images, in order /dev/ubda, /dev/ubdb, ...
    pub disks: Vec<PathBuf>,
}

impl Default for Boot {
    fn default() -> Self {
        Boot {
            mem: 512,
            addr: 2,
            disks: Vec::new(),
        }
    }
}

/// A running guest. Killed on drop.
pub struct Guest {
    rig: Arc<Rig>,
    /// nsenter(1), whose only child is the guest's kernel.
    process: Child,
    kernel: Option<i32>,
    watch: Option<Watch>,
    run: PathBuf,
    tap: String,
    next: AtomicU32,
}

/// A script running in a guest.
pub struct Job<'g> {
    guest: &'g Guest,
    stem: String,
    script: String,
}

/// How a script ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exit status of the script; 124 after the time limit.
    pub status: i32,
    /// What it wrote to stdout and stderr.
    pub output: String,
}

impl Guest {
    /// Boots a guest and waits until it takes scripts.
    ///
    /// # Panics
    /// If it does not come up within 60 s; the message has the end of its console.
    pub fn boot(rig: &Arc<Rig>, boot: &Boot) -> Guest {
        let run = rig.dir().join(format!("guest-{}", boot.addr));
        let _ = fs::remove_dir_all(&run);
        fs::create_dir_all(&run).expect("guest: run directory");
        let init = rig.dir().join("init");
        write_executable(&init, INIT);
        let tap = format!("g{}", boot.addr);
        rig.sh(&format!(
            "ip link del {tap} 2>/dev/null; ip tuntap add {tap} mode tap vnet_hdr && ip link set {tap} master br0 up"
        ));
        let console = File::create(run.join("console")).expect("guest: console");
        let process = rig
            .command("linux.uml")
            .args(kernel_arguments(rig, boot, &run, &init, &tap))
            .stdout(console.try_clone().expect("guest: console"))
            .stderr(Stdio::from(console))
            .spawn()
            .expect("guest: linux.uml");
        let kernel = first_child(process.id() as i32);
        let mut guest = Guest {
            rig: rig.clone(),
            process,
            kernel,
            watch: None,
            run,
            tap,
            next: AtomicU32::new(0),
        };
        let end = Instant::now() + Duration::from_secs(60);
        while fs::metadata(guest.run.join("ready")).map_or(0, |m| m.len()) == 0 {
            let dead = guest.process.try_wait().ok().flatten();
            if dead.is_some() || Instant::now() > end {
                panic!("guest: did not boot ({dead:?}):\n{}", guest.console(4000));
            }
            thread::sleep(Duration::from_millis(10));
        }
        guest.watch = kernel.map(|pid| Watch::new(pid, guest.run.join("beat")));
        guest
    }

    /// Starts a shell script (bash, `set -e`). It may use `$RIG`, the directory shared with the host, and `await FILE...`,
    /// which waits until the files exist.
    pub fn start(&self, script: &str) -> Job<'_> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let stem = n.to_string();
        let draft = self.run.join(format!("{n}.new"));
        fs::write(&draft, format!("set -e\n{script}\n")).expect("guest: script");
        fs::rename(&draft, self.run.join(format!("{n}.sh"))).expect("guest: script");
        Job {
            guest: self,
            stem,
            script: script.to_owned(),
        }
    }

    /// Runs a script to its end, at most `seconds`.
    pub fn run(&self, seconds: u64, script: &str) -> Outcome {
        self.start(script).wait(seconds)
    }

    /// Runs a script that must succeed within `seconds`, and returns its output.
    ///
    /// # Panics
    /// If it fails; the message has its output and the end of the guest's console.
    #[track_caller]
    pub fn ok(&self, seconds: u64, script: &str) -> String {
        self.start(script).ok(seconds)
    }

    /// The output of a script that ends within 10 s, if it does.
    pub(crate) fn answers(&self, script: &str) -> Option<String> {
        self.start(script).ended(10).map(|outcome| outcome.output)
    }

    /// The last `max` bytes of the guest's console.
    pub fn console(&self, max: usize) -> String {
        tail(&self.run.join("console"), max)
    }

    /// The guest's directory on the host (below the rig's, writable by the guest at the same path).
    pub fn dir(&self) -> &Path {
        &self.run
    }

    /// The process that is its kernel, unless it is gone.
    pub(crate) fn kernel(&self) -> Option<i32> {
        self.kernel
    }

    /// Where it runs.
    pub(crate) fn rig(&self) -> &Rig {
        &self.rig
    }

    /// SIGKILL to the whole guest: power loss, as far as anybody outside can tell.
    pub fn kill(&mut self) {
        self.watch = None;
        // It made itself a session, so the group is the kernel's own; its disk threads share the locks on its images,
        // and a second boot must find them free.
        let Some(group) = self.kernel.take().and_then(Pid::from_raw) else {
            return;
        };
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.process.wait();
        let end = Instant::now() + Duration::from_secs(10);
        while test_kill_process_group(group).is_ok() && Instant::now() < end {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
        let _ = self
            .rig
            .command("ip")
            .args(["link", "del", &self.tap])
            .status();
    }
}

impl Job<'_> {
    /// The exit status, if it has ended.
    pub fn status(&self) -> Option<i32> {
        let text = fs::read_to_string(self.file("rc")).ok()?;
        text.strip_suffix('\n')?.parse().ok()
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        tail(&self.file("out"), usize::MAX)
    }

    /// Waits for its end, at most `seconds`; after that (or when the guest is gone) the status is 124.
    pub fn wait(self, seconds: u64) -> Outcome {
        self.ended(seconds).unwrap_or_else(|| {
            let why = stall::seen(self.guest);
            Outcome {
                status: 124,
                output: format!("{}\n(no end after {seconds} s)\n{why}", self.output()),
            }
        })
    }

    /// How it ended, if it does within `seconds`.
    fn ended(&self, seconds: u64) -> Option<Outcome> {
        let end = Instant::now() + Duration::from_secs(seconds);
        let stream = std::env::var_os("RINGNFS_VERBOSE").is_some();
        let mut shown = 0;
        loop {
            let status = self.status();
            if stream {
                let output = self.output();
                eprint!("{}", output.get(shown..).unwrap_or_default());
                shown = output.len();
            }
            if let Some(status) = status {
                return Some(Outcome {
                    status,
                    output: self.output(),
                });
            }
            if Instant::now() > end {
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end and returns its output.
    ///
    /// # Panics
    /// If it fails or takes longer than `seconds`.
    #[track_caller]
    pub fn ok(self, seconds: u64) -> String {
        let (guest, script) = (self.guest, self.script.clone());
        let out = self.wait(seconds);
        assert!(
            out.status == 0,
            "guest: status {} of\n{script}\n--- output\n{}\n--- console\n{}",
            out.status,
            out.output,
            guest.console(2000)
        );
        out.output
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.guest.run.join(format!("{}.{kind}", self.stem))
    }
}

fn kernel_arguments(rig: &Rig, boot: &Boot, run: &Path, init: &Path, tap: &str) -> Vec<String> {
    let mut args = vec![
        format!("mem={}M", boot.mem),
        "rootfstype=hostfs".into(),
        "rootflags=/".into(),
        "ro".into(),
        format!("init={}", init.display()),
        format!("umid=g{}", boot.addr),
        format!("uml_dir={}/uml", rig.dir().display()),
        "con0=null,fd:1".into(),
        "con=null".into(),
        "ssl=null".into(),
        "loglevel=5".into(),
        "panic=-1".into(),
        format!(
            "vec0:transport=tap,ifname={tap},depth=128,gro=1,mac=02:55:4d:4c:00:{:02x}",
            boot.addr
        ),
        "IFACE=vec0".into(),
        format!("RIG={}", rig.dir().display()),
        format!("RUN={}", run.display()),
        format!("ADDR=10.99.0.{}", boot.addr),
        format!("ADDR6=fd99::{:x}", boot.addr),
    ];
    for (letter, disk) in ('a'..='h').zip(&boot.disks) {
        args.push(format!("ubd{letter}={}", disk.display()));
    }
    args
}

fn write_executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    // By rename: another guest may be booting from it.
    let draft = path.with_extension("new");
    fs::write(&draft, text).expect("guest: init");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).expect("guest: init");
    fs::rename(&draft, path).expect("guest: init");
}
