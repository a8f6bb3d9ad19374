//! LOCK: locks a range (RFC 8881 18.10, RFC 7530 16.10).

use std::sync::Arc;

use vfs::exec;
use vfs::locks::{Conflict, HOST, Held, Holder, LockKind, Notify, OwnerId, Range, Waiting};

use crate::cx::{Opened, Reply};
use crate::deadlock;
use crate::host;
use crate::nfs4::Op4;
use crate::nfs4::compound::{Compound, Place};
use crate::nfs4::durable;
use crate::nfs4::state::client::Client;
use crate::nfs4::state::deleg::Waiter;
use crate::nfs4::state::lock::LockRequest;
use crate::nfs4::state::open::Refusal;
use crate::nfs4::state::stateid::Kind;
use crate::nfs4::stateful::{self, Start, TRIES, Target, file_key, give_way};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Length4, Offset4, OwnerName4, Seqid4, StateOwner4, Stateid4};
use crate::xdr::{Dec, Decode, Result as XdrResult, xdr_enum, xdr_struct};

xdr_enum! {
    /// `nfs_lock_type4`.
    pub enum LockType4 {
        /// Shared.
        Read = 1 "READ_LT",
        /// Exclusive.
        Write = 2 "WRITE_LT",
        /// Shared, and the client waits for it.
        ReadW = 3 "READW_LT",
        /// Exclusive, and the client waits for it.
        WriteW = 4 "WRITEW_LT",
    }
}

impl LockType4 {
    /// Shared or exclusive.
    #[must_use]
    pub const fn kind(self) -> LockKind {
        match self {
            Self::Read | Self::ReadW => LockKind::Read,
            Self::Write | Self::WriteW => LockKind::Write,
        }
    }

    /// The client will ask again until it gets it.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(self, Self::ReadW | Self::WriteW)
    }

    const fn of(kind: LockKind) -> Self {
        match kind {
            LockKind::Read => Self::Read,
            LockKind::Write => Self::Write,
        }
    }
}

xdr_struct! {
    /// `open_to_lock_owner4`: the first lock under an open.
    pub struct OpenToLockOwner4<'a> {
        /// Of the open-owner (4.0).
        pub open_seqid: Seqid4,
        /// The open.
        pub open_stateid: Stateid4,
        /// Of the lock-owner (4.0).
        pub lock_seqid: Seqid4,
        /// Who locks.
        pub lock_owner: StateOwner4<'a>,
    }

    /// `exist_lock_owner4`: one more.
    pub struct ExistLockOwner4 {
        /// The locks.
        pub lock_stateid: Stateid4,
        /// Of the lock-owner (4.0).
        pub lock_seqid: Seqid4,
    }

    /// `LOCK4denied`.
    pub struct Lock4Denied<'a> {
        /// First byte of what somebody else has locked.
        pub offset: Offset4,
        /// Bytes of it.
        pub length: Length4,
        /// How.
        pub locktype: LockType4,
        /// Who.
        pub owner: StateOwner4<'a>,
    }
}

/// `locker4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locker4<'a> {
    /// An owner that may have no locks under this open yet.
    New(OpenToLockOwner4<'a>),
    /// An owner that has.
    Known(ExistLockOwner4),
}

impl<'a> Decode<'a> for Locker4<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        if dec.bool()? {
            dec.get().map(Locker4::New)
        } else {
            dec.get().map(Locker4::Known)
        }
    }
}

/// `LOCK4args`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockArgs<'a> {
    /// How.
    pub locktype: LockType4,
    /// It was held before the server restarted.
    pub reclaim: bool,
    /// First byte.
    pub offset: Offset4,
    /// Bytes, all ones for up to the end.
    pub length: Length4,
    /// Who.
    pub locker: Locker4<'a>,
}

impl<'a> Decode<'a> for LockArgs<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        Ok(LockArgs {
            locktype: dec.get()?,
            reclaim: dec.get()?,
            offset: dec.get()?,
            length: dec.get()?,
            locker: dec.get()?,
        })
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: LockArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    c.regular()?;
    let range = Range::new(args.offset, args.length).ok_or(Nfsstat4::Inval)?;
    let (stateid, seqid) = match &args.locker {
        Locker4::New(new) => (new.open_stateid, new.open_seqid),
        Locker4::Known(known) => (known.lock_stateid, known.lock_seqid),
    };
    let target = stateful::target(c, &stateid)?;
    if let Locker4::New(new) = &args.locker {
        owned(c, &target, &new.lock_owner)?;
    }
    let running = match stateful::begin(c, &target, (Op4::Lock, seqid), out).await? {
        Start::Run(running) => running,
        Start::Answered(answer) => return answer,
    };
    let done = lock(c, &args, range, &target, out).await;
    stateful::finish(c, running, done, None, out)
}

