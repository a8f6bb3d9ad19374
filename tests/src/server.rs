//! The server under test, or a peer in its place, inside a [`Rig`]: start, kill -9, start again, logs.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use nfsd::control::{self, SOCKET_NAME};

use crate::image::{self, Fs, Image};
use crate::need::{self, GANESHA, KNFSD, Need};
use crate::netns::{HOST, HOST6, Rig, first_child, kill, tail, target_dir};
use crate::uml::{Boot, Guest};
use crate::version::Version;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This project's.
    Ringnfs,
    /// nfs-ganesha with FSAL_VFS (Debian's package).
    Ganesha,
    /// The Linux kernel's, in a guest of its own.
    Knfsd,
}

impl Kind {
    /// The one named by `RINGNFS_SERVER` (`ringnfs`, `ganesha`, `knfsd`), so that every kernel-client test can also be
    /// run against a peer; ringnfs by default.
    ///
    /// # Panics
    /// On any other value.
    pub fn from_env() -> Kind {
        match std::env::var("RINGNFS_SERVER").as_deref() {
            Err(_) | Ok("ringnfs") => Kind::Ringnfs,
            Ok("ganesha") => Kind::Ganesha,
            Ok("knfsd") => Kind::Knfsd,
            Ok(other) => panic!("RINGNFS_SERVER={other}: not one of ringnfs, ganesha, knfsd"),
        }
    }

    /// What it needs from the machine besides what every guest test needs.
    pub fn needs(self) -> &'static [Need] {
        match self {
            Kind::Ringnfs => &[],
            Kind::Ganesha => GANESHA,
            Kind::Knfsd => KNFSD,
        }
    }
}

/// What to serve and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which server.
    pub kind: Kind,
    /// File system of the export.
    pub fs: Fs,
    /// Size of its (sparse) image in MiB.
    pub mib: u64,
    /// exports(5) options (not for ganesha, whose configuration says rw,no_root_squash).
    pub options: String,
    /// Extra arguments after `ringnfs serve`.
    pub args: Vec<String>,
    /// exports(5) text in place of one export of the file system with `options`, where `@DIR@` is where that is mounted
    /// (ringnfs only).
    pub exports: Option<String>,
    /// A shell script (`set -e`) run there before the first start; `$RIG` is the rig's directory (not for knfsd).
    pub prepare: String,
}

impl Default for Config {
    fn default() -> Self {
        let options = "rw,no_root_squash,insecure".to_owned();
        Config {
            kind: Kind::from_env(),
            fs: Fs::Ext4,
            mib: 4096,
            options,
            args: Vec::new(),
            exports: None,
            prepare: String::new(),
        }
    }
}

/// A running server with one export on a fresh file system. Killed on drop.
pub struct Server {
    process: Option<Running>,
    image: Option<Image>,
    config: Config,
    starts: u32,
    /// Where clients find it.
    pub target: Target,
    rig: Arc<Rig>,
    disk: PathBuf,
}

/// Where clients find a server.
#[derive(Clone, Debug)]
pub struct Target {
    /// IPv4 address.
    pub host: String,
    /// IPv6 address, if it listens there.
    pub host6: Option<String>,
    /// Path of the export in a v3 mount.
    pub export: String,
    /// Path of the export below the pseudo root, in a v4 mount.
    pub export4: String,
    /// TCP port of NFS.
    pub port: u16,
    /// TCP port of MOUNT.
    pub mountport: u16,
}

enum Running {
    /// nsenter(1), whose only child is the server, and the server's pid.
    Process(Child, i32),
    Guest(Box<Guest>),
}

const PORT: u16 = 2049;
const KNFSD_ADDR: u8 = 9;

