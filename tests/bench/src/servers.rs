//! The servers that are compared: how each is started on a directory, found, and stopped.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::acls::Files;
use crate::rows::{FILE_SIZE, FILES, Kind, LISTED, Op4};
use crate::session::{Handle, Session};
use crate::work::{STAMP, Targets, WRITTEN, file_name};

/// Directories for CREATE: one for each connection of the widest row.
const OWN_DIRS: usize = 8;
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Where things are on this machine.
#[derive(Clone, Debug)]
pub struct Places {
    /// Exported directory, on the file system to measure.
    pub export: PathBuf,
    /// Configurations, state and logs.
    pub work: PathBuf,
    /// Folder of the peers' binaries.
    pub peers: PathBuf,
    /// The ringnfs binary.
    pub ringnfs: PathBuf,
}

/// One kind of server.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Short name, for `--servers` and the table.
    pub id: &'static str,
    /// What it is.
    pub about: &'static str,
    port: u16,
    mount_port: u16,
    command: fn(&Places) -> io::Result<Command>,
    /// What it calls the exported directory; `None` for that directory's own path.
    export: Option<&'static str>,
    /// The same below the NFSv4 pseudo root; `Some("")` for that directory's own path, `None` without version 4.
    export4: Option<&'static str>,
    /// Where the directory is below what is mounted.
    below: Option<&'static str>,
    real: bool,
    /// One of those of `--acls`: how the files are to be.
    pub files: Option<Files>,
}

/// What nfs_mirror calls the directory, below a root of its own.
const NFS_MIRROR_TARGET: &str = "mirror";
const GANESHA_PORT: u16 = 2049;
const GANESHA_MOUNT_PORT: u16 = 20_048;

/// Every server, in the order they run. The floor and the reference come first.
pub const SERVERS: &[Server] = &[
    Server::new(
        "echo",
        "floor: one thread that answers with bytes of the same lengths",
        20_490,
        echo,
        None,
        false,
    ),
    Server {
        mount_port: GANESHA_MOUNT_PORT,
        export4: Some("/export"),
        ..Server::new(
            "ganesha",
            "nfs-ganesha, FSAL VFS (Debian)",
            GANESHA_PORT,
            ganesha,
            None,
            true,
        )
    },
    Server {
        export4: Some(""),
        ..Server::new(
            "ring",
            "ringnfs, io_policy = ring",
            20_491,
            ring,
            None,
            true,
        )
    },
    Server {
        export4: Some(""),
        ..Server::new(
            "adaptive",
            "ringnfs, io_policy = adaptive",
            20_492,
            adaptive,
            None,
            true,
        )
    },
    Server {
        export4: Some(""),
        ..Server::new(
            "async",
            "ringnfs, io_policy = adaptive, the export async: names are not on stable storage before the reply, as with ganesha",
            20_495,
            asynchronous,
            None,
            true,
        )
    },
    Server::new(
        "nfs3_server",
        "mirror of cargo-nfs3-server on nfs3_server (crates.io); it answers FILE_SYNC without a sync",
        20_493,
        nfs3_server,
        Some("/"),
        true,
    ),
    Server {
        below: Some(NFS_MIRROR_TARGET),
        ..Server::new(
            "nfs_mirror",
            "nfs_mirror on zerofs_nfsserve, a fork of nfsserve (crates.io)",
            20_494,
            nfs_mirror,
            Some("/"),
            true,
        )
    },
    Server::with_files(
        "owner",
        "--acls: ringnfs, the files are the caller's own: no look at ACLs",
        Files::Owned,
    ),
    Server::with_files(
        "acl-0",
        "--acls: the files are another's, without ACLs",
        Files::Plain,
    ),
    Server::with_files(
        "acl-32",
        "--acls: the same with 32 entries on each",
        Files::Entries32,
    ),
];

fn program(path: PathBuf) -> io::Result<Command> {
    if path.is_file() {
        return Ok(Command::new(path));
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("{} is not there", path.display()),
    ))
}

fn echo(_: &Places) -> io::Result<Command> {
    let mut command = program(std::env::current_exe()?.with_file_name("echo"))?;
    command.arg("20490");
    Ok(command)
}