/// In 4.0 the lock-owner's client is named and must be the open's.
fn owned(c: &Compound<'_>, target: &Target, owner: &StateOwner4<'_>) -> Result<(), Nfsstat4> {
    if c.minor == 0 && c.client_named(owner.clientid)?.number != target.client.number {
        return Err(Nfsstat4::BadStateid);
    }
    Ok(())
}

async fn lock(
    c: &mut Compound<'_>,
    args: &LockArgs<'_>,
    range: Range,
    target: &Target,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let _reclaim = if args.reclaim {
        Some(c.may_reclaim(&target.client)?)
    } else {
        c.may_begin(&target.client)?;
        None
    };
    let (mut claim, since) = (None, exec::now());
    for _ in 0..TRIES {
        durable::settled(&c.cx.server).await?;
        let _hosted = host::locks(c.regular()?, args.locktype.kind()).await?;
        let locked = try_lock(c, args, range, target);
        drop(claim.take());
        let conflict = match locked {
            Ok(stateid) => {
                c.regular()?.file.locks().settled().await;
                // Seldom, and the client keeps it while it asks again.
                durable::settled(&c.cx.server).await?;
                if c.minor > 0 {
                    c.stateid = Some(stateid);
                }
                out.put(&stateid)?;
                return Ok(());
            }
            Err(Refusal::Status(status)) => return Err(status),
            Err(Refusal::Conflict(conflict)) => conflict,
        };
        let conflict = match c.regular()?.file.locks().claim(conflict).await {
            Ok(claimed) => {
                claim = Some(claimed);
                continue;
            }
            Err(conflict) => conflict,
        };
        let held = match &conflict {
            Conflict::Lock(holder, held) => Some((*holder, *held)),
            _ => None,
        };
        if args.reclaim && held.is_some_and(|(holder, _)| host::lingers(holder, since)) {
            exec::sleep(host::PAUSE).await;
            continue;
        }
        let Some(Place::File(opened)) = &c.current else {
            return Err(Nfsstat4::Nofilehandle);
        };
        let gone = give_way(c, opened.file.locks(), conflict, Nfsstat4::Denied).await;
        match (gone, held) {
            (Ok(()), _) => {}
            (Err(Nfsstat4::Denied), _) if args.reclaim => return Err(Nfsstat4::ReclaimConflict),
            (Err(Nfsstat4::Denied), Some((holder, held))) => {
                if args.locktype.waits() {
                    wait(c, args, range, target)?;
                }
                put_denied(c, holder, held, out)?;
                return Err(Nfsstat4::Denied);
            }
            (Err(status), _) => return Err(status),
        }
    }
    Err(Nfsstat4::Delay)
}

fn request(c: &Compound<'_>, args: &LockArgs<'_>, range: Range) -> LockRequest {
    LockRequest {
        range,
        kind: args.locktype.kind(),
        limit: c.state().config.states_per_client,
    }
}

fn try_lock(
    c: &Compound<'_>,
    args: &LockArgs<'_>,
    range: Range,
    target: &Target,
) -> Result<Stateid4, Refusal> {
    let (home, now) = (c.home(&target.client), exec::now());
    let request = request(c, args, range);
    let file = Some(file_key(&c.regular()?.file));
    let (name, seqid) = (target.name, target.seqid);
    let mut inner = stateful::live(&target.client)?;
    let held = &mut inner.holdings;
    match &args.locker {
        Locker4::New(new) => {
            held.check(home, name, seqid, &[Kind::Open], file)?;
            let lock_seqid = (c.minor == 0).then_some(new.lock_seqid);
            let owner = new.lock_owner.owner.0;
            held.lock_under(home, name.key, owner, lock_seqid, request, now)
        }
        Locker4::Known(_) => {
            held.check(home, name, seqid, &[Kind::Lock], file)?;
            held.lock_more(home, name.key, request, now)
        }
    }
}

/// A request that waits, unless in a circle: that ends it.
///
/// # Errors
/// `DEADLOCK`.
fn wait(
    c: &Compound<'_>,
    args: &LockArgs<'_>,
    range: Range,
    target: &Target,
) -> Result<(), Nfsstat4> {
    let Some(Place::File(opened)) = &c.current else {
        return Ok(());
    };
    let home = c.home(&target.client);
    let Ok(inner) = stateful::live(&target.client) else {
        return Ok(());
    };
    let held = &inner.holdings;
    let name: Option<Arc<[u8]>> = match &args.locker {
        Locker4::New(new) => Some(new.lock_owner.owner.0.into()),
        Locker4::Known(_) => {
            let set = held.locks_at(target.name.key);
            set.and_then(|set| held.locker_name(set.guard.holder().owner))
        }
    };
    drop(inner);
    let Some(name) = name else { return Ok(()) };
    if c.minor > 0 {
        join(
            c,
            opened,
            request(c, args, range),
            &target.client,
            name.clone(),
        );
    }
    let client = home.client_id();
    let owner = target.client.lock().holdings.locker_id(home, &name);
    let waiting = Waiting {
        file: opened.file.locks().clone(),
        owner,
        wanted: Held {
            range,
            kind: args.locktype.kind(),
        },
    };
    if !deadlock::of_client(&c.cx.server, Holder { client, owner }, waiting.clone()) {
        return Ok(());
    }
    target.client.lock().holdings.wait_no_more(&waiting);
    Err(Nfsstat4::Deadlock)
}