impl Server {
    /// Makes the file system, starts the server on it and waits until it accepts connections.
    ///
    /// # Panics
    /// If it does not within 30 s (60 s for knfsd, which boots a guest); the message has the end of its log.
    pub fn start(rig: &Arc<Rig>, config: &Config) -> Server {
        let (image, disk) = match config.kind {
            Kind::Knfsd => (None, image::format(rig, "export", config.fs, config.mib)),
            _ => {
                let image = Image::new(rig, "export", config.fs, config.mib);
                let file = image.file().to_owned();
                (Some(image), file)
            }
        };
        let export = rig.dir().join("export").display().to_string();
        let target = match config.kind {
            Kind::Ringnfs => Target {
                host: HOST.into(),
                host6: Some(HOST6.into()),
                export4: export.clone(),
                export,
                port: PORT,
                mountport: PORT,
            },
            Kind::Ganesha => Target {
                host: HOST.into(),
                host6: None,
                export: "/export".into(),
                export4: "/export".into(),
                port: PORT,
                mountport: 20048,
            },
            Kind::Knfsd => Target {
                host: format!("10.99.0.{KNFSD_ADDR}"),
                host6: Some(format!("fd99::{KNFSD_ADDR:x}")),
                export: "/mnt/export".into(),
                // The root of its guest is hostfs, which cannot be exported, so the export itself is the pseudo root.
                export4: "/".into(),
                port: PORT,
                mountport: 20048,
            },
        };
        if config.kind == Kind::Ganesha {
            rig.sh("rpcbind -w; rpc.statd --no-notify");
        }
        if let Some(image) = &image {
            let (dir, own) = (image.dir().display(), rig.dir().display());
            rig.sh(&format!("set -e; RIG={own}; cd {dir}\n{}", config.prepare));
        }
        let mut server = Server {
            process: None,
            image,
            config: config.clone(),
            starts: 0,
            target,
            rig: rig.clone(),
            disk,
        };
        server.start_again();
        server
    }

    /// SIGKILL, then wait until the kernel has taken everything back. For knfsd this is power loss.
    pub fn kill9(&mut self) {
        match self.process.take() {
            Some(Running::Process(mut child, pid)) => {
                let _ = kill(pid);
                reap(&mut child, Duration::from_secs(60), "after SIGKILL");
            }
            Some(Running::Guest(guest)) => drop(guest),
            None => {}
        }
    }

    /// Power loss: SIGKILL, and the file system loses what it had not yet made durable. Start it again afterwards.
    pub fn cut_power(&mut self) {
        self.kill9();
        if let Some(image) = &mut self.image {
            image.cut_power();
        }
    }

    /// SIGTERM and wait for a clean end, at most `limit`; returns the exit code (None: by a signal).
    ///
    /// # Panics
    /// If it does not end in time, or is not running as a process of ours.
    pub fn terminate(&mut self, limit: Duration) -> Option<i32> {
        let Some(Running::Process(mut child, pid)) = self.process.take() else {
            panic!("server: not a process")
        };
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        reap(&mut child, limit, "after SIGTERM")
    }

