//! nfs-ganesha in place of the server of [`crate::daemon`], in namespaces of its own, on the same directory: what the RFCs
//! leave no choice about must be the same there.

use std::fmt::Debug;
use std::fs::{self, File};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Fh};
use crate::need::{GANESHA, have};
use crate::netns::{HOST, Rig};
use crate::server::{Kind, ganesha};

const NFS_PORT: u16 = 2049;
const MOUNT_PORT: u16 = 20048;

/// How long it may take to start on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; it ends with its namespaces, when dropped.
pub struct Peer {
    child: Child,
    rig: Arc<Rig>,
}

impl Peer {
    /// Starts it on `export`, which clients find under the same path, with a log at `log`.
    ///
    /// # Panics
    /// If it is not installed or does not serve in time.
    #[track_caller]
    pub fn start(export: &Path, log: &Path) -> Peer {
        assert!(have("a protocol test against nfs-ganesha", &[GANESHA]));
        let rig = Rig::new();
        rig.sh("rpcbind -w");
        let path = export.display().to_string();
        // Nobody has anything to reclaim.
        let mut command = ganesha(&rig, &path, &path, "Graceless = true;");
        let out = File::create(log).expect("its log");
        command
            .stdout(out.try_clone().expect("its log"))
            .stderr(out);
        let mut child = command.spawn().expect("nsenter(1)");
        let end = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(log).unwrap_or_default();
            // It listens before it knows its exports.
            if said.contains("NFS SERVER INITIALIZED") {
                return Peer { child, rig };
            }
            let dead = !matches!(child.try_wait(), Ok(None));
            assert!(!dead && Instant::now() < end, "did not start:\n{said}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// True while it runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// A new connection as user 0.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.connect(NFS_PORT)
    }

    /// The root of an export, from MOUNT, which has another port here.
    #[track_caller]
    pub fn mount(&self, export: &Path) -> Fh {
        self.connect(MOUNT_PORT).mount(export)
    }

    #[track_caller]
    fn connect(&self, port: u16) -> Client {
        let addr = format!("{HOST}:{port}").parse().expect("an address");
        let stream = self.rig.connect(addr, PATIENCE);
        Client::over(stream.unwrap_or_else(|e| panic!("connecting to {addr}: {e}")))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The server itself goes with the namespaces.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers the RFCs leave no choice about. All of a test are collected, so that one does not hide the next.
#[derive(Default)]
pub struct Agreed {
    found: Vec<String>,
}

impl Agreed {
    /// None yet.
    pub fn new() -> Agreed {
        Agreed::default()
    }

    /// One answer, by a name of its own. Where a peer is known to be wrong it must be wrong still.
    pub fn same<T: PartialEq + Debug>(&mut self, what: &str, got: T, expected: T) {
        let known = match Kind::from_env() {
            Kind::Ganesha => GANESHA_DIFFERS.iter().find(|(name, _)| *name == what),
            _ => None,
        };
        match (got == expected, known) {
            (true, None) => {}
            (true, Some((_, why))) => {
                self.found
                    .push(format!("{what}: no longer differs ({why})"));
            }
            (false, None) => self
                .found
                .push(format!("{what}: {got:?}, not {expected:?}")),
            (false, Some((_, why))) => {
                println!("DIFFERS: {what}: {got:?}, not {expected:?}: {why}");
            }
        }
    }

    /// All of them.
    ///
    /// # Panics
    /// If one was another.
    #[track_caller]
    pub fn end(self) {
        assert!(self.found.is_empty(), "{:#?}", self.found);
    }
}

/// Where nfs-ganesha 4.3 does not do what the RFCs say: the answer and why it is wrong.
const GANESHA_DIFFERS: &[(&str, &str)] = &[
    (
        "CREATE UNCHECKED of a directory by version 3",
        "CREATE has no ISDIR (RFC 1813 3.3.8)",
    ),
    ("READLINK of a file", "INVAL was of 4.0 (RFC 8881 18.24.4)"),
    ("READ of a link", "INVAL was of 4.0 (RFC 8881 18.22.3)"),
    ("READ of a FIFO", "INVAL was of 4.0 (RFC 8881 18.22.3)"),
    ("WRITE of a link", "INVAL was of 4.0 (RFC 8881 18.32.3)"),
    ("WRITE of a FIFO", "INVAL was of 4.0 (RFC 8881 18.32.3)"),
    ("OPEN of a FIFO", "SYMLINK was of 4.0 (RFC 8881 18.16.3)"),
    ("CREATE in a link", "CREATE has no SYMLINK (RFC 8881 15.2)"),
    (
        "RENAME of a file to a directory",
        "RENAME has no ISDIR (RFC 8881 18.26.3)",
    ),
    (
        "RENAME of a directory to a file",
        "they are not compatible (RFC 8881 18.26.3)",
    ),
    (
        "WRITE before OPEN_CONFIRM",
        "nothing is open yet (RFC 7530 16.18.5)",
    ),
    (
        "another client's stateid",
        "a stateid is of one client (RFC 8881 8.2.4)",
    ),
    (
        "the length of a lock to the end",
        "all ones is to the end (RFC 8881 18.10.3)",
    ),
    (
        "WRITE after OPEN_DOWNGRADE",
        "it may only be read (RFC 8881 18.32.3)",
    ),
    ("CLOSE again", "the stateid is gone (RFC 8881 18.2.4)"),
    (
        "RECLAIM_COMPLETE of one file system without a filehandle",
        "there must be one (RFC 8881 18.51.3)",
    ),
    (
        "RESTOREFH without a saved filehandle",
        "RESTOREFH was of 4.0 (RFC 8881 18.27.3)",
    ),
];
