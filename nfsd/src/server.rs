//! What all workers of a running server share, and the server's life from start to drain.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use vfs::exec::{self, Remote};
use vfs::sys::{self, Signal};
use vfs::uring::{Counters, RingConfig, blocking};
use vfs::{KernelHandle, Mount, Vfs, VfsConfig};

use crate::config::{
    self, Config, ExportSource, Limits, ServeSettings, TRANSFER_HEAD, TRANSFER_MOST, mount_commands,
};
use crate::control::{Control, ControlError};
use crate::export::ExportTable;
use crate::export::names::{Names, SystemResolver};
use crate::exported::Exported;
use crate::fh::HandleKey;
use crate::finding::Findings;
use crate::groups::Groups;
use crate::host::opens::Opens;
use crate::listener::{self, Listening, PORTMAPPER_PORT};
use crate::nfs4::cb::Callbacks;
use crate::nfs4::idmap::{Idmap, SystemAccounts};
use crate::nfs4::recovery::{Previous, RecoveryStore, StartError};
use crate::nfs4::state::grace::Grace;
use crate::nfs4::state::{self as state4, State};
use crate::nlm::state::Hosts;
use crate::nsm::{self, Nsm};
use crate::rpc::drc::Drc;
use crate::rpc::rpcbind;
use crate::{lock_list, metrics, worker};

/// Most bytes of a page of a directory, however long a READ may be: it is put together in memory of its own.
const PAGE_MAX: u32 = 1 << 20;

/// Shared by all workers.
pub struct Shared {
    /// Files, mounts, the write verifier.
    pub vfs: Arc<Vfs>,
    /// Exports in force; requests keep what they matched.
    pub exported: ArcSwap<Exported>,
    /// One reload at a time.
    pub reloading: Mutex<()>,
    /// Seals file handles.
    pub key: HandleKey,
    /// Host names of peers.
    pub names: Names,
    /// Server-side groups (`manage_gids`).
    pub groups: Option<Groups>,
    /// What NFSv4 clients hold.
    pub state: State,
    /// What NLM's hosts hold.
    pub nlm: Hosts,
    /// Restarts, of this server and of NLM's hosts.
    pub nsm: Nsm,
    /// Owners as NFSv4 writes them.
    pub idmap: Idmap,
    /// Duplicate request cache.
    pub drc: Arc<Drc>,
    /// What goes on towards NFSv4 clients.
    pub callbacks: Callbacks,
    /// Whether clients may still reclaim what they held before this start.
    pub grace: Grace,
    /// What must be known after a restart.
    pub recovery: RecoveryStore,
    /// Most bytes of one READ or WRITE: `limits.transfer_bytes`.
    pub io_max: u32,
    /// Port this server listens on first, for portmapper answers.
    pub port: u16,
    /// When the server started, on the monotonic clock.
    pub started: Instant,
    /// Whether some worker asks processes of the host for locks they hold.
    pub asking_host: AtomicBool,
    /// Opens by processes of the host, once something is delegated.
    pub opens: OnceLock<Option<Arc<Opens>>>,
    /// No new connections, no new requests.
    pub stopping: AtomicBool,
    /// The daemon's configuration.
    pub config: Config,
    /// Worker mailboxes.
    pub remotes: Vec<Arc<Remote>>,
    /// Open connections of each worker.
    pub connections: worker::Connections,
    /// Each worker's counters.
    pub counters: Mutex<Vec<Arc<Counters>>>,
}

/// Where an export begins.
#[derive(Clone)]
pub struct Root {
    /// Its file system.
    pub mount: Arc<Mount>,
    /// Its directory there.
    pub handle: KernelHandle,
}

/// What a server is put together from beside its configuration.
pub struct Parts {
    /// Seals file handles.
    pub key: HandleKey,
    /// Host names of peers.
    pub names: Names,
    /// Worker mailboxes, one for each worker.
    pub remotes: Vec<Arc<Remote>>,
    /// Port this server listens on first.
    pub port: u16,
    /// What must be known after a restart.
    pub recovery: RecoveryStore,
    /// What was known from before this start.
    pub previous: Previous,
}