fn ganesha(places: &Places) -> io::Result<Command> {
    let config = places.work.join("ganesha.conf");
    let export = places.export.display();
    fs::write(
        &config,
        format!(
            "NFS_CORE_PARAM {{ NFS_Port = {GANESHA_PORT}; MNT_Port = {GANESHA_MOUNT_PORT}; Protocols = 3, 4;\n\
             \x20 Enable_RQUOTA = false; Enable_NLM = false; fsid_device = true; }}\n\
             NFSv4 {{ Graceless = true; Lease_Lifetime = 20; RecoveryBackend = fs; Delegations = false; }}\n\
             MDCACHE {{ Entries_HWMark = 100000; }}\n\
             EXPORT {{ Export_Id = 1; Path = {export}; Pseudo = /export; Access_Type = RW; Squash = No_Root_Squash;\n\
             \x20 SecType = sys; Protocols = 3, 4; Transports = TCP; FSAL {{ Name = VFS; }} }}\n\
             LOG {{ Default_Log_Level = EVENT; }}\n"
        ),
    )?;
    fs::create_dir_all("/var/lib/nfs/ganesha")?;
    let mut command = program(PathBuf::from("/usr/bin/ganesha.nfsd"))?;
    command
        .arg("-F")
        .arg("-f")
        .arg(config)
        .args(["-L", "STDOUT", "-N", "NIV_EVENT"]);
    command.arg("-p").arg(places.work.join("ganesha.pid"));
    Ok(command)
}

fn ringnfs(places: &Places, policy: &str, stable: &str, port: u16) -> io::Result<Command> {
    let state = places.work.join(format!("ringnfs-{policy}-{stable}"));
    // Of its own for every start: with clients to reclaim, a start has a grace period.
    if state.exists() {
        fs::remove_dir_all(&state)?;
    }
    fs::create_dir_all(&state)?;
    let mut command = program(places.ringnfs.clone())?;
    command
        .arg("serve")
        .arg(&places.export)
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"));
    command.args([
        "--options",
        &format!("rw,no_root_squash,insecure,{stable}"),
        "--io-policy",
        policy,
    ]);
    command
        .arg("--state-dir")
        .arg(&state)
        .arg("--runtime-dir")
        .arg(&state);
    Ok(command)
}

fn ring(places: &Places) -> io::Result<Command> {
    ringnfs(places, "ring", "sync", 20_491)
}

fn adaptive(places: &Places) -> io::Result<Command> {
    ringnfs(places, "adaptive", "sync", 20_492)
}

fn asynchronous(places: &Places) -> io::Result<Command> {
    ringnfs(places, "adaptive", "async", 20_495)
}

fn nfs3_server(places: &Places) -> io::Result<Command> {
    let mut command = program(places.peers.join("cargo-nfs3-server"))?;
    command
        .arg("--path")
        .arg(&places.export)
        .args(["-i", "127.0.0.1", "-p", "20493", "--quiet"]);
    Ok(command)
}

fn nfs_mirror(places: &Places) -> io::Result<Command> {
    let mut command = program(places.peers.join("nfs_mirror"))?;
    command.arg(&places.export).args([
        "--target",
        "/mirror",
        "-i",
        "127.0.0.1",
        "-p",
        "20494",
        "-l",
        "error",
    ]);
    Ok(command)
}

/// A server that answers.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Where it answers NFS.
    pub addr: SocketAddr,
    /// What the rows work on.
    pub targets: Targets,
}

impl Server {
    const fn new(
        id: &'static str,
        about: &'static str,
        port: u16,
        command: fn(&Places) -> io::Result<Command>,
        export: Option<&'static str>,
        real: bool,
    ) -> Server {
        Server {
            id,
            about,
            port,
            mount_port: port,
            command,
            export,
            export4: None,
            below: None,
            real,
            files: None,
        }
    }

    const fn with_files(id: &'static str, about: &'static str, files: Files) -> Server {
        let mut server = Server::new(id, about, 20_492, adaptive, None, true);
        server.export4 = Some("");
        server.files = Some(files);
        server
    }

    /// Starts it, waits until it answers and looks up what the rows need.
    pub fn start(&self, places: &Places) -> io::Result<Running> {
        let log = places.work.join(format!("{}.log", self.id));
        let file = File::create(&log)?;
        let mut command = (self.command)(places)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = command.spawn()?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut running = Running {
            child,
            addr,
            targets: Targets::default(),
        };
        match running
            .wait_ready()
            .and_then(|()| self.targets(addr, places))
        {
            Ok(targets) => {
                running.targets = targets;
                Ok(running)
            }
            Err(e) => {
                running.stop();
                let said = fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<_> = said.lines().rev().take(5).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n    ");
                Err(io::Error::new(
                    e.kind(),
                    format!("{e}; its log ends:\n    {tail}"),
                ))
            }
        }
    }

