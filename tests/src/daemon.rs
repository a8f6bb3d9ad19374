//! The server as a child process on a loopback port, with one directory on a disk file system to export, for tests with
//! the raw client. It starts in milliseconds; when a test ends well, the server must end well too: everything it held
//! for clients given back, exit status 0. With `RINGNFS_SERVER=ganesha` it is nfs-ganesha, for those tests that can be held
//! against it (`tests/reference`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{Client, Fh};
use crate::netns::target_dir;
use crate::peer::Peer;
use crate::server::Kind;

/// Both ways of file operations to the kernel, or the one named by `RINGNFS_IO_POLICY`.
pub fn policies() -> Vec<String> {
    match std::env::var("RINGNFS_IO_POLICY") {
        Ok(one) => vec![one],
        // A peer has one way.
        Err(_) if Kind::from_env() != Kind::Ringnfs => vec!["adaptive".to_owned()],
        Err(_) => vec!["ring".to_owned(), "adaptive".to_owned()],
    }
}

/// What to serve and how. `@DIR@` in texts stands for the server's own directory.
#[derive(Clone, Debug)]
pub struct Setup {
    /// exports(5) options of the exported directory.
    pub options: String,
    /// exports(5) text in place of that one export.
    pub exports: Option<String>,
    /// Rest of the configuration file: tables.
    pub config: String,
    /// Extra arguments after `ringnfs serve`.
    pub args: Vec<String>,
    /// Where to listen; port 0 for a free one, which it keeps over restarts.
    pub listen: Vec<String>,
    /// `ring` or `adaptive`.
    pub policy: String,
    /// Rules of fault injection, for the build that has it (see vfs's `uring::fault`); empty for the ordinary build.
    pub faults: String,
    /// The build with fault injection even without rules.
    pub faulty: bool,
    /// A directory with `passwd`, `group` and `nsswitch.conf`, which this server has in place of those in `/etc`, in a mount
    /// namespace of its own.
    pub accounts: Option<PathBuf>,
}

/// Runs a command, the arguments, with databases of its own.
const WITH_ACCOUNTS: &str =
    "for f in passwd group nsswitch.conf; do mount --bind $0/$f /etc/$f || exit; done; exec \"$@\"";

impl Default for Setup {
    fn default() -> Self {
        Setup {
            options: "rw,no_root_squash,insecure".to_owned(),
            exports: None,
            config: String::new(),
            args: Vec::new(),
            listen: vec!["127.0.0.1:0".to_owned()],
            policy: policies().pop().expect("a policy"),
            faults: String::new(),
            faulty: false,
            accounts: None,
        }
    }
}

/// A running server. On drop it is stopped and must have leaked nothing, unless the test is failing already.
pub struct TestServer {
    child: Option<Child>,
    /// Another server in its place.
    peer: Option<Peer>,
    setup: Setup,
    addrs: Vec<SocketAddr>,
    /// While it does not run: its ports, so that nobody gets them who asks for a free one.
    kept: Vec<OwnedFd>,
    baseline: BTreeMap<String, u64>,
    dir: TempDir,
}

/// What must be as before once all clients are gone.
const GAUGES: [&str; 7] = [
    "acls.in_use",
    "buffers.out",
    "buffers.recv_out",
    "connections",
    "requests.in_flight",
    "requests.in_kernel",
    "tasks",
];

/// How long a server may take for what it does at once, on a machine with other work and a slow disk.
const PATIENCE: Duration = Duration::from_secs(60);

impl Setup {
    /// With exports(5) options other than the default `rw,no_root_squash,insecure`.
    pub fn options(options: &str) -> Setup {
        Setup {
            options: options.to_owned(),
            ..Setup::default()
        }
    }

    /// With exports(5) text; `@DIR@` is the server's own directory.
    pub fn exports(text: &str) -> Setup {
        Setup {
            exports: Some(text.to_owned()),
            ..Setup::default()
        }
    }

    /// With tables of the configuration file.
    pub fn config(text: &str) -> Setup {
        Setup {
            config: text.to_owned(),
            ..Setup::default()
        }
    }

    /// The same with a policy.
    #[must_use]
    pub fn policy(mut self, policy: &str) -> Setup {
        policy.clone_into(&mut self.policy);
        self
    }

    /// The same with rules of fault injection.
    #[must_use]
    pub fn faults(mut self, rules: &str) -> Setup {
        rules.clone_into(&mut self.faults);
        self.faulty = true;
        self
    }