impl Shared {
    /// A server that exports nothing yet.
    pub fn new(config: Config, parts: Parts) -> Self {
        let lease = parts.previous.lease.unwrap_or_default();
        // Clients of the last start were told its lease time.
        let grace_time = config.grace_time.max(lease);
        Shared {
            vfs: Vfs::new(&VfsConfig {
                open_files: config.limits.open_files as usize,
                verifier_seed: random_u64(),
            }),
            exported: ArcSwap::default(),
            reloading: Mutex::default(),
            names: parts.names,
            groups: config.manage_gids.then(Groups::default),
            idmap: Idmap::new(
                config.idmap,
                config.idmap_domain.clone(),
                Arc::new(SystemAccounts),
            ),
            drc: Drc::new(crate::rpc::drc::Limits::default()),
            callbacks: Callbacks::default(),
            grace: Grace::new(&parts.previous.clients, grace_time, exec::now())
                .and_hosts(!parts.previous.hosts.is_empty()),
            nlm: Hosts::default(),
            nsm: Nsm::new(parts.previous.nsm_state, parts.previous.hosts),
            state: state(&config, &parts.key, parts.recovery.epoch()),
            recovery: parts.recovery,
            key: parts.key,
            io_max: io_max(&config.limits),
            port: parts.port,
            started: exec::now(),
            asking_host: AtomicBool::new(false),
            opens: OnceLock::new(),
            stopping: AtomicBool::new(false),
            connections: worker::Connections::new(parts.remotes.len()),
            remotes: parts.remotes,
            counters: Mutex::default(),
            config,
        }
    }

    /// Most bytes of a page of a directory.
    pub fn page_max(&self) -> u32 {
        self.io_max.min(PAGE_MAX)
    }

    /// The mount a handle of an export leads to: the export's own, or with `crossmnt` one below it.
    pub fn mount_of(&self, export: u32, fsid: u64, crossmnt: bool) -> Option<Arc<Mount>> {
        match self.exported.load().roots.get(&export) {
            Some(root) if root.mount.fsid == fsid => Some(root.mount.clone()),
            Some(_) if crossmnt => self.vfs.crossed(fsid),
            _ => None,
        }
    }

    /// Where an export begins.
    pub fn root_of(&self, export: u32) -> Option<Root> {
        self.exported.load().roots.get(&export).cloned()
    }

    /// Puts a new table of exports in force. Requests in flight keep what they matched.
    ///
    /// # Errors
    /// The findings, when an export cannot be served; the old table stays in force.
    pub fn replace_exports(&self, table: ExportTable) -> Result<String, String> {
        let _alone = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut found = Findings::new();
        let count = table.exports().len();
        let now = exec::wall_clock().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_nanos() as u64);
        let old = self.exported.load_full();
        let new = Arc::new(old.next(&self.vfs, table, &self.key, now, &mut found));
        if found.has_errors() {
            return Err(found.to_string());
        }
        self.exported.store(new.clone());
        self.vfs.retain_mounts(|m| {
            let mut roots = new.roots.values();
            roots.any(|r| r.mount.id == m.id || (r.mount.cross && m.cross))
        });
        let warnings = if found.is_empty() {
            String::new()
        } else {
            format!("{found}\n")
        };
        Ok(format!("{warnings}{count} exported\n"))
    }
}

/// Why the server ended or could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A step of the start failed.
    #[error("{what}: {error}")]
    Start {
        /// What was tried.
        what: String,
        /// How it failed.
        error: vfs::Errno,
    },
    /// Exports that cannot be served.
    #[error("{0}")]
    Exports(String),
    /// The recovery database.
    #[error(transparent)]
    Recovery(#[from] StartError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// `--rpcbind` was asked for and failed.
    #[error("registering with rpcbind: {0}")]
    Rpcbind(#[from] rpcbind::RpcbindError),
    /// The kernel has no usable io_uring.
    #[error(
        "io_uring: {0}; ringnfs needs Linux 6.1 with io_uring enabled (sysctl kernel.io_uring_disabled=0)"
    )]
    Uring(vfs::Errno),
}

fn step<T>(
    what: impl Into<String>,
    result: Result<T, impl Into<vfs::Errno>>,
) -> Result<T, ServeError> {
    result.map_err(|e| ServeError::Start {
        what: what.into(),
        error: e.into(),
    })
}