    /// Starts it (again) on the same export and state directory and waits for its port.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "server: already running");
        self.starts += 1;
        let limit = match self.config.kind {
            Kind::Knfsd => {
                self.process = Some(Running::Guest(Box::new(boot_knfsd(
                    &self.rig,
                    &self.disk,
                    &self.config,
                ))));
                60
            }
            kind => {
                let mut command = match kind {
                    Kind::Ringnfs => self.ringnfs_command(),
                    _ => {
                        let export = self.rig.dir().join("export").display().to_string();
                        ganesha(&self.rig, &export, "/export", "Grace_Period = 5;")
                    }
                };
                let log = File::options()
                    .create(true)
                    .append(true)
                    .open(self.log_path())
                    .expect("server: log");
                command
                    .stdout(log.try_clone().expect("server: log"))
                    .stderr(log);
                let child = command.spawn().expect("server: nsenter(1)");
                let Some(pid) = first_child(child.id() as i32) else {
                    panic!("server: died:\n{}", self.log(4000))
                };
                self.process = Some(Running::Process(child, pid));
                30
            }
        };
        self.wait_ready(Duration::from_secs(limit));
    }

    /// PID of the server process as seen from outside, if it is a process of ours.
    pub fn pid(&self) -> Option<i32> {
        match self.process {
            Some(Running::Process(_, pid)) => Some(pid),
            _ => None,
        }
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// True while it runs.
    pub fn alive(&mut self) -> bool {
        match &mut self.process {
            Some(Running::Process(child, _)) => matches!(child.try_wait(), Ok(None)),
            Some(Running::Guest(_)) => true,
            None => false,
        }
    }

    /// The exported directory as the test process can use it; None for knfsd, whose file system is its guest's own.
    pub fn export_outside(&self) -> Option<PathBuf> {
        self.image.as_ref().map(Image::outside)
    }

    /// Runs a shell script (`set -e`) in the exported directory itself, behind the server's back.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn on_export(&self, script: &str) -> String {
        match &self.process {
            Some(Running::Guest(guest)) => guest.ok(300, &format!("cd /mnt/export\n{script}")),
            _ => self.rig.sh(&format!(
                "set -e; cd {}\n{script}",
                self.rig.dir().join("export").display()
            )),
        }
    }

    /// The last `max` bytes of its log, over all starts.
    pub fn log(&self, max: usize) -> String {
        match &self.process {
            Some(Running::Guest(g)) => g.console(max),
            _ => tail(&self.log_path(), max),
        }
    }

    /// What it answers to a verb on its control socket, `stats` and `locks` among them (ringnfs only).
    ///
    /// # Panics
    /// If it does not answer.
    #[track_caller]
    pub fn control(&self, verb: &str) -> String {
        let socket = self.rig.dir().join("runtime").join(SOCKET_NAME);
        control::request(&socket, verb).unwrap_or_else(|e| panic!("server: {verb}: {e}"))
    }

    /// One of the numbers of `ringnfs stats`; 0 for a counter that has not counted yet (ringnfs only).
    ///
    /// # Panics
    /// If it does not answer, or not with numbers.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        let text = self.control("stats");
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(known, _)| *known == name);
        found.map_or(0, |(_, value)| value.parse().expect("a number"))
    }

    fn log_path(&self) -> PathBuf {
        self.rig.dir().join("server.log")
    }

    fn wait_ready(&mut self, limit: Duration) {
        let addr: SocketAddr = format!("{}:{}", self.target.host, self.target.port)
            .parse()
            .expect("an address");
        let end = Instant::now() + limit;
        while let Err(e) = self.rig.wait_port(addr, Duration::from_millis(200)) {
            let dead = !self.alive();
            if dead || Instant::now() > end {
                panic!(
                    "server: {}, port {addr}: {e}\n{}",
                    if dead { "died" } else { "silent" },
                    self.log(4000)
                );
            }
        }
        // Ganesha listens before it knows its exports.
        let ready =
            |log: &str| log.matches("NFS SERVER INITIALIZED").count() >= self.starts as usize;
        while self.config.kind == Kind::Ganesha && !ready(&self.log(usize::MAX)) {
            assert!(
                Instant::now() < end,
                "server: ganesha is not ready:\n{}",
                self.log(4000)
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ringnfs_command(&self) -> Command {
        let state = self.rig.dir().join("state");
        let runtime = self.rig.dir().join("runtime");
        fs::create_dir_all(&state)
            .and_then(|()| fs::create_dir_all(&runtime))
            .expect("server: directories");
        let mut c = self.rig.command(ringnfs());
        c.arg("serve");
        match &self.config.exports {
            Some(exports) => {
                let file = self.rig.dir().join("ringnfs.toml");
                let exports = exports.replace("@DIR@", &self.target.export);
                fs::write(&file, format!("exports = '''\n{exports}\n'''\n"))
                    .expect("server: configuration");
                c.arg("--config").arg(file);
            }
            None => {
                c.arg(&self.target.export);
                c.args(["--options", &self.config.options]);
            }
        }
        c.args([
            "--listen",
            &format!("{HOST}:{PORT}"),
            "--listen",
            &format!("[{HOST6}]:{PORT}"),
        ]);
        // Dead clients and restarts must not take a test minutes.
        c.args(["--lease-time", "15s", "--grace-time", "15s"]);
        c.arg("--state-dir")
            .arg(state)
            .arg("--runtime-dir")
            .arg(runtime);
        c.args(&self.config.args).env("RUST_BACKTRACE", "1");
        c
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- end of the server's log\n{}---", self.log(3000));
        }
        self.kill9();
    }
}

impl Target {
    /// The command that mounts it with `version` at `dir` in a guest, with extra comma-separated options (may be
    /// empty). On v3 NLM is not asked for (`nolock`), neither is a portmapper.
    pub fn mount(&self, version: Version, dir: &str, options: &str) -> String {
        let ipv6 = options.split(',').any(|o| o == "proto=tcp6");
        let (host, ipv6) = match &self.host6 {
            Some(v6) if ipv6 => (format!("[{v6}]"), true),
            _ => (self.host.clone(), false),
        };
        let (port, mountport) = (self.port, self.mountport);
        let mut all = format!("vers={version},port={port},hard,timeo=50");
        if !ipv6 {
            all += ",proto=tcp";
        }
        let export = if version.is_v4() {
            &self.export4
        } else {
            let mountproto = if ipv6 { "tcp6" } else { "tcp" };
            all += &format!(",mountproto={mountproto},mountport={mountport},nolock");
            &self.export
        };
        if !options.is_empty() {
            all = format!("{all},{options}");
        }
        format!("mkdir -p {dir} && mount -t nfs -o {all} {host}:{export} {dir}")
    }
}

/// The server binary: `RINGNFS_BIN`, or `target/release/ringnfs`, built on first use.
///
/// # Panics
/// If the build fails or there is no such file.
pub fn ringnfs() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("RINGNFS_BIN") {
            return fs::canonicalize(&path)
                .unwrap_or_else(|e| panic!("RINGNFS_BIN={}: {e}", path.display()));
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let built = Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--release",
                "-p",
                "nfsd",
                "--manifest-path",
                manifest,
            ])
            .status()
            .expect("cargo");
        assert!(built.success(), "the server does not build");
        target_dir()
            .join("release/ringnfs")
            .canonicalize()
            .expect("target/release/ringnfs")
    })
}

