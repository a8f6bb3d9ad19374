//! What operations on state share: from a stateid to whose and what it is, whether it lets read or
//! write (RFC 8881 8.2.3 to 8.2.5, RFC 7530 9.1.4, 9.1.6), the order of an owner's requests in 4.0
//! (RFC 7530 9.1.7 to 9.1.11), and what is done about whoever is in the way.

use std::sync::{Arc, MutexGuard};

use vfs::exec;
use vfs::locks::{Access, ClientId, Conflict, FileLocks, Passing};
use vfs::order::TurnGuard;
use vfs::{File, FileKind, Name};

use super::Op4;
use super::compound::{Compound, Place};
use super::durable;
use super::state::State;
use super::state::client::{Client, Inner};
use super::state::grace::{Reclaim, Refused};
use super::state::holdings::{FileKey, OwnerKey};
use super::state::owner::{Answer, Step};
use super::state::stateid::{self, Given, Home, Name as StateName};
use super::status::Nfsstat4;
use super::types::{Clientid4, Stateid4};
use crate::conflict::{self, Touch};
use crate::cx::{Opened, Reply};

/// How often an operation tries again after it got somebody out of the way: as many clients as have gone
/// and left a file open can be in its way, one after the other.
pub const TRIES: usize = 4096;

impl Compound<'_> {
    /// All state of all clients.
    pub fn state(&self) -> &State {
        &self.cx.server.state
    }

    /// Clients may get back what they held before a restart, and nothing else (RFC 8881 8.4.2).
    pub fn in_grace(&self) -> bool {
        self.cx.server.grace.in_grace()
    }

    /// Lets a client get state back. Keep what is returned until it has it.
    ///
    /// # Errors
    /// `NO_GRACE`, `RECLAIM_BAD`.
    pub fn may_reclaim(&self, client: &Client) -> Result<Reclaim, Nfsstat4> {
        let key = durable::key(client).ok_or(Nfsstat4::ReclaimBad)?;
        let principal = client.principal.to_string();
        let grace = &self.cx.server.grace;
        let allowed = grace.may_reclaim(&key, &principal, exec::now());
        allowed.map_err(|refused| match refused {
            Refused::NoGrace => Nfsstat4::NoGrace,
            Refused::ReclaimBad => Nfsstat4::ReclaimBad,
        })
    }

    /// Whether a client may get new state now, as far as grace is concerned.
    ///
    /// # Errors
    /// `GRACE`.
    pub fn may_begin(&self, client: &Arc<Client>) -> Result<(), Nfsstat4> {
        // Nor before a client of 4.1 has said that there is nothing it wants back (RFC 8881 18.51.3).
        let reclaims = client.has_sessions() && !client.reclaim_is_complete();
        durable::goes_on(&self.cx.server, client);
        if self.in_grace() || reclaims {
            Err(Nfsstat4::Grace)
        } else {
            Ok(())
        }
    }

    /// Whether a name may go now. Not before whoever had the file open has opened it again: it is
    /// there for who has it open, with a name or without.
    ///
    /// # Errors
    /// `GRACE`.
    pub fn may_unlink(&self) -> Result<(), Nfsstat4> {
        match self.in_grace() {
            true => Err(Nfsstat4::Grace),
            false => Ok(()),
        }
    }

    /// The client that asks: the session's, or in 4.0 the one it names.
    ///
    /// # Errors
    /// `STALE_CLIENTID`, `EXPIRED`, `OP_NOT_IN_SESSION`.
    pub fn client_named(&self, clientid: Clientid4) -> Result<Arc<Client>, Nfsstat4> {
        if self.minor > 0 {
            return self.client().cloned();
        }
        let client = self.state().client_40(clientid)?;
        let speaker = Some(self.home(&client).client_id());
        self.cx.client.speaker.set(speaker);
        Ok(client)
    }

    /// Whose state it is, to make stateids of.
    pub fn home(&self, client: &Client) -> Home {
        Home {
            epoch: self.state().epoch,
            client: client.number,
            minor: self.minor,
        }
    }

    /// The current filehandle as a regular file.
    ///
    /// # Errors
    /// `NOFILEHANDLE`; `ISDIR`, `SYMLINK`, `WRONG_TYPE`, in 4.0 `INVAL`.
    pub fn regular(&self) -> Result<&Opened, Nfsstat4> {
        let Place::File(opened) = self.place()? else {
            return Err(Nfsstat4::Isdir);
        };
        match opened.file.kind() {
            FileKind::Regular => Ok(opened),
            FileKind::Directory => Err(Nfsstat4::Isdir),
            _ if self.minor == 0 => Err(Nfsstat4::Inval),
            FileKind::Symlink => Err(Nfsstat4::Symlink),
            _ => Err(Nfsstat4::WrongType),
        }
    }
}