/// Serves until told to stop.
///
/// # Errors
/// See [`ServeError`].
pub fn run(settings: ServeSettings) -> Result<(), ServeError> {
    sys::block_signals();
    step("becoming uid 0", sys::become_superuser())?;
    rustix::process::umask(rustix::fs::Mode::empty());
    #[cfg(feature = "fault-injection")]
    if let Ok(rules) = std::env::var("RINGNFS_FAULTS") {
        inject(&rules).map_err(ServeError::Exports)?;
    }
    let descriptors = raise_descriptor_limit();
    let ServeSettings {
        mut config,
        listen,
        exports,
        table,
    } = settings;
    let threads = match config.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n as usize,
    };
    share_descriptors(&mut config.limits, descriptors);
    share_buffers(&mut config.limits, threads);
    step(
        "making the state directory",
        std::fs::create_dir_all(&config.state_dir),
    )?;
    let key = step("reading the handle key", load_key(&config.state_dir))?;
    let listening = listener::bind(&listener::with_portmapper(&listen, config.portmapper))?;
    let remotes = (0..threads).map(Remote::new).collect::<Result<Vec<_>, _>>();
    let (recovery, previous) = RecoveryStore::open(&config.recovery_db(), config.lease_time)?;
    let parts = Parts {
        key,
        names: step(
            "starting name lookups",
            Names::start(Arc::new(SystemResolver)),
        )?,
        remotes: step("making worker mailboxes", remotes)?,
        port: listening
            .first()
            .map_or(config::NFS_PORT, |l| l.addr.port()),
        recovery,
        previous,
    };
    let shared = Arc::new(Shared::new(config, parts));
    let said = shared.replace_exports(table).map_err(ServeError::Exports)?;
    tracing::info!("{}", said.trim_end());
    serve(&shared, listening, exports, threads)
}

/// Most bytes of one READ or WRITE.
fn io_max(limits: &Limits) -> u32 {
    limits.transfer_bytes.min(TRANSFER_MOST) as u32
}

/// Empty state of NFSv4 clients.
fn state(config: &Config, key: &HandleKey, epoch: u32) -> State {
    let message = u64::from(io_max(&config.limits)) + TRANSFER_HEAD;
    let limits = state4::Config {
        message_bytes: message.min(config.limits.record_bytes) as u32,
        server_owner: key.server_owner().into_bytes().into(),
        lease: config.lease_time,
        ..state4::Config::default()
    };
    State::new(epoch, limits)
}

fn serve(
    shared: &Arc<Shared>,
    listening: Vec<Listening>,
    exports: ExportSource,
    threads: usize,
) -> Result<(), ServeError> {
    let config = &shared.config;
    let control = start_control(shared, exports.clone())?;
    let addresses: Vec<_> = listening.iter().map(|l| l.addr).collect();
    let pool = blocking::Threads::new((4 * threads).max(16), 16 << 10);
    let transfer = config.limits.transfer_bytes + TRANSFER_HEAD;
    let (ready, started) = mpsc::channel();
    let workers: Vec<_> = (0..threads)
        .map(|index| {
            let ring = RingConfig {
                pool_bytes: (config.limits.buffers_bytes as usize / threads).max(16 << 20),
                buffer_bytes: config.limits.record_bytes.max(transfer) as usize,
                policy: config.io_policy.into(),
                threads: pool.clone(),
                ..RingConfig::default()
            };
            // Connections are accepted in one place and dealt out, so that none of the workers gets
            // most of them by chance.
            let listening = if index == 0 {
                listening.clone()
            } else {
                Vec::new()
            };
            worker::start(shared.clone(), index, ring, listening, ready.clone())
        })
        .collect();
    drop(ready);
    for _ in 0..threads {
        // A worker that ended without a word has logged why.
        let result = started.recv().unwrap_or(Err(vfs::Errno::EIO));
        result.map_err(ServeError::Uring)?;
    }
    nsm::udp::start(shared, &addresses);
    announce(shared, &addresses);
    let registration = config
        .rpcbind
        .then(|| rpcbind::register(&addresses))
        .transpose()?;
    notify_systemd("READY=1");
    while sys::wait_signal() == Signal::Reload {
        match reload(shared, &exports) {
            Ok(said) => tracing::info!("reloaded: {}", said.trim_end()),
            Err(why) => tracing::error!("not reloaded: {why}"),
        }
    }
    notify_systemd("STOPPING=1");
    if let Some(Err(error)) = registration.map(rpcbind::Registration::remove) {
        tracing::warn!(%error, "cannot unregister");
    }
    drain(shared, workers, control, config.timeouts.drain);
    Ok(())
}