    /// The same with extra arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Setup {
        self.args.extend(args.iter().map(|&a| a.to_owned()));
        self
    }

    /// Starts it in a fresh directory.
    #[track_caller]
    pub fn start(self) -> TestServer {
        self.start_in(fresh_dir())
    }

    /// Starts it in a directory prepared by the caller (from [`fresh_dir`]).
    #[track_caller]
    pub fn start_in(self, dir: TempDir) -> TestServer {
        let mut server = TestServer {
            child: None,
            peer: None,
            setup: self,
            addrs: Vec::new(),
            kept: Vec::new(),
            baseline: BTreeMap::new(),
            dir,
        };
        match Kind::from_env() {
            Kind::Ringnfs => server.start_again(),
            Kind::Ganesha if server.setup.is_plain() => {
                server.peer = Some(Peer::start(&server.export(), &server.dir().join("log")));
            }
            other => {
                panic!("this test is of ringnfs alone, not of {other:?} (see tests/reference)")
            }
        }
        server
    }

    /// Nothing but one export, which every server can have.
    fn is_plain(&self) -> bool {
        let plain = Setup::default().policy(&self.policy);
        let options = [
            "rw,no_root_squash,insecure",
            "rw,async,no_root_squash,insecure",
        ];
        options.contains(&self.options.as_str())
            && self.exports.is_none()
            && self.config.is_empty()
            && self.args.is_empty()
            && self.listen == plain.listen
            && !self.faulty
    }
}

/// A directory for a server, on the disk file system of the build directory, with `export` (mode 1777) and `log` in it.
pub fn fresh_dir() -> TempDir {
    let tmp = target_dir().join("tmp");
    fs::create_dir_all(&tmp).expect("target/tmp");
    let tmp = tmp.canonicalize().expect("target/tmp");
    for entry in fs::read_dir(&tmp).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix("daemon-")
            .and_then(|n| n.split('-').next());
        // Of a test process that was killed.
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let dir = tempfile::Builder::new()
        .prefix(&format!("daemon-{}-", std::process::id()))
        .tempdir_in(tmp)
        .expect("a directory");
    // Servers reach it by handle, but tests also look at it as other users.
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    open(dir.path(), 0o755).expect("chmod");
    let export = dir.path().join("export");
    fs::create_dir(&export)
        .and_then(|()| open(&export, 0o1777))
        .expect("the export");
    dir
}

impl TestServer {
    /// One read-write export, root not squashed, any port.
    #[track_caller]
    pub fn start() -> TestServer {
        Setup::default().start()
    }

    /// The server's own directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory exported unless the setup has others.
    pub fn export(&self) -> PathBuf {
        self.dir().join("export")
    }

    /// Its first address.
    ///
    /// # Panics
    /// Of a peer, which only [`TestServer::client`] reaches.
    pub fn addr(&self) -> SocketAddr {
        assert!(self.peer.is_none(), "a peer has none here");
        self.addrs[0]
    }

    /// All its addresses.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// A new connection as user 0.
    #[track_caller]
    pub fn client(&self) -> Client {
        if let Some(peer) = &self.peer {
            return peer.client();
        }
        Client::connect(self.addr())
    }

    /// A new connection as user 0 with the root of the export.
    #[track_caller]
    pub fn mounted(&self) -> (Client, Fh) {
        let mut client = self.client();
        let root = match &self.peer {
            Some(peer) => peer.mount(&self.export()),
            None => client.mount(&self.export()),
        };
        (client, root)
    }

    /// PID.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    /// True while it runs.
    pub fn alive(&mut self) -> bool {
        if let Some(peer) = &mut self.peer {
            return peer.alive();
        }
        let child = self.child.as_mut();
        child.is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// Everything it has logged, over all starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// Its counters and gauges, as `ringnfs stats` prints them, of all its workers: one that is slow to answer is asked
    /// again.
    ///
    /// # Panics
    /// If it does not answer, or a worker does not.
    #[track_caller]
    pub fn stats(&self) -> BTreeMap<String, u64> {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.control("stats").expect("stats");
            let line = |line: &str| {
                let (name, value) = line.split_once(' ').expect("NAME VALUE");
                (name.to_owned(), value.parse().expect("a number"))
            };
            let all: BTreeMap<String, u64> = text.lines().map(line).collect();
            if all.get("workers.stuck") == Some(&0) {
                return all;
            }
            assert!(Instant::now() < end, "a worker is stuck: {all:?}");
        }
    }