/// State a stateid names: its client is known, the rest not looked at yet.
#[derive(Clone)]
pub struct Target {
    /// Whose.
    pub client: Arc<Client>,
    /// What.
    pub name: StateName,
    /// Which version of it.
    pub seqid: u32,
}

/// A stateid of the arguments.
#[derive(Clone)]
pub enum Resolved {
    /// No open.
    Anonymous,
    /// No open, and reads pass share reservations.
    Bypass,
    /// Some client's state.
    Of(Target),
}

/// Which file an operation is on, for comparison with a stateid's.
pub fn file_key(file: &File) -> FileKey {
    FileKey::of(file.locks())
}

/// Finds out whose a stateid is.
///
/// # Errors
/// `BAD_STATEID`, also for another client's than the session's; `STALE_STATEID`, `EXPIRED` (4.0).
pub fn resolve(c: &Compound<'_>, stateid: &Stateid4) -> Result<Resolved, Nfsstat4> {
    let current = || c.stateid.ok_or(Nfsstat4::BadStateid);
    let given = stateid::given(stateid, c.minor).map_err(|status| {
        if c.minor == 0 && stateid::of_another_start(stateid.other, c.state().epoch) {
            Nfsstat4::StaleStateid
        } else {
            status
        }
    });
    let (stateid, what) = match given? {
        Given::Current => {
            let current = current()?;
            (current, stateid::given(&current, c.minor)?)
        }
        what => (*stateid, what),
    };
    let name = match what {
        Given::Anonymous => return Ok(Resolved::Anonymous),
        Given::Bypass => return Ok(Resolved::Bypass),
        Given::Current => return Err(Nfsstat4::BadStateid),
        Given::Of(name) => name,
    };
    let client = if c.minor > 0 {
        // A restart shows in the session (RFC 8881 15.1.16.5).
        let client = c.client()?;
        let own = (name.epoch, name.client) == (c.state().epoch, client.number);
        own.then(|| client.clone()).ok_or(Nfsstat4::BadStateid)?
    } else {
        if name.epoch != c.state().epoch {
            return Err(Nfsstat4::StaleStateid);
        }
        let clientid = u64::from(name.epoch) << 32 | u64::from(name.client);
        let client = c.state().client_40(clientid);
        let client = client.map_err(|status| match status {
            Nfsstat4::Expired => Nfsstat4::Expired,
            _ => Nfsstat4::BadStateid,
        })?;
        let speaker = Some(c.home(&client).client_id());
        c.cx.client.speaker.set(speaker);
        client
    };
    Ok(Resolved::Of(Target {
        client,
        name,
        seqid: stateid.seqid,
    }))
}

/// As [`resolve`], where only a client's state will do.
///
/// # Errors
/// As [`resolve`]; `BAD_STATEID` for the special ones.
pub fn target(c: &Compound<'_>, stateid: &Stateid4) -> Result<Target, Nfsstat4> {
    match resolve(c, stateid)? {
        Resolved::Of(target) => Ok(target),
        Resolved::Anonymous | Resolved::Bypass => Err(Nfsstat4::BadStateid),
    }
}