    fn targets(&self, addr: SocketAddr, places: &Places) -> io::Result<Targets> {
        if !self.real {
            return Ok(made_up());
        }
        let path = self
            .export
            .map_or_else(|| places.export.display().to_string(), str::to_string);
        let mut root = Session::connect((addr.ip(), self.mount_port).into())?.mount(&path)?;
        let mut session = Session::connect(addr)?;
        if let Some(name) = self.below {
            root = session.lookup(&root, name)?;
        }
        let mut targets = look_up(&mut session, &root)?;
        targets.root4 = self.export4.map(|path| {
            let own = places.export.display().to_string();
            let path = if path.is_empty() {
                own
            } else {
                path.to_string()
            };
            path.split('/')
                .filter(|name| !name.is_empty())
                .map(str::to_string)
                .collect()
        });
        Ok(targets)
    }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_ready(&mut self) -> io::Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("ended at once with {status}")));
            }
            match Session::connect(self.addr).and_then(|mut session| session.null()) {
                Ok(()) => return Ok(()),
                Err(e) if start.elapsed() > START_LIMIT => return Err(e),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// SIGTERM, then SIGKILL for one that does not go.
    pub fn stop(mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let start = Instant::now();
        while start.elapsed() < STOP_LIMIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Handles for the floor, which never looks at them; of a usual length.
fn made_up() -> Targets {
    let handle: Handle = vec![7; 32];
    Targets {
        read: vec![handle.clone(); FILES],
        write: vec![handle.clone(); FILES],
        read_dir: handle.clone(),
        listed: handle.clone(),
        own_dirs: vec![handle.clone(); OWN_DIRS],
        shared_dir: handle,
        root4: None,
        real: false,
    }
}

fn look_up(session: &mut Session, root: &Handle) -> io::Result<Targets> {
    let mut targets = Targets {
        real: true,
        ..Targets::default()
    };
    targets.read_dir = session.lookup(root, "read")?;
    targets.listed = session.lookup(root, "listed")?;
    targets.shared_dir = session.lookup(root, "shared")?;
    let write_dir = session.lookup(root, "write")?;
    for i in 0..FILES {
        targets
            .read
            .push(session.lookup(&targets.read_dir, &file_name(i))?);
        targets
            .write
            .push(session.lookup(&write_dir, &file_name(i))?);
    }
    for i in 0..OWN_DIRS {
        targets
            .own_dirs
            .push(session.lookup(root, &format!("own-{i}"))?);
    }
    // One whole file, every byte: a server that answers with the wrong data is not worth timing.
    let data = session.read(&targets.read[FILES - 1], 0, FILE_SIZE as u32)?;
    if data != contents(FILES - 1) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "READ: not the data in the file",
        ));
    }
    Ok(targets)
}

/// What is in the `i`th file to read: stamped blocks.
fn contents(i: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(FILE_SIZE as usize);
    for offset in (0..FILE_SIZE).step_by(STAMP as usize) {
        data.extend_from_slice(&(i as u64).to_be_bytes());
        data.extend_from_slice(&offset.to_be_bytes());
        data.resize(
            (offset + STAMP) as usize,
            (i as u64 * 31 + offset / STAMP) as u8,
        );
    }
    data
}

/// Lays out the exported tree afresh, in the page cache and on disk.
pub fn lay_out(export: &Path) -> io::Result<()> {
    for dir in ["read", "write", "listed", "shared"]
        .map(str::to_string)
        .into_iter()
        .chain((0..OWN_DIRS).map(|i| format!("own-{i}")))
    {
        let dir = export.join(dir);
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::create_dir_all(&dir)?,
        }
    }
    for i in 0..FILES {
        fs::write(export.join("read").join(file_name(i)), contents(i))?;
        fs::write(
            export.join("write").join(file_name(i)),
            vec![0; FILE_SIZE as usize],
        )?;
    }
    for i in 0..LISTED {
        fs::write(export.join("listed").join(file_name(i)), [])?;
    }
    settle(export)
}

/// Writes back what earlier rows left dirty, so that it is not paid in the next.
pub fn settle(export: &Path) -> io::Result<()> {
    rustix::fs::syncfs(File::open(export)?)?;
    Ok(())
}

/// Looks behind the server's back whether the calls of `kind` did what their replies said: files that were created and
/// removed are gone, written data is in a file.
pub fn verify(export: &Path, kind: Kind) -> io::Result<()> {
    match kind {
        Kind::CreateRemove { .. } | Kind::V4(_, Op4::CreateRemove) => {
            let dirs = (0..OWN_DIRS).map(|i| format!("own-{i}"));
            for dir in dirs.chain(["shared".to_string()]) {
                let left = fs::read_dir(export.join(&dir))?.count();
                if left > 0 {
                    return Err(io::Error::other(format!(
                        "{left} files left in {dir} after REMOVE"
                    )));
                }
            }
            Ok(())
        }
        Kind::Write(_) | Kind::V4(_, Op4::Write(_)) => {
            for i in 0..FILES {
                let data = fs::read(export.join("write").join(file_name(i)))?;
                if data.len() as u64 != FILE_SIZE {
                    return Err(io::Error::other(format!(
                        "a written file has {} bytes",
                        data.len()
                    )));
                }
                if data.contains(&WRITTEN) {
                    return Ok(());
                }
            }
            Err(io::Error::other("no file has the data that was written"))
        }
        _ => Ok(()),
    }
}
