//! One worker thread: its connections, their once-a-second check, and its part of the drain.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use vfs::exec;
use vfs::uring::{Ring, RingConfig};

use crate::config::Limits;
use crate::conn::{self, BackConn, Conn};
use crate::host;
use crate::listener::{self, Listening};
use crate::memory::{Meminfo, Pressure};
use crate::nfs4::cb::{self, recall_any};
use crate::nfs4::durable;
use crate::nfs4::recovery::run_grace;
use crate::nsm;
use crate::server::{Shared, add_counters};

/// How many connections there are, by worker and by client address.
pub struct Connections {
    by_worker: Vec<AtomicUsize>,
    by_client: Mutex<HashMap<IpAddr, u32>>,
}

/// One admitted connection; leaves the count when dropped.
pub struct Slot {
    server: Arc<Shared>,
    worker: usize,
    ip: IpAddr,
}

impl Connections {
    /// For this many workers.
    pub fn new(workers: usize) -> Self {
        Connections {
            by_worker: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            by_client: Mutex::default(),
        }
    }

    /// Connections of all workers.
    pub fn total(&self) -> usize {
        self.by_worker
            .iter()
            .map(|n| n.load(Ordering::Relaxed))
            .sum()
    }

    /// Counts a new connection with `ip` and chooses its worker; `None` over a limit.
    fn enter(&self, ip: IpAddr, limits: &Limits) -> Option<usize> {
        let mut by_client = self
            .by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mine = by_client.get(&ip).copied().unwrap_or(0);
        if self.total() >= limits.connections as usize || mine >= limits.connections_per_client {
            return None;
        }
        by_client.insert(ip, mine + 1);
        let fewest = self
            .by_worker
            .iter()
            .enumerate()
            .min_by_key(|(_, n)| n.load(Ordering::Relaxed));
        let worker = fewest.map_or(0, |(i, _)| i);
        self.by_worker[worker].fetch_add(1, Ordering::Relaxed);
        Some(worker)
    }

    fn leave(&self, worker: usize, ip: IpAddr) {
        self.by_worker[worker].fetch_sub(1, Ordering::Relaxed);
        let mut by_client = self
            .by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = by_client.get_mut(&ip) {
            *n -= 1;
            if *n == 0 {
                by_client.remove(&ip);
            }
        }
    }
}

/// Counts a new connection with `ip` and chooses its worker; `None` over a limit.
pub fn admit(server: &Arc<Shared>, ip: IpAddr) -> Option<Slot> {
    let worker = server.connections.enter(ip, &server.config.limits)?;
    let server = server.clone();
    Some(Slot { server, worker, ip })
}

impl Slot {
    /// The worker chosen.
    pub fn worker(&self) -> usize {
        self.worker
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.server.connections.leave(self.worker, self.ip);
    }
}

#[derive(Default)]
struct Local {
    drain: Option<exec::oneshot::Sender<()>>,
}

thread_local! {
    static LOCAL: RefCell<Local> = RefCell::default();
}

/// Takes an accepted connection over; runs on the worker's thread.
pub fn take_connection(server: Arc<Shared>, socket: OwnedFd, addr: SocketAddr, slot: Slot) {
    serve(Conn::new(server, socket, addr), slot);
}

/// Takes a connection over that this server opened; runs on the worker's thread.
pub fn take_outgoing(server: Arc<Shared>, socket: OwnedFd, back: BackConn, slot: Slot) {
    serve(Conn::outgoing(server, socket, back), slot);
}

fn serve(conn: Rc<Conn>, slot: Slot) {
    let limits = conn.server.config.limits.clone();
    exec::spawn(async move {
        conn.serve(limits).await;
        drop(slot);
    });
}

/// Starts a worker. It reports once over `ready` whether its ring works.
pub fn start(
    shared: Arc<Shared>,
    index: usize,
    ring: RingConfig,
    listening: Vec<Listening>,
    ready: mpsc::Sender<vfs::Result<()>>,
) -> JoinHandle<()> {
    let run = move || {
        let remote = shared.remotes[index].clone();
        let failed = ready.clone();
        let outcome = exec::run(&remote, &ring, main(shared, index, listening, ready));
        if let Err(e) = outcome {
            tracing::error!(worker = index, error = %e, "worker ended");
            let _ = failed.send(Err(e));
        }
    };
    let name = format!("worker{index}");
    match std::thread::Builder::new().name(name).spawn(run) {
        Ok(handle) => handle,
        // Without threads there is no server: the receiver sees that nobody reported.
        Err(e) => {
            tracing::error!(error = %e, "cannot start a worker");
            std::thread::spawn(|| {})
        }
    }
}