/// nfs-ganesha in a rig, in the foreground, to export a directory as `pseudo`; `grace` is a line of its configuration.
pub(crate) fn ganesha(rig: &Rig, export: &str, pseudo: &str, grace: &str) -> Command {
    let conf = rig.dir().join("ganesha.conf");
    let text = GANESHA_CONF
        .replace("@EXPORT@", export)
        .replace("@PSEUDO@", pseudo)
        .replace("@GRACE@", grace);
    fs::write(&conf, text).expect("server: ganesha.conf");
    let mut c = rig.command("ganesha.nfsd");
    c.arg("-F").arg("-f").arg(conf);
    c.args(["-L", "STDOUT", "-p", "/run/ganesha.pid", "-N", "NIV_EVENT"]);
    c
}

/// Says what is missing and returns false, or makes sure that a server of this kind can run.
pub fn have(test: &str, kind: Kind) -> bool {
    need::have(test, &[need::GUEST, kind.needs()])
}

fn reap(child: &mut Child, limit: Duration, when: &str) -> Option<i32> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code(),
            Err(e) if e.kind() != ErrorKind::Interrupted => panic!("server: {e}"),
            _ if Instant::now() > end => panic!("server: still there {limit:?} {when}"),
            _ => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn boot_knfsd(rig: &Arc<Rig>, disk: &Path, config: &Config) -> Guest {
    let guest = Guest::boot(
        rig,
        &Boot {
            mem: 1024,
            addr: KNFSD_ADDR,
            disks: vec![disk.to_owned()],
        },
    );
    guest.ok(
        60,
        &KNFSD_START
            .replace("@FS@", config.fs.name())
            .replace("@OPTIONS@", &config.options),
    );
    guest
}

const KNFSD_START: &str = r#"
set -e
mkdir -p /mnt/export
modprobe @FS@ || true
mount -t @FS@ -o noatime /dev/ubda /mnt/export
rmdir /mnt/export/lost+found 2>/dev/null || true
chmod 1777 /mnt/export
echo '/mnt/export *(@OPTIONS@,no_subtree_check,fsid=0,sync)' >/tmp/exports
mount --bind /tmp/exports /etc/exports
# Debian's file sets manage-gids, which ignores the client's groups.
: >/tmp/nfs.conf; [ ! -e /etc/nfs.conf ] || mount --bind /tmp/nfs.conf /etc/nfs.conf
modprobe nfsd; mount -t nfsd nfsd /proc/fs/nfsd; mount -t rpc_pipefs sunrpc /var/lib/nfs/rpc_pipefs
rpcbind -w; rpc.statd --no-notify
echo 10 >/proc/fs/nfsd/nfsv4leasetime; echo 10 >/proc/fs/nfsd/nfsv4gracetime
# While lockd has its own grace period, 50 s otherwise, no version gets a lock.
modprobe lockd; printf 1 >/sys/module/lockd/parameters/nlm_grace_period
exportfs -ra
rpc.mountd -p 20048
rpc.nfsd 4
# Its guest's root forgets everything with its power, so nobody could reclaim anything.
echo Y >/proc/fs/nfsd/v4_end_grace
"#;

const GANESHA_CONF: &str = r#"
NFS_CORE_PARAM {
    NFS_Port = 2049; MNT_Port = 20048; NLM_Port = 32803;
    Protocols = 3, 4; Bind_addr = 10.99.0.1; Enable_RQUOTA = false;
    mount_path_pseudo = true; fsid_device = true;
}
NFSv4 {
    Minor_Versions = 0, 1, 2; @GRACE@ Lease_Lifetime = 20;
    Only_Numeric_Owners = true; Delegations = false; RecoveryBackend = fs;
}
MDCACHE { Entries_HWMark = 100000; }
EXPORT_DEFAULTS { Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 3, 4; Transports = TCP; }
EXPORT { Export_Id = 1; Path = @EXPORT@; Pseudo = @PSEUDO@; FSAL { Name = VFS; } }
LOG { Default_Log_Level = EVENT; }
"#;