    /// One of them; 0 for a counter that has not counted yet.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        self.stats().get(name).copied().unwrap_or(0)
    }

    /// Sends a verb to its control socket.
    ///
    /// # Errors
    /// What the server says against it.
    ///
    /// # Panics
    /// Of a peer.
    pub fn control(&self, verb: &str) -> Result<String, String> {
        assert!(self.peer.is_none(), "a peer has no control socket");
        let socket = self.dir().join("runtime").join("control.sock");
        nfsd::control::request(&socket, verb).map_err(|e| e.to_string())
    }

    fn gauges(&self) -> BTreeMap<String, u64> {
        let mut all = self.stats();
        all.retain(|name, _| GAUGES.contains(&name.as_str()));
        let of_process = format!("/proc/{}/fd", self.pid());
        let sockets = fs::read_dir(of_process).expect("its descriptors").flatten();
        let sockets = sockets.filter(|fd| {
            let link = fs::read_link(fd.path()).unwrap_or_default();
            link.to_string_lossy().starts_with("socket:")
        });
        all.insert("sockets".to_owned(), sockets.count() as u64);
        all
    }

    /// Waits until everything clients made it hold is given back. All connections must be closed.
    ///
    /// # Panics
    /// If something is not, in time.
    #[track_caller]
    pub fn wait_idle(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let now = self.gauges();
            // The task of a grace period ends by itself.
            let back = |(name, value): (&String, &u64)| match name.as_str() {
                "tasks" => *value <= self.baseline[name],
                _ => *value == self.baseline[name],
            };
            if now.iter().all(back) {
                return;
            }
            assert!(
                Instant::now() < end,
                "leaked: {now:?}\nat start: {:?}",
                self.baseline
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What NFSv4 clients hold, by gauge; only what there is any of.
    #[track_caller]
    pub fn state(&self) -> BTreeMap<String, u64> {
        let mut all = self.stats();
        let of_state = |name: &str| name.starts_with("nfs4.") || name.starts_with("locks.");
        all.retain(|name, value| *value > 0 && of_state(name));
        all
    }

    /// Has it drop all NFSv4 clients, after which nothing they held may be there. All connections must be closed.
    ///
    /// # Panics
    /// If something is, after a while.
    #[track_caller]
    pub fn forget_clients(&self) {
        let end = Instant::now() + PATIENCE;
        let before = self.state();
        loop {
            // A request that was under way may have made another one.
            self.control("expire").expect("expire");
            let now = self.state();
            if now.is_empty() {
                return;
            }
            assert!(
                Instant::now() < end,
                "left without clients: {now:?}\nbefore: {before:?}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts it (again) on the same export, state directory and port.
    ///
    /// # Panics
    /// If it does not serve in time.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "already running");
        let seen = self.log().len();
        self.child = Some(self.spawn());
        let end = Instant::now() + PATIENCE;
        let wanted = self.setup.listen.len();
        loop {
            self.keep_ports();
            let log = self.log();
            let addrs = served_addresses(&log[seen..]);
            // The port mapper has addresses besides.
            if addrs.len() >= wanted {
                self.addrs = addrs;
                self.kept.clear();
                break;
            }
            let dead = !self.alive();
            assert!(!dead && Instant::now() < end, "did not start:\n{log}");
            thread::sleep(Duration::from_millis(2));
        }
        // What starts along with it is there once two looks agree.
        let mut last = self.gauges();
        loop {
            thread::sleep(Duration::from_millis(5));
            let now = self.gauges();
            if now == last && now["connections"] == 0 {
                break;
            }
            last = now;
        }
        self.baseline = last;
    }

    /// Sockets that are bound but do not listen leave room for one that will, and for no other.
    fn keep_ports(&mut self) {
        if self.kept.is_empty() {
            // Not while the kernel has not yet closed those of a killed server.
            let kept: Result<_, _> = self.addrs.iter().map(bound).collect();
            self.kept = kept.unwrap_or_default();
        }
    }

    fn spawn(&self) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir().join("log"));
        let log = log.expect("its log");
        let binary = if self.setup.faulty {
            faulty_binary()
        } else {
            binary()
        };
        let mut command = match &self.setup.accounts {
            None => Command::new(binary),
            Some(dir) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "sh", "-c"]);
                command.arg(WITH_ACCOUNTS).arg(dir).arg(binary);
                command
            }
        };
        command.arg("serve").args(self.arguments());
        command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        if !self.setup.faults.is_empty() {
            command.env("RINGNFS_FAULTS", &self.setup.faults);
        }
        command
            .stdout(log.try_clone().expect("its log"))
            .stderr(log);
        command.spawn().expect("the server")
    }

    fn arguments(&self) -> Vec<String> {
        let setup = &self.setup;
        let dir = self.dir().display().to_string();
        let here = |text: &str| text.replace("@DIR@", &dir);
        let mut args: Vec<String> = Vec::new();
        for (i, listen) in setup.listen.iter().enumerate() {
            let known = self.addrs.get(i).map(SocketAddr::to_string);
            args.extend(["--listen".to_owned(), known.unwrap_or(listen.clone())]);
        }
        if setup.exports.is_some() || !setup.config.is_empty() {
            let one = format!("@DIR@/export *({})", setup.options);
            let exports = here(setup.exports.as_ref().unwrap_or(&one));
            let text = format!(
                "state_dir = \"{dir}/state\"\nruntime_dir = \"{dir}/runtime\"\nio_policy = \"{}\"\nexports = '''\n{exports}\n'''\n{}\n",
                setup.policy,
                here(&setup.config)
            );
            let file = self.dir().join("ringnfs.toml");
            fs::write(&file, text).expect("the configuration file");
            args.extend(["--config".to_owned(), file.display().to_string()]);
        } else {
            args.extend(["--options".to_owned(), setup.options.clone()]);
            args.extend(["--state-dir".to_owned(), format!("{dir}/state")]);
            args.extend(["--runtime-dir".to_owned(), format!("{dir}/runtime")]);
            args.extend(["--io-policy".to_owned(), setup.policy.clone()]);
            args.push(format!("{dir}/export"));
        }
        args.extend(setup.args.iter().map(|arg| here(arg)));
        args
    }

    /// Replaces what is exported in the configuration file and has the server read it.
    ///
    /// # Errors
    /// What the server says against it.
    pub fn reexport(&mut self, exports: &str) -> Result<String, String> {
        self.write_exports(exports);
        self.control("reload")
    }

    /// Replaces what is exported in the configuration file; the server is not told.
    pub fn write_exports(&mut self, exports: &str) {
        assert!(
            self.setup.exports.is_some(),
            "exports are not in a configuration file"
        );
        self.setup.exports = Some(exports.to_owned());
        // Written anew as a side effect.
        let _ = self.arguments();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a pid");
        kill_process(pid, signal).expect("a signal");
    }

    /// SIGKILL; start it again afterwards.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            self.keep_ports();
        }
    }

    /// Waits for its end after a signal.
    ///
    /// # Panics
    /// If it is still there after `limit`.
    #[track_caller]
    pub fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("a running server");
        let end = Instant::now() + limit;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                self.keep_ports();
                return status;
            }
            if Instant::now() > end {
                let _ = child.kill();
                panic!("still there {limit:?} after SIGTERM:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Checks that nothing is leaked, stops it with SIGTERM and checks that it ends well. All connections must be
    /// closed.
    #[track_caller]
    pub fn stop(&mut self) {
        self.wait_idle();
        self.signal(Signal::TERM);
        let status = self.wait_end(PATIENCE);
        let log = self.log();
        assert!(status.success(), "ended with {status}:\n{log}");
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Stops it and starts it again on the same export, state directory and port. All connections must be closed.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // A peer's log says little, unless it is dead.
        if self.peer.is_some() && self.alive() {
            return;
        }
        if thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(4000);
            let tail = (tail..log.len()).find(|&i| log.is_char_boundary(i));
            let tail = tail.map_or("", |i| &log[i..]);
            eprintln!("--- end of the server's log\n{tail}---");
        } else if self.child.is_some() {
            if self.alive() {
                self.forget_clients();
            }
            self.stop();
        }
        self.kill9();
    }
}

