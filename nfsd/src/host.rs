//! Processes of the host and the files they share with NFS clients: byte-range locks are seen by both
//! (export option `host_locks`), and what is delegated comes back when a process opens it.

pub mod opens;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vfs::Errno;
use vfs::exec;
use vfs::locks::{DelegKind, HOST, Holder, Hosted, LockKind};

use crate::cx::Opened;
use crate::server::Shared;
use opens::{Opens, Watch};

/// How soon a process of the host is asked again whether it has unlocked what an NFS client waits for.
const ASK: Duration = Duration::from_millis(50);
/// How long the pause between two times grows while nothing changes.
const ASK_MAX: Duration = Duration::from_secs(1);

/// How long a lock that stands in the way of a reclaim may be one of the server that was killed before: it goes
/// 20 to 70 ms after the end of an idle process (measured on Linux 6.18), later with requests stuck in the kernel.
const LINGERS: Duration = Duration::from_secs(5);
/// How soon it is looked for again.
pub const PAUSE: Duration = Duration::from_millis(100);

/// Whether a lock that a reclaim met may go by itself: the kernel closes what a killed process had registered
/// with io_uring after its end, not before, and the locks of the clients with it. It tells no process for such
/// a lock. `since`: the begin of the reclaim.
pub fn lingers(holder: Holder, since: Instant) -> bool {
    holder.client == HOST && holder.owner.0 == 0 && exec::now() < since + LINGERS
}

/// Before a lock of this file is asked for: it is to be locked on the host as well. `None` where the
/// export does not want that.
///
/// # Errors
/// `open(2)`.
pub async fn locks(opened: &Opened, kind: LockKind) -> Result<Option<Hosted>, Errno> {
    if !opened.options.host_locks() {
        return Ok(None);
    }
    opened.file.hosted(kind).await.map(Some)
}

/// The files whose opens by processes of the host are asked about; `None`, and said so once, where the kernel
/// or its privileges do not let this server do that.
fn opens(server: &Arc<Shared>) -> Option<&Arc<Opens>> {
    let opens = server.opens.get_or_init(|| {
        let started = Opens::start(server);
        let said = |error: &std::io::Error| {
            tracing::warn!(%error, "fanotify: processes of this host that open a file do not recall its delegations");
        };
        started.inspect_err(said).ok()
    });
    opens.as_ref()
}

/// Before a file is delegated: processes of the host that open it shall recall that, as long as the value
/// lives. False where one has it open already.
///
/// # Errors
/// A file that cannot be opened or watched.
pub async fn delegates(
    server: &Arc<Shared>,
    opened: &Opened,
    kind: DelegKind,
) -> Result<(Option<Watch>, bool), Errno> {
    if !opened.options.host_locks() || !opened.file.mount.locks_at_once() {
        return Ok((None, true));
    }
    let Some(opens) = opens(server) else {
        return Ok((None, true));
    };
    // First this, so that who opens it is seen by one of the two.
    let watch = opens.watch(&opened.file)?;
    let free = match opened.file.delegable(kind).await {
        Err(Errno::EINVAL) => true,
        free => free?,
    };
    Ok((Some(watch), free))
}

/// After a request has joined a line, and now and then: while somebody waits for a process of the host,
/// which tells nobody when it unlocks, that is looked after. Only on a worker.
pub fn watch(server: &Arc<Shared>) {
    let table = &server.vfs.table.locks;
    if table.waits_for_host() == 0 || server.asking_host.swap(true, Ordering::AcqRel) {
        return;
    }
    exec::spawn(ask(server.clone()));
}

async fn ask(server: Arc<Shared>) {
    let table = &server.vfs.table.locks;
    let (mut pause, mut waiting) = (ASK, table.waits_for_host());
    while waiting > 0 && !server.stopping.load(Ordering::Acquire) {
        exec::sleep(pause).await;
        table.ask_host();
        let now = table.waits_for_host();
        pause = match now == waiting {
            true => (pause * 2).min(ASK_MAX),
            false => ASK,
        };
        waiting = now;
    }
    server.asking_host.store(false, Ordering::Release);
}