/// What lets an operation read or write the current file.
pub struct Grant {
    /// It was decided when the file was opened that this may be done; otherwise mode and ACL decide
    /// now.
    pub decided: bool,
    /// Whose stateid it was; `None` for a special one.
    pub client: Option<Arc<Client>>,
    /// Keep it until the operation is done: without an open, it shows that something goes on.
    pub passing: Option<Passing>,
}

/// Whether `stateid` lets read, or `write`, `opened`: READ, WRITE, SETATTR of a size, and what copies
/// or punches. An open's access counts, and so does that of the open locks are under.
///
/// # Errors
/// The stateid's; `OPENMODE`, `LOCKED`, `DELAY` while a delegation is recalled, `GRACE`.
pub async fn io_grant(
    c: &Compound<'_>,
    opened: &Opened,
    stateid: &Stateid4,
    write: bool,
) -> Result<Grant, Nfsstat4> {
    match resolve(c, stateid)? {
        Resolved::Of(target) => held_grant(c, opened, target, write),
        Resolved::Anonymous => Box::pin(special_grant(c, opened, write, false)).await,
        Resolved::Bypass => Box::pin(special_grant(c, opened, write, true)).await,
    }
}

fn held_grant(
    c: &Compound<'_>,
    opened: &Opened,
    target: Target,
    write: bool,
) -> Result<Grant, Nfsstat4> {
    let home = c.home(&target.client);
    let (access, judged) = {
        let inner = target.client.lock();
        let (held, name) = (&inner.holdings, target.name);
        let access = held.io_access(home, name, target.seqid, file_key(&opened.file))?;
        (access, held.judged(name))
    };
    let wanted = if write { Access::WRITE } else { Access::READ };
    let has = access.contains(wanted);
    // Some clients must read what they write only parts of: who opened for writing may, if the mode
    // and everybody else let them (RFC 8881 9.1.2, RFC 7530 9.1.6).
    let own = Some(home.client_id());
    if !has && (write || opened.file.locks().io(own, false, false).is_err()) {
        return Err(Nfsstat4::Openmode);
    }
    renew(c, &target.client);
    durable::goes_on(&c.cx.server, &target.client);
    Ok(Grant {
        // A delegation stands for opens the server has not seen, and a stateid is no secret that would
        // let another user do what the opener may.
        decided: has && judged == Some(opened.cred.uid()),
        client: Some(target.client),
        passing: None,
    })
}

async fn special_grant(
    c: &Compound<'_>,
    opened: &Opened,
    write: bool,
    bypass: bool,
) -> Result<Grant, Nfsstat4> {
    // Whatever forbids it may be about to be reclaimed (RFC 8881 8.4.2.1).
    if c.in_grace() && (write || !bypass) {
        return Err(Nfsstat4::Grace);
    }
    let locks = opened.file.locks();
    let passing = locks.passing();
    let own = requester(c, None);
    for _ in 0..TRIES {
        match locks.io(own, write, bypass) {
            Ok(()) => {
                return Ok(Grant {
                    decided: false,
                    client: None,
                    passing: Some(passing),
                });
            }
            Err(conflict) => give_way(c, locks, conflict, Nfsstat4::Locked).await?,
        }
    }
    Err(Nfsstat4::Delay)
}

/// Deals with whoever is in the way of something on a file: `Ok` to try again. Waits a little for
/// delegations to come back. No client may be held.
///
/// # Errors
/// `denied` when a client that is alive has what is asked for, `DELAY` while delegations are
/// recalled, `RESOURCE` or `DELAY` when there is no room.
pub async fn give_way(
    c: &Compound<'_>,
    locks: &Arc<FileLocks>,
    conflict: Conflict,
    denied: Nfsstat4,
) -> Result<(), Nfsstat4> {
    let server = &c.cx.server;
    match conflict {
        Conflict::Share(holder) | Conflict::Lock(holder, _) => {
            match Box::pin(conflict::expired(server, holder.client)).await? {
                true => Ok(()),
                false => Err(denied),
            }
        }
        Conflict::Deleg(held) => {
            let back = conflict::returned(server, locks, &held, conflict::PATIENCE_V4);
            Box::pin(back).await.then_some(()).ok_or(Nfsstat4::Delay)
        }
        Conflict::Full if c.minor == 0 => Err(Nfsstat4::Resource),
        Conflict::Full | Conflict::Host(..) => Err(Nfsstat4::Delay),
    }
}