/// A socket with this address, which another may share as long as this one does not listen.
fn bound(addr: &SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if addr.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, addr)?;
    Ok(socket)
}

/// The addresses of the log lines that say where it serves.
fn served_addresses(log: &str) -> Vec<SocketAddr> {
    let said = log.lines().filter(|line| line.contains("serving"));
    let address = |line: &str| {
        let (_, rest) = line.split_once("address=")?;
        rest.split_whitespace().next()?.parse().ok()
    };
    said.filter_map(address).collect()
}

/// The server binary: `RINGNFS_BIN`, or `target/debug/ringnfs`, built on first use.
///
/// # Panics
/// If the build fails.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("RINGNFS_BIN") {
        Some(path) => fs::canonicalize(path).expect("RINGNFS_BIN"),
        None => build(&[], "ringnfs"),
    })
}

/// The server with fault injection: `RINGNFS_FAULTY_BIN`, or built on first use.
///
/// # Panics
/// If the build fails.
pub fn faulty_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("RINGNFS_FAULTY_BIN") {
        Some(path) => fs::canonicalize(path).expect("RINGNFS_FAULTY_BIN"),
        None => build(&["--features", "fault-injection"], "ringnfs-faulty"),
    })
}

/// Builds the server with these arguments and keeps it at `target/tmp/NAME`: cargo has one place for every kind.
fn build(features: &[&str], name: &str) -> PathBuf {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "-p",
        "nfsd",
        "--manifest-path",
        manifest,
    ]);
    let target = target_dir();
    command.args(features).arg("--target-dir").arg(&target);
    assert!(
        command.status().expect("cargo").success(),
        "the server does not build"
    );
    let binary = target.join("tmp").join(name);
    let draft = binary.with_extension(std::process::id().to_string());
    fs::create_dir_all(target.join("tmp"))
        .and_then(|()| fs::copy(target.join("debug/ringnfs"), &draft))
        .and_then(|_| fs::rename(&draft, &binary))
        .expect("the server's binary");
    binary.canonicalize().expect("the server's binary")
}