/// Beyond the drain, for workers to cancel what is left in the kernel and to close what they have open, before they are
/// given up.
const CANCELLING: Duration = Duration::from_secs(5);
const _: () = assert!(vfs::uring::UNMOVED.as_millis() * 2 < CANCELLING.as_millis());

/// When the server is gone at the latest, after it said so.
fn end_bound(drain: Duration) -> Duration {
    drain.saturating_add(CANCELLING)
}

/// Lets requests in flight finish, for a bounded time, then ends the process whatever is stuck.
fn drain(
    shared: &Arc<Shared>,
    workers: Vec<std::thread::JoinHandle<()>>,
    control: Control,
    patience: Duration,
) {
    let bound = end_bound(patience);
    tracing::info!(
        "stopping: requests in flight have {} s, and all ends within {} s",
        patience.as_secs_f32(),
        bound.as_secs_f32()
    );
    shared.stopping.store(true, Ordering::Release);
    for remote in &shared.remotes {
        remote.post(worker::begin_drain);
    }
    let (done, finished) = mpsc::channel();
    let vfs = shared.vfs.clone();
    std::thread::spawn(move || {
        workers.into_iter().for_each(|w| drop(w.join()));
        vfs.remove_unfinished();
        // It may be asking a worker something.
        drop(control);
        let _ = done.send(());
    });
    // The workers keep the drain themselves; this is for what does not come back.
    match finished.recv_timeout(bound) {
        Ok(()) => tracing::info!("stopped"),
        Err(_) => tracing::warn!("stopped with requests stuck in the kernel"),
    }
}

fn reload(shared: &Shared, exports: &ExportSource) -> Result<String, String> {
    let mut found = Findings::new();
    let table = exports.load(&SystemResolver, &mut found);
    if found.has_errors() {
        return Err(found.to_string());
    }
    shared.replace_exports(table)
}

fn start_control(shared: &Arc<Shared>, exports: ExportSource) -> Result<Control, ServeError> {
    let server = shared.clone();
    let handler = move |verb: &str| match verb {
        "reload" => reload(&server, &exports),
        "stats" => Ok(metrics::text(&server)),
        "stats json" => Ok(metrics::json(&server)),
        "expire" => Ok(expire(&server)),
        "locks" => Ok(lock_list::text(&server)),
        "locks json" => Ok(lock_list::json(&server)),
        #[cfg(feature = "fault-injection")]
        "faults held" => Ok(format!("{}\n", vfs::uring::fault::held())),
        #[cfg(feature = "fault-injection")]
        verb if verb.starts_with("faults") => inject(verb.trim_start_matches("faults").trim()),
        other => Err(format!("unknown request {other:?}")),
    };
    Ok(Control::start(&shared.config.runtime_dir, handler)?)
}

/// Drops all NFSv4 clients and NLM hosts with what they hold, as if others wanted it. How
/// many clients there were.
fn expire(shared: &Shared) -> String {
    let clients = shared.state.clients();
    for client in &clients {
        shared.state.expire(client);
    }
    for host in shared.nlm.all() {
        host.free(None);
    }
    format!("{} clients expired\n", clients.len())
}

/// Test builds: replaces the rules by which operations fail; none for an empty text.
#[cfg(feature = "fault-injection")]
fn inject(rules: &str) -> Result<String, String> {
    use vfs::uring::fault;
    let rules = match rules {
        "" => Vec::new(),
        text => fault::parse(text).map_err(|rule| format!("not a rule: {rule:?}"))?,
    };
    let said = format!("{} rules\n", rules.len());
    fault::set(rules);
    Ok(said)
}