/// Joins the line, so that the client is called when it may try again (RFC 8881 20.11). It polls
/// anyhow: no harm when there is no room.
fn join(
    c: &Compound<'_>,
    opened: &Opened,
    request: LockRequest,
    client: &Arc<Client>,
    owner: Arc<[u8]>,
) {
    let (Ok(fh), true) = (
        c.cx.fh(opened, &opened.file),
        c.state().recaller.get().is_some(),
    ) else {
        return;
    };
    let home = c.home(client);
    let Ok(mut inner) = stateful::live(client) else {
        return;
    };
    let waiter = Waiter {
        client: home.client,
        owner: owner.clone(),
        fh: fh.as_slice().into(),
    };
    let server = c.cx.server.clone();
    let notify: Notify = Arc::new(move || {
        if let Some(recaller) = server.state.recaller.get() {
            recaller.notify_lock(&waiter);
        }
    });
    let now = exec::now();
    let held = &mut inner.holdings;
    held.lapse_waits(now, c.state().config.lease);
    // Full: the client comes back by itself.
    let _ = held.wait(home, &owner, opened.file.locks(), request, now, notify);
    drop(inner);
    host::watch(&c.cx.server);
}

/// What a process of the host is called.
fn host_name(owner: OwnerId) -> String {
    match owner.0 {
        0 => "host".to_owned(),
        pid => format!("host {pid}"),
    }
}

/// Appends `LOCK4denied`. No client may be held. Whoever is not of this protocol has no name here.
pub(super) fn put_denied(
    c: &Compound<'_>,
    holder: Holder,
    held: Held,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let client = u32::try_from(holder.client.0).ok();
    let client = client.and_then(|number| c.state().client(number));
    let name: Option<Arc<[u8]>> = match &client {
        Some(client) => client.lock().holdings.locker_name(holder.owner),
        None if holder.client == HOST => Some(host_name(holder.owner).into_bytes().into()),
        None => None,
    };
    out.put(&Lock4Denied {
        offset: held.range.offset(),
        length: held.range.length(),
        locktype: LockType4::of(held.kind),
        owner: StateOwner4 {
            clientid: client.map_or(0, |client| client.clientid),
            owner: OwnerName4(name.as_deref().unwrap_or_default()),
        },
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::Enc;

    #[test]
    fn lock_arguments_of_both_kinds() {
        let mut wire = Vec::new();
        let mut enc = Enc::new(&mut wire, 400);
        enc.put(&LockType4::WriteW).expect("fits");
        enc.put(&false).expect("fits");
        enc.put(&7_u64).expect("fits");
        enc.put(&8_u64).expect("fits");
        enc.put(&true).expect("fits");
        let new = OpenToLockOwner4 {
            open_seqid: 1,
            open_stateid: Stateid4::ANONYMOUS,
            lock_seqid: 2,
            lock_owner: StateOwner4 {
                clientid: 3,
                owner: OwnerName4(b"me"),
            },
        };
        enc.put(&new).expect("fits");
        let args: LockArgs<'_> = Dec::new(&wire).get().expect("whole");
        assert_eq!((args.offset, args.length), (7, 8));
        assert_eq!(args.locker, Locker4::New(new));
        wire[27] = 0;
        let args: LockArgs<'_> = Dec::new(&wire).get().expect("whole");
        let Locker4::Known(known) = args.locker else {
            panic!("{args:?}");
        };
        assert_eq!(known.lock_stateid.seqid, 1, "the same bytes read otherwise");
        wire[27] = 2;
        assert!(Dec::new(&wire).get::<LockArgs<'_>>().is_err());
    }

    #[test]
    fn lock_types() {
        for (wire, kind, waits) in [
            (1, LockKind::Read, false),
            (2, LockKind::Write, false),
            (3, LockKind::Read, true),
            (4, LockKind::Write, true),
        ] {
            let locktype = LockType4::from_wire(wire).expect("defined");
            assert_eq!((locktype.kind(), locktype.waits()), (kind, waits));
            assert_eq!(LockType4::of(kind).kind(), kind);
        }
        assert_eq!(LockType4::from_wire(0), None);
    }
}