/// Whose request it is, as the tables of files know it: the session's client, or in 4.0 that of a
/// stateid if there is one, or the one this connection is used by.
pub(super) fn requester(c: &Compound<'_>, stateid: Option<&Stateid4>) -> Option<ClientId> {
    if let Ok(client) = c.client() {
        return Some(c.home(client).client_id());
    }
    match stateid.map(|stateid| resolve(c, stateid)) {
        Some(Ok(Resolved::Of(target))) => Some(c.home(&target.client).client_id()),
        _ if c.minor == 0 => c.cx.client.speaker.get(),
        _ => None,
    }
}

/// Others' delegations of a file whose attributes or names are about to change come back first. Keep
/// what is returned until that is done.
///
/// # Errors
/// `DELAY`.
pub async fn change(
    c: &Compound<'_>,
    opened: &Opened,
    stateid: Option<&Stateid4>,
) -> Result<Option<Passing>, Nfsstat4> {
    // Also while nothing is delegated: it could be before the change is made.
    let (file, own) = (&opened.file, requester(c, stateid));
    let touched = conflict::touch(
        &c.cx.server,
        file,
        own,
        Touch::Change,
        conflict::PATIENCE_V4,
    );
    Ok(touched.await?)
}

/// As [`change`], of the file behind a name.
///
/// # Errors
/// `DELAY`.
pub async fn touch_name(
    c: &Compound<'_>,
    dir: &Opened,
    name: &Name,
) -> Result<Option<Passing>, Nfsstat4> {
    let (at, own) = ((&dir.cred, &dir.file, name), requester(c, None));
    let patience = conflict::PATIENCE_V4;
    let touched = conflict::touch_name(&c.cx.server, at, own, Touch::Change, patience);
    Ok(touched.await?)
}

/// A client that is still there, to give it something.
///
/// # Errors
/// `EXPIRED`.
pub fn live(client: &Client) -> Result<MutexGuard<'_, Inner>, Nfsstat4> {
    client.live()
}

/// Callbacks reach the client, so that it can be given delegations.
pub fn callback_ok(c: &Compound<'_>, client: &Client) -> bool {
    let recaller = c.state().recaller.get();
    recaller.is_some_and(|recaller| recaller.reaches(client))
}

/// A 4.0 client is there: what it does on state renews its lease (RFC 7530 9.5).
pub fn renew(c: &Compound<'_>, client: &Client) {
    if c.minor == 0 {
        c.state().renew(client, exec::now());
    }
}

/// A request in the order of its owner's, while it runs (4.0).
pub struct Running {
    client: Arc<Client>,
    owner: OwnerKey,
    op: Op4,
    seqid: u32,
    request: u64,
    body: usize,
    _turn: Option<TurnGuard>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let OwnerKey::Open(key) = self.owner {
            self.client.lock().holdings.rest(key);
        }
    }
}

/// What becomes of a request with a `seqid`.
pub enum Start {
    /// It runs; [`finish`] it. `None` where there are no such sequences (4.1).
    Run(Option<Running>),
    /// It has run before: this is the answer, already appended.
    Answered(Result<(), Nfsstat4>),
}

