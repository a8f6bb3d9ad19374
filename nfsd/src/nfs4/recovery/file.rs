//! The database file: made, locked, checked and opened.

use redb::{Builder, Database, StorageBackend, TableDefinition};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the tables.
const SCHEMA: u64 = 1;
/// Memory for pages; the whole database is a few MiB at most.
const CACHE_BYTES: usize = 8 << 20;

/// Single numbers by name, see the constants below.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// `ClientKey` to `ClientRecord`, see record.rs for their bytes.
pub(super) const CLIENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("nfs4_clients");

/// Monitored hosts of NLM: address and name to the epoch they last locked in.
pub(super) const HOSTS: TableDefinition<'_, &[u8], u32> = TableDefinition::new("nlm_hosts");

const META_SCHEMA: &str = "schema";
/// The boot epoch of the last start.
pub(super) const META_EPOCH: &str = "epoch";
/// State of this server in NSM, odd while it runs.
pub(super) const META_NSM: &str = "nsm_state";
/// 1 when the last stop was orderly.
pub(super) const META_CLEAN: &str = "clean";
/// Lease time of the last start, in milliseconds.
pub(super) const META_LEASE: &str = "lease_ms";

/// Why the server cannot start with this recovery database.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else has it.
    #[error(
        "recovery database {}: in use by another process; stop that server, or give this one a state_dir or recovery_db of its own",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is not what this server wrote.
    #[error(
        "recovery database {}: damaged ({reason}); move the file away and start again: clients then cannot reclaim the opens and locks they held",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by a later version of this server.
    #[error(
        "recovery database {}: of schema {found}, this server knows up to {SCHEMA}; start the newer version of the server, or move the file away: clients then cannot reclaim the opens and locks they held",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
    /// The operating system said no.
    #[error("recovery database {}: {doing}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        doing: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl StartError {
    pub(super) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> StartError {
        let path = path.to_owned();
        move |error| StartError::Io { path, doing, error }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> StartError {
        StartError::Damaged {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// Sorts an error of the database: what the disk says, or what the bytes say.
    pub(super) fn redb(path: &Path, doing: &'static str, error: redb::Error) -> StartError {
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                StartError::InUse {
                    path: path.to_owned(),
                }
            }
            redb::Error::Io(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                StartError::io(path, doing)(error)
            }
            error => StartError::damaged(path, error.to_string()),
        }
    }
}

/// A file locked against other processes.
#[derive(Debug)]
pub(super) struct Locked(pub(super) File);

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing it is not enough: a child of this process that has not called execve(2) yet has it, too.
        let _ = self.0.unlock();
    }
}

/// The open file. Its lock is held as long as this lives, also while the database on it is closed after an error.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub(super) file: Arc<Locked>,
    #[cfg(test)]
    pub(super) faults: Arc<super::tests::Faults>,
}

impl Backend {
    /// Locks the file against other processes.
    fn new(path: &Path, file: File) -> Result<Backend, StartError> {
        match file.try_lock() {
            Ok(()) => Ok(Backend {
                file: Arc::new(Locked(file)),
                #[cfg(test)]
                faults: Arc::default(),
            }),
            Err(TryLockError::WouldBlock) => Err(StartError::InUse {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(StartError::io(path, "locking it")(error)),
        }
    }

    /// Opens the database in the file; an empty file becomes an empty database. Every page is verified, so that later
    /// reads meet no damage.
    pub(super) fn database(&self) -> Result<Database, redb::Error> {
        // After a failed write or sync the page cache can show what the disk does not have: see what it has.
        let _ = rustix::fs::fadvise(&self.file.0, 0, None, rustix::fs::Advice::DontNeed);
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(self.clone())?;
        Ok(database)
    }
}

/// Without the database's own locks, as [`Backend::new`] locks the file.
impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.write()?;
        self.file.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.sync()?;
        self.file.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        self.faults.write()?;
        self.file.0.write_all_at(data, offset)
    }
}

/// Opens the database at `path`, and makes it first if there is none.
pub(super) fn open(path: &Path) -> Result<(Backend, Database), StartError> {
    let open = || OpenOptions::new().read(true).write(true).open(path);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path)?;
            open()
        }
        other => other,
    };
    let file = file.map_err(StartError::io(path, "opening it"))?;
    let metadata = file
        .metadata()
        .map_err(StartError::io(path, "looking at it"))?;
    if !metadata.is_file() {
        return Err(StartError::damaged(path, "not a regular file"));
    }
    // The database would take it for a new one.
    if metadata.len() == 0 {
        return Err(StartError::damaged(path, "the file is empty"));
    }
    let backend = Backend::new(path, file)?;
    let database = backend
        .database()
        .map_err(|error| StartError::redb(path, "opening it", error))?;
    check_schema(path, &database)?;
    Ok((backend, database))
}

/// Makes an empty database, so that a crash on the way leaves no half of one behind.
fn make(path: &Path) -> Result<(), StartError> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StartError::io(
                &fresh,
                "removing what an earlier start left",
            )(error));
        }
        _ => {}
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(StartError::io(&fresh, "making it"))?;
    let fill = || -> Result<(), redb::Error> {
        let backend = Backend::new(&fresh, file).map_err(io::Error::other)?;
        let database = backend.database()?;
        let write = database.begin_write()?;
        write.open_table(META)?.insert(META_SCHEMA, SCHEMA)?;
        write.open_table(CLIENTS)?;
        write.commit()?;
        database.close()?;
        Ok(())
    };
    fill().map_err(|error| StartError::redb(&fresh, "making it", error))?;
    let here = rustix::fs::CWD;
    rustix::fs::renameat_with(here, &fresh, here, path, rustix::fs::RenameFlags::NOREPLACE)
        .map_err(|error| StartError::io(path, "giving it its name")(error.into()))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(StartError::io(path, "syncing its directory"))
}

fn check_schema(path: &Path, database: &Database) -> Result<(), StartError> {
    let read = || -> Result<Option<u64>, redb::Error> {
        use redb::ReadableDatabase as _;
        let table = database.begin_read()?.open_table(META)?;
        Ok(table.get(META_SCHEMA)?.map(|guard| guard.value()))
    };
    match read().map_err(|error| StartError::redb(path, "reading it", error))? {
        Some(SCHEMA) => Ok(()),
        Some(found) if found > SCHEMA => Err(StartError::Newer {
            path: path.to_owned(),
            found,
        }),
        _ => Err(StartError::damaged(path, "not a recovery database")),
    }
}
