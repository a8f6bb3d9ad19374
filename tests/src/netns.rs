//! A private corner of this machine for one test: a network namespace with a bridge, a mount namespace and a
//! process namespace, held by one shell that lives exactly as long as its [`Rig`].
//!
//! Nothing has a name outside (no `ip netns`, no mount, no bridge), so test processes never collide, and nothing can
//! be left behind: when the holder dies, even because the test process was killed, the kernel takes down every
//! process, mount, loop device and network device inside.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Error, Read, Result};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use crate::not_run::target_dir;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// IPv4 address of the host side of the bridge; the network is 10.99.0.0/24.
pub const HOST: &str = "10.99.0.1";
/// IPv6 address of the host side of the bridge; the network is fd99::/64.
pub const HOST6: &str = "fd99::1";

/// Runs as PID 1 of the namespaces: private /run, /dev/shm and daemons' state, the bridge, then wait for end of input.
const HOLDER: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/rpcbind /run/lock /run/ganesha /run/sendsigs.omit.d
mount -t tmpfs -o mode=1777,size=90% shm /dev/shm
mount -t tmpfs -o mode=755 log /var/log
if [ -d /var/lib/nfs ]; then
    mount -t tmpfs -o mode=755 nfs /var/lib/nfs
    mkdir -p /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/ganesha
    touch /var/lib/nfs/state
    chown -R statd /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/state 2>/dev/null || true
fi
ip link set lo up
ip link add br0 type bridge
ip addr add 10.99.0.1/24 dev br0
ip -6 addr add fd99::1/64 dev br0 nodad 2>/dev/null || true
ip link set br0 up
echo ready
while read -r _; do :; done
"#;

/// The namespaces and the directory of one test.
pub struct Rig {
    holder: Child,
    _stdin: ChildStdin,
    /// PID of the namespaces' first process, as seen from outside.
    init: i32,
    dir: PathBuf,
}

impl Rig {
    /// Makes the namespaces and an empty directory below `target/tmp`. Needs root.
    ///
    /// # Panics
    /// If the namespaces cannot be made; callers ask [`crate::need`] first.
    pub fn new() -> Arc<Rig> {
        let dir = fresh_dir();
        let mut holder = Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "bash",
                "-c",
                HOLDER,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("rig: unshare(1)");
        let stdin = holder.stdin.take().expect("piped");
        let stdout = holder.stdout.take().expect("piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        assert!(
            read.is_ok() && line == "ready\n",
            "rig: the namespaces could not be set up (see the messages above)"
        );
        let init = first_child(holder.id() as i32).expect("rig: the holder has a child");
        Arc::new(Rig {
            holder,
            _stdin: stdin,
            init,
            dir,
        })
    }

    /// Directory of this rig: images, logs, guests' run directories. Shared writable with every guest at the same
    /// path. Removed on drop, unless the test panics or `RINGNFS_KEEP` is set.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path as the inside of the namespaces sees it, in a form usable from outside.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let mut out = PathBuf::from(format!("/proc/{}/root", self.init));
        out.extend(path.components().skip(1));
        out
    }

    /// A command that will run inside the namespaces, in a process group of its own, working directory `/`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut c = Command::new("nsenter");
        c.args(["-t", &self.init.to_string(), "-m", "-n", "-p", "--"])
            .arg(program);
        c.stdin(Stdio::null()).process_group(0);
        c
    }

    /// Runs a shell script inside to its end and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let out = self
            .command("bash")
            .args(["-c", script])
            .output()
            .expect("rig: nsenter(1)");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.success(),
            "rig: `{script}` failed ({}):\n{text}{err}",
            out.status
        );
        text
    }

    /// A TCP connection from inside the network namespace; the stream then works from any thread.
    pub fn connect(&self, addr: SocketAddr, timeout: Duration) -> Result<TcpStream> {
        let ns = File::open(format!("/proc/{}/ns/net", self.init))?;
        // setns(2) moves the calling thread only, so a thread of its own keeps the caller where it is.
        let thread = thread::spawn(move || {
            use std::os::fd::AsFd;
            move_into_link_name_space(ns.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpStream::connect_timeout(&addr, timeout)
        });
        thread.join().map_err(|_| Error::other("connect thread"))?
    }

    /// Runs `work` on a thread of its own inside the network namespace: the sockets it makes, and those of threads it
    /// starts, are there, and stay there for whoever gets them.
    ///
    /// # Panics
    /// If `work` does, or the namespace cannot be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let ns = File::open(format!("/proc/{}/ns/net", self.init)).expect("rig: its namespace");
        let enter = move || {
            use std::os::fd::AsFd;
            move_into_link_name_space(ns.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
            work()
        };
        let done = thread::scope(|scope| scope.spawn(enter).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Waits until something accepts on `addr`, at most `limit`.
    pub fn wait_port(&self, addr: SocketAddr, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            match self.connect(addr, Duration::from_secs(1)) {
                Ok(_) => return Ok(()),
                Err(e) if Instant::now() > end => return Err(e),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Links or copies a program into the rig's directory, which every guest sees, and returns its path there.
    pub fn place(&self, program: &Path) -> PathBuf {
        let to = self
            .dir
            .join(program.file_name().expect("a program has a name"));
        if !to.exists() && fs::hard_link(program, &to).is_err() {
            fs::copy(program, &to)
                .unwrap_or_else(|e| panic!("rig: copy {}: {e}", program.display()));
        }
        to
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // PID 1 of the process namespace: with it goes everything inside.
        let _ = kill(self.init);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        if !thread::panicking() && std::env::var_os("RINGNFS_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        } else {
            eprintln!("rig: kept {}", self.dir.display());
        }
    }
}

/// SIGKILL to one process of our own.
pub(crate) fn kill(pid: i32) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or_else(|| Error::other("no such pid"))?;
    Ok(rustix::process::kill_process(
        pid,
        rustix::process::Signal::KILL,
    )?)
}

/// The first child of a process, once it has one.
pub(crate) fn first_child(pid: i32) -> Option<i32> {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        if let Some(child) = list.split_whitespace().next() {
            return child.parse().ok();
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

/// The last `max` bytes of a file, as text; empty if it cannot be read.
pub fn tail(path: &Path, max: usize) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut f) = File::open(path) {
        let _ = f.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(max)..]).into_owned()
}

/// A new directory `target/tmp/rig-PID-N`, after removing those of processes that are gone.
fn fresh_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let tmp = target_dir().join("tmp");
    fs::create_dir_all(&tmp).expect("rig: target/tmp");
    for entry in fs::read_dir(&tmp).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("rig-").and_then(|n| n.split('-').next());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = tmp
        .canonicalize()
        .expect("rig: target/tmp")
        .join(format!("rig-{}-{n}", std::process::id()));
    let text = dir.to_str().expect("rig: the path of target is UTF-8");
    assert!(
        !text.contains(char::is_whitespace),
        "rig: the path of target must not contain white space: {text}"
    );
    fs::create_dir_all(&dir).expect("rig: directory");
    dir
}