/// Prints how to mount what is exported, and what the kernel made us do without.
fn announce(shared: &Shared, addresses: &[std::net::SocketAddr]) {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    let mut out = std::io::stdout().lock();
    for export in shared.exported.load().table.exports() {
        for address in addresses.iter().filter(|a| a.port() != PORTMAPPER_PORT) {
            for command in mount_commands(*address, &host, &export.path) {
                let _ = writeln!(out, "{command}");
            }
        }
    }
    let _ = out.flush();
    for address in addresses {
        tracing::info!(%address, workers = shared.remotes.len(), "serving");
    }
}

/// systemd's readiness protocol (`sd_notify(3)`); nothing happens outside systemd.
fn notify_systemd(state: &str) {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let bytes = path.as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = UnixDatagram::unbound()
        .and_then(|s| address.and_then(|a| s.send_to_addr(state.as_bytes(), &a)));
    if let Err(e) = sent {
        tracing::debug!(error = %e, "systemd was not notified");
    }
}

/// As many descriptors as this process may have.
fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let ceiling = std::fs::read_to_string("/proc/sys/fs/nr_open").ok();
    let ceiling = ceiling
        .and_then(|s| s.trim().parse::<u64>().ok())
        .unwrap_or(1 << 20);
    for want in [ceiling, now.maximum.unwrap_or(ceiling)] {
        if setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(want),
                maximum: Some(want),
            },
        )
        .is_ok()
        {
            return want;
        }
    }
    now.current.unwrap_or(1024)
}

/// Fits the limits into the descriptors there are: a connection takes one, a file up to three.
fn share_descriptors(limits: &mut Limits, descriptors: u64) {
    let fit = |wanted: u32, room: u64| wanted.min(u32::try_from(room).unwrap_or(u32::MAX));
    let connections = fit(limits.connections, descriptors * 5 / 8).max(16);
    let rest = descriptors.saturating_sub(u64::from(connections) + 64);
    let files = fit(limits.open_files, rest / 3).max(64);
    if (connections, files) != (limits.connections, limits.open_files) {
        tracing::warn!(
            descriptors,
            connections,
            files,
            "fewer connections and open files than memory allows: raise LimitNOFILE= or ulimit -n"
        );
    }
    (limits.connections, limits.open_files) = (connections, files);
    limits.connections_per_client = limits.connections_per_client.min(connections);
}

/// Fits the longest READ and WRITE into what each worker has for buffers.
fn share_buffers(limits: &mut Limits, threads: usize) {
    if limits.shorten_transfers(threads) {
        tracing::warn!(
            threads,
            transfer_bytes = limits.transfer_bytes,
            "shorter READs and WRITEs than limits.transfer_bytes: so many threads need more limits.buffers_bytes"
        );
    }
}

fn random_u64() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // Without the kernel's random numbers, time still tells two starts apart.
        let since = exec::wall_clock().duration_since(std::time::SystemTime::UNIX_EPOCH);
        since.map_or(1, |d| d.as_nanos() as u64)
    })
}

/// The key of file handles: made once, then the same for ever, readable by nobody else.
fn load_key(state_dir: &Path) -> std::io::Result<HandleKey> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = state_dir.join("handle.key");
    match std::fs::read(&path) {
        Ok(bytes) => {
            let key = <[u8; 16]>::try_from(bytes.as_slice())
                .map_err(|_| std::io::Error::other(format!("{}: not 16 bytes", path.display())))?;
            return Ok(HandleKey::new(key));
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        Err(_) => {}
    }
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(std::io::Error::other)?;
    let fresh = state_dir.join("handle.key.new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(&key)?;
    file.sync_all()?;
    std::fs::rename(&fresh, &path)?;
    std::fs::File::open(state_dir)?.sync_all()?;
    Ok(HandleKey::new(key))
}

/// Registers a worker's counters.
pub(crate) fn add_counters(shared: &Shared, counters: Arc<Counters>) {
    shared
        .counters
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(counters);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_after_the_drain_and_bounded() {
        let second = Duration::from_secs(1);
        assert_eq!(end_bound(second), second + CANCELLING);
        assert!(end_bound(Duration::ZERO) > vfs::uring::UNMOVED);
        assert_eq!(end_bound(Duration::MAX), Duration::MAX);
    }
}