/// Waits for the turn of a request on an open or a set of locks, and looks at its `seqid`.
///
/// # Errors
/// `BAD_SEQID`, `BAD_STATEID`.
pub async fn begin(
    c: &mut Compound<'_>,
    target: &Target,
    (op, seqid): (Op4, u32),
    out: &mut Reply,
) -> Result<Start, Nfsstat4> {
    if c.minor > 0 {
        return Ok(Start::Run(None));
    }
    let client = target.client.clone();
    let (owner, turn) = {
        let inner = client.lock();
        let owner = inner.holdings.owner_of(target.name);
        let owner = owner.ok_or(Nfsstat4::BadStateid)?;
        let turn = match owner {
            OwnerKey::Open(key) => inner.holdings.open_owner_at(key).map(|o| o.turn.clone()),
            OwnerKey::Lock(_) => None,
        };
        (owner, turn)
    };
    let turn = match turn {
        Some(turn) => Some(turn.take().await),
        None => None,
    };
    let step = client.lock().holdings.step(owner, op, seqid)?;
    let running = Running {
        client,
        owner,
        op,
        seqid,
        request: 0,
        body: out.bytes.len(),
        _turn: turn,
    };
    started(c, running, step, out).await
}

/// As [`begin`], for OPEN, whose owner may be new. `request` tells requests apart.
///
/// # Errors
/// As [`begin`].
pub async fn begin_open(
    c: &mut Compound<'_>,
    client: &Arc<Client>,
    name: &[u8],
    (seqid, request): (u32, u64),
    out: &mut Reply,
) -> Result<(Start, u32), Nfsstat4> {
    for _ in 0..TRIES {
        let (key, turn) = {
            let mut inner = live(client)?;
            let key = inner.holdings.open_owner(name, false);
            let turn = inner.holdings.open_owner_at(key).map(|o| o.turn.clone());
            (key, turn.unwrap_or_default())
        };
        let turn = turn.take().await;
        let stepped = client.lock().holdings.step_open(key, seqid, request);
        let (step, removed) = match stepped {
            Ok(stepped) => stepped,
            // Forgotten while this one waited for its turn.
            Err(Nfsstat4::BadStateid) => continue,
            Err(status) => return Err(status),
        };
        drop(removed);
        let running = Running {
            client: client.clone(),
            owner: OwnerKey::Open(key),
            op: Op4::Open,
            seqid,
            request,
            body: out.bytes.len(),
            _turn: Some(turn),
        };
        return Ok((started(c, running, step, out).await?, key));
    }
    Err(Nfsstat4::Delay)
}

async fn started(
    c: &mut Compound<'_>,
    running: Running,
    step: Step,
    out: &mut Reply,
) -> Result<Start, Nfsstat4> {
    let answer = match step {
        Step::Next => return Ok(Start::Run(Some(running))),
        Step::Again(answer) => answer,
    };
    drop(running);
    out.bytes.extend_from_slice(&answer.body);
    if let Some(fh) = &answer.fh {
        let place = Box::pin(c.open(fh)).await?;
        c.set_current(place);
    }
    Ok(Start::Answered(match answer.status {
        Nfsstat4::Ok => Ok(()),
        status => Err(status),
    }))
}

/// Keeps what a request came to, for a retransmission; `fh` is the current filehandle it left.
///
/// # Errors
/// The request's own.
pub fn finish(
    c: &Compound<'_>,
    running: Option<Running>,
    done: Result<(), Nfsstat4>,
    fh: Option<&[u8]>,
    out: &Reply,
) -> Result<(), Nfsstat4> {
    if let Some(running) = running {
        let status = done.err().unwrap_or(Nfsstat4::Ok);
        let has_body = matches!(status, Nfsstat4::Ok | Nfsstat4::Denied);
        let body = out.bytes.get(running.body..).filter(|_| has_body);
        let answer = Answer {
            op: running.op,
            status,
            body: body.unwrap_or_default().into(),
            fh: fh.map(Into::into),
            request: running.request,
        };
        let mut inner = running.client.lock();
        inner
            .holdings
            .answered(running.owner, running.seqid, answer);
        drop(inner);
        // Also who is refused has said something.
        renew(c, &running.client);
    }
    done
}