async fn main(
    shared: Arc<Shared>,
    index: usize,
    listening: Vec<Listening>,
    ready: mpsc::Sender<vfs::Result<()>>,
) {
    exec::with_ring(|ring| {
        add_counters(&shared, ring.counters.clone());
        if index == 0 {
            ring.features
                .fallbacks()
                .iter()
                .for_each(|f| tracing::info!("not in this kernel: {f}"));
        }
    });
    let (drain, draining) = exec::oneshot::channel();
    LOCAL.with_borrow_mut(|local| local.drain = Some(drain));
    for one in listening {
        exec::spawn(listener::accept(shared.clone(), one));
    }
    if index == 0 {
        exec::spawn(shared.vfs.clone().sweep());
        let grace = shared.clone();
        exec::spawn(async move { run_grace(&grace.grace, &grace.recovery).await });
        cb::start(&shared);
        exec::spawn(check_leases(shared.clone()));
        nsm::notify::start(&shared);
    }
    exec::spawn(check_connections(shared.clone()));
    let _ = ready.send(Ok(()));
    drop(ready);
    draining.await;
    finish(shared.config.timeouts.drain).await;
    if index == 0
        && let Err(error) = shared.recovery.close().await
    {
        tracing::error!(%error, "the recovery database was not closed");
    }
}

async fn check_connections(shared: Arc<Shared>) {
    let timeouts = shared.config.timeouts.clone();
    loop {
        exec::sleep(Duration::from_secs(1)).await;
        exec::with_ring(Ring::relieve);
        for conn in conn::of_this_worker() {
            conn.check_progress(timeouts.half_record, timeouts.send_stalled);
        }
    }
}

async fn check_leases(shared: Arc<Shared>) {
    let (memory, mut pressure) = (Meminfo::open(), Pressure::default());
    let limits = shared.config.limits.clone();
    loop {
        exec::sleep(Duration::from_secs(1)).await;
        shared.state.sweep(exec::now());
        // An error is logged by the store, and this comes again.
        let _ = durable::settled(&shared).await;
        shared.vfs.table.locks.lapse(exec::now());
        host::watch(&shared);
        recall_any::check(&shared, limits.delegations as usize);
        let now = exec::now();
        let due = pressure.due(memory.read(), limits.available_memory, now);
        if due && recall_any::relieve(&shared) {
            pressure.asked(now);
        }
        for host in shared.nlm.sweep(exec::now()) {
            drop(shared.recovery.remove_host(host));
        }
    }
}

/// Posted to each worker when the server stops.
pub fn begin_drain() {
    let drain = LOCAL.with_borrow_mut(|local| local.drain.take());
    drop(drain);
}

/// Closes idle connections at once and busy ones as they get idle, for a bounded time.
async fn finish(patience: Duration) {
    let end = exec::now() + patience;
    loop {
        let open = conn::of_this_worker();
        let busy = open
            .iter()
            .filter(|c| c.in_flight() > 0 || c.is_writing())
            .count();
        open.iter()
            .filter(|c| c.in_flight() == 0 && !c.is_writing())
            .for_each(|c| c.close());
        if busy == 0 {
            return;
        }
        if exec::now() >= end {
            tracing::warn!(busy, "connections closed with requests in flight");
            return;
        }
        drop(open);
        exec::sleep(Duration::from_millis(10)).await;
    }
}

/// What a worker holds right now, by name.
pub fn gauges() -> Vec<(&'static str, u64)> {
    let open = conn::of_this_worker();
    let total = |of: fn(&Conn) -> usize| open.iter().map(|c| of(c) as u64).sum();
    exec::with_ring(|ring| {
        vec![
            ("requests.in_kernel", ring.in_flight() as u64),
            ("workers.apart", u64::from(ring.apart())),
            ("buffers.out", ring.pool.outstanding() as u64),
            ("buffers.mapped_bytes", ring.pool.mapped() as u64),
            ("buffers.recv_out", ring.recv.outstanding() as u64),
            ("files.registered", ring.fixed.used() as u64),
            ("personalities", ring.personalities.len() as u64),
        ]
    })
    .into_iter()
    .chain([("tasks", exec::live_tasks() as u64)])
    .chain([
        ("requests.in_flight", total(Conn::in_flight)),
        ("calls.waiting", total(Conn::calls_waiting)),
    ])
    .collect()
}
