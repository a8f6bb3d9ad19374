//! What stands in the way of operations that open nothing, by every version of the protocol:
//! delegations are asked back and waited for, deny modes hold (RFC 8881 8.2.3, 10.4.1, 10.4.4).
//!
//! Nothing here blocks a worker, and nothing waits for a client longer than its caller says: what is
//! not settled then is the protocol's "later".

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vfs::exec::{self, oneshot};
use vfs::locks::{ClientId, Conflict, DelegId, FileLocks, Notify, Passing};
use vfs::{Cred, File, FileKind, Name};

use crate::cx::{Cx, Opened};
use crate::nfs3::status::Nfsstat3;
use crate::nfs4::cb::recall;
use crate::nfs4::durable;
use crate::nfs4::state::deleg::DelegRef;
use crate::nfs4::status::Nfsstat4;
use crate::server::Shared;

/// How long a request of version 4 waits before its client is told DELAY: Linux asks again after as
/// long at first.
pub const PATIENCE_V4: Duration = Duration::from_millis(100);
/// How long one of version 3 waits before JUKEBOX: Linux asks again after five seconds.
pub const PATIENCE_V3: Duration = Duration::from_secs(2);
/// How often a request tries again after somebody got out of its way.
const TRIES: usize = 16;

/// What is about to be done with a file that the request has not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Its data is read.
    Read,
    /// Its data, or its size, changes.
    Write,
    /// Its other attributes or its names change.
    Change,
}

/// Why it cannot be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// A delegation is not back yet.
    Recalled,
    /// Somebody has it open and denies this.
    Denied,
}

impl From<Blocked> for Nfsstat3 {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::Recalled => Nfsstat3::Jukebox,
            Blocked::Denied => Nfsstat3::Acces,
        }
    }
}

impl From<Blocked> for Nfsstat4 {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::Recalled => Nfsstat4::Delay,
            Blocked::Denied => Nfsstat4::Locked,
        }
    }
}

/// Whether the client is gone: one whose lease has run out has to make room. Then it cannot reclaim
/// what it held, even if the server stops now. No lock of the state may be held.
///
/// # Errors
/// `DELAY` when it is gone and that cannot be written yet.
pub async fn expired(server: &Shared, client: ClientId) -> Result<bool, Nfsstat4> {
    // Those of other protocols have other numbers.
    let number = u32::try_from(client.0);
    let gone = number.is_ok_and(|number| server.state.expire_if_courtesy(number, exec::now()));
    if gone {
        durable::settled(server).await?;
    }
    Ok(gone)
}

/// Asks delegations back and waits for one to come: true if it is worth trying again. Only on a
/// worker, without a lock of the state.
pub async fn returned(
    server: &Arc<Shared>,
    locks: &FileLocks,
    held: &[(ClientId, DelegId)],
    patience: Duration,
) -> bool {
    let (back, came) = oneshot::channel::<()>();
    let back = Mutex::new(Some(back));
    let notify: Notify = Arc::new(move || {
        drop(back.lock().unwrap_or_else(PoisonError::into_inner).take());
    });
    if !locks.when_back(held, notify) {
        return true;
    }
    let mut alive = Vec::new();
    for (client, id) in held {
        match expired(server, *client).await {
            Ok(true) => {}
            Ok(false) => alive.extend(DelegRef::of(*client, *id)),
            Err(_) => return false,
        }
    }
    recall::recall(server, &alive);
    exec::timeout(patience, came).await.is_some()
}

fn check(locks: &FileLocks, client: Option<ClientId>, touch: Touch) -> Result<(), Conflict> {
    match touch {
        Touch::Read => locks.io(client, false, false),
        Touch::Write => locks.io(client, true, false),
        Touch::Change => locks.change(client),
    }
}

/// Gets whoever is in the way of `client` out of it. Keep what is returned until the file has been
/// changed: meanwhile nobody gets a delegation.
///
/// # Errors
/// See [`Blocked`].
pub async fn touch(
    server: &Arc<Shared>,
    file: &Arc<File>,
    client: Option<ClientId>,
    touch: Touch,
    patience: Duration,
) -> Result<Option<Passing>, Blocked> {
    // Only these are opened, and with that delegated.
    if file.kind() != FileKind::Regular {
        return Ok(None);
    }
    let locks = file.locks();
    let passing = (touch != Touch::Read).then(|| locks.passing());
    if let Err(conflict) = check(locks, client, touch) {
        // Seldom: its future is not to make everybody's larger.
        Box::pin(contend(server, locks, conflict, (client, touch), patience)).await?;
    }
    Ok(passing)
}

async fn contend(
    server: &Arc<Shared>,
    locks: &FileLocks,
    mut conflict: Conflict,
    (client, touch): (Option<ClientId>, Touch),
    patience: Duration,
) -> Result<(), Blocked> {
    let end = exec::now() + patience;
    for _ in 0..TRIES {
        match conflict {
            Conflict::Deleg(held) => {
                let left = end.saturating_duration_since(exec::now());
                if !returned(server, locks, &held, left).await {
                    return Err(Blocked::Recalled);
                }
            }
            Conflict::Share(holder) | Conflict::Lock(holder, _) => {
                match expired(server, holder.client).await {
                    Ok(true) => {}
                    Ok(false) => return Err(Blocked::Denied),
                    Err(_) => return Err(Blocked::Recalled),
                }
            }
            Conflict::Full | Conflict::Host(..) => return Err(Blocked::Recalled),
        }
        conflict = match check(locks, client, touch) {
            Ok(()) => return Ok(()),
            Err(conflict) => conflict,
        };
    }
    Err(Blocked::Recalled)
}

/// As [`touch`], for the file behind a name, if there is one anybody has state on. One delegated only
/// after this has looked is as if it had been opened just before the change.
///
/// # Errors
/// See [`Blocked`].
pub async fn touch_name(
    server: &Arc<Shared>,
    (cred, dir, name): (&Cred, &Arc<File>, &Name),
    client: Option<ClientId>,
    what: Touch,
    patience: Duration,
) -> Result<Option<Passing>, Blocked> {
    if !server.vfs.table.locks.any_delegated() || name.is_special() {
        return Ok(None);
    }
    let touched = async {
        match server.vfs.held(cred, dir, name).await {
            Some(file) => touch(server, &file, client, what, patience).await,
            None => Ok(None),
        }
    };
    Box::pin(touched).await
}

/// [`touch`] for a request of version 3.
///
/// # Errors
/// `JUKEBOX` while a delegation is on its way back, `ACCES` where a deny mode forbids it.
pub async fn touch3(cx: &Cx, file: &Opened, what: Touch) -> Result<Option<Passing>, Nfsstat3> {
    let touched = touch(&cx.server, &file.file, None, what, PATIENCE_V3);
    Ok(touched.await?)
}

/// [`touch_name`] for a request of version 3.
///
/// # Errors
/// As [`touch3`].
pub async fn touch_name3(
    cx: &Cx,
    dir: &Opened,
    name: &Name,
    what: Touch,
) -> Result<Option<Passing>, Nfsstat3> {
    let at = (&dir.cred, &dir.file, name);
    Ok(touch_name(&cx.server, at, None, what, PATIENCE_V3).await?)
}
