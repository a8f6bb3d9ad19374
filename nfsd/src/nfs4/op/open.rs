//! OPEN: opens a regular file, creating it if necessary (RFC 8881 18.16, RFC 7530 16.16).
//!
//! First the file is found or made and permission is judged; then owner, open and share reservation
//! come in one step; then a size is set, which others' deny modes may forbid; then a delegation may
//! come with it. What fails on the way takes back what was granted.

pub mod args;
pub(super) mod deleg;

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use vfs::locks::{Access, DelegKind, Deny};
use vfs::{CreateHow, FileKind, NewAcls, SetAttr};

use crate::cx::{Opened, Reply};
use crate::nfs3::made::Settle;
use crate::nfs4::attr::{self, Setting, bit};
use crate::nfs4::compound::{Compound, Place};
use crate::nfs4::durable;
use crate::nfs4::reply::{beside, change_info, name};
use crate::nfs4::state::client::Client;
use crate::nfs4::state::open::{By, Granted, OpenRequest, Refusal};
use crate::nfs4::state::stateid::Kind;
use crate::nfs4::stateful::{self, Start, TRIES, file_key, give_way};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Bitmap4, ChangeInfo4, Component4, Stateid4};
use args::{
    Claim4, Createhow4, OpenArgs, OpenRes, RESULT_CONFIRM, RESULT_LOCKTYPE_POSIX,
    RESULT_MAY_NOTIFY_LOCK, Want,
};

/// A file found or made, to be opened.
struct Found {
    opened: Opened,
    cinfo: ChangeInfo4,
    /// This very request made it.
    fresh: bool,
    /// Attributes set with that.
    attrset: Bitmap4,
    /// A size it shall get once it is open.
    size: Option<u64>,
}

/// What an open asks for.
#[derive(Clone, Copy)]
struct Shares {
    access: Access,
    deny: Deny,
    want: Want,
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: OpenArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    c.place()?;
    args.sane(c.minor)?;
    let client = c.client_named(args.owner.clientid)?;
    // Whatever becomes of it (RFC 7530 9.5): who waits for others to return a delegation must not expire.
    stateful::renew(c, &client);
    let owner = args.owner.owner.0;
    if c.minor > 0 {
        return open(c, &args, &client, By::Name(owner), out).await;
    }
    let request = (args.seqid, fingerprint(c, &args));
    let begun = stateful::begin_open(c, &client, owner, request, out).await?;
    let (running, key) = match begun {
        (Start::Run(running), key) => (running, key),
        (Start::Answered(answer), _) => return answer,
    };
    let done = open(c, &args, &client, By::Owner(key), out).await;
    let fh = match (&done, &c.current) {
        (Ok(()), Some(place)) => c.fh(place).ok(),
        _ => None,
    };
    stateful::finish(c, running, done, fh.as_deref(), out)
}

/// Tells one OPEN from another: an owner that nobody has confirmed may begin anew with any `seqid`.
fn fingerprint(c: &Compound<'_>, args: &OpenArgs<'_>) -> u64 {
    let fh = c.place().and_then(|place| c.fh(place)).unwrap_or_default();
    let name = match args.claim {
        Claim4::Null(name) => name.0,
        _ => b"",
    };
    let shares = (args.share_access, args.share_deny, args.openhow.is_some());
    FixedState::default().hash_one((fh.as_slice(), name, shares))
}

async fn open(
    c: &mut Compound<'_>,
    args: &OpenArgs<'_>,
    client: &Arc<Client>,
    by: By<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let (access, deny, want) = args.shares(c.minor)?;
    let shares = Shares { access, deny, want };
    let _reclaim = match args.claim {
        Claim4::Previous(_) => Some(c.may_reclaim(client)?),
        Claim4::DelegatePrev(_) | Claim4::DelegPrevFh => return Err(Nfsstat4::Notsupp),
        _ => {
            c.may_begin(client)?;
            durable::begins(&c.cx.server, client).await?;
            None
        }
    };
    let found = find(c, args, client).await?;
    if !found.fresh {
        permit(c, &found.opened, access).await?;
    }
    if access.contains(Access::WRITE) {
        found.opened.writable()?;
    }
    let reclaims = matches!(args.claim, Claim4::Previous(_));
    let denied = if reclaims {
        Nfsstat4::ReclaimConflict
    } else {
        Nfsstat4::ShareDenied
    };
    let granted = acquire(c, client, by, &found.opened, shares, denied).await?;
    if let (true, By::Owner(key)) = (reclaims, by) {
        client.lock().holdings.confirm_owner(key);
    }
    let done = complete(c, args, client, &found, &granted, shares, out).await;
    match done {
        Ok(()) => {
            c.set_current(Place::File(found.opened));
            if c.minor > 0 {
                c.stateid = Some(granted.stateid);
            }
            Ok(())
        }
        Err(status) => {
            let home = c.home(client);
            let removed = client.lock().holdings.undo_open(home, &granted);
            drop(removed);
            Err(status)
        }
    }
}

/// What follows once the file is open: its size, a delegation, the answer.
async fn complete(
    c: &Compound<'_>,
    args: &OpenArgs<'_>,
    client: &Arc<Client>,
    found: &Found,
    granted: &Granted,
    shares: Shares,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let mut attrset = found.attrset;
    durable::settled(&c.cx.server).await?;
    if let Some(size) = found.size {
        if !found.fresh && !shares.access.contains(Access::WRITE) {
            return Err(Nfsstat4::Inval);
        }
        resize(c, &found.opened, size).await?;
        attrset.insert(bit::SIZE);
    }
    let reclaims = matches!(args.claim, Claim4::Previous(_));
    let unconfirmed = granted.unconfirmed && !reclaims;
    let kind = match args.claim {
        Claim4::Previous(held) => held.kind().ok_or(args::WhyNone::NotWanted),
        _ => deleg::kind(c.minor, shares.access, shares.want, !unconfirmed),
    };
    // What the holder says of the file later is compared with this.
    let change = match kind {
        Ok(DelegKind::Write) if reclaims || stateful::callback_ok(c, client) => {
            c.cx.server.vfs.getattr(&found.opened.file).await?.change
        }
        _ => 0,
    };
    let delegated = deleg::grant(c, client, &found.opened, (kind, reclaims), change).await;
    let mut rflags = RESULT_LOCKTYPE_POSIX;
    if unconfirmed {
        rflags |= RESULT_CONFIRM;
    }
    if c.minor > 0 && c.state().recaller.get().is_some() {
        rflags |= RESULT_MAY_NOTIFY_LOCK;
    }
    out.put(&OpenRes {
        stateid: granted.stateid,
        cinfo: found.cinfo.clone(),
        rflags,
        attrset,
        delegation: deleg::answer(delegated, shares.want),
    })?;
    Ok(())
}

async fn resize(c: &Compound<'_>, opened: &Opened, size: u64) -> Result<(), Nfsstat4> {
    let set = SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    let vfs = &c.cx.server.vfs;
    let changed = vfs.setattr(&opened.cred, &opened.file, &set, None).await;
    changed.result?;
    Ok(c.cx.settle(opened, &[&opened.file]).await?)
}

/// Gets owner, open and share reservation, with others out of the way.
async fn acquire(
    c: &Compound<'_>,
    client: &Arc<Client>,
    by: By<'_>,
    opened: &Opened,
    shares: Shares,
    denied: Nfsstat4,
) -> Result<Granted, Nfsstat4> {
    let home = c.home(client);
    for _ in 0..TRIES {
        let request = OpenRequest {
            by,
            locks: opened.file.locks(),
            access: shares.access,
            deny: shares.deny,
            user: opened.cred.uid(),
            pin: Some(opened.file.pin()?),
            limit: c.state().config.states_per_client,
        };
        let tried = stateful::live(client)?.holdings.open(home, request);
        match tried {
            Ok(granted) => return Ok(granted),
            Err(Refusal::Status(status)) => return Err(status),
            Err(Refusal::Conflict(conflict)) => {
                give_way(c, opened.file.locks(), conflict, denied).await?;
            }
        }
    }
    Err(Nfsstat4::Delay)
}

/// Whether the caller may open an existing file like this.
async fn permit(c: &Compound<'_>, opened: &Opened, access: Access) -> Result<(), Nfsstat4> {
    match opened.file.kind() {
        FileKind::Regular => {}
        FileKind::Directory => return Err(Nfsstat4::Isdir),
        FileKind::Symlink => return Err(Nfsstat4::Symlink),
        // The arguments are not to blame: RFC 7530 16.16.6 says so of devices, too.
        _ if c.minor == 0 => return Err(Nfsstat4::Symlink),
        _ => return Err(Nfsstat4::WrongType),
    }
    let (read, write) = (
        access.contains(Access::READ),
        access.contains(Access::WRITE),
    );
    if write {
        opened.writable()?;
    }
    let vfs = &c.cx.server.vfs;
    vfs.open_check(&opened.cred, &opened.file, read, write)
        .await?;
    Ok(())
}

/// The file a claim names.
async fn find(
    c: &Compound<'_>,
    args: &OpenArgs<'_>,
    client: &Arc<Client>,
) -> Result<Found, Nfsstat4> {
    match args.claim {
        Claim4::Null(component) => match &args.openhow {
            None => look_up(c, component).await,
            Some(how) => make(c, component, how).await,
        },
        Claim4::DelegateCur(stateid, component) => {
            let found = look_up(c, component).await?;
            delegated(c, &stateid, client, &found.opened)?;
            Ok(found)
        }
        Claim4::DelegCurFh(stateid) => {
            let found = current(c).await?;
            delegated(c, &stateid, client, &found.opened)?;
            Ok(found)
        }
        _ => current(c).await,
    }
}

/// The current filehandle is the file.
async fn current(c: &Compound<'_>) -> Result<Found, Nfsstat4> {
    let Place::File(opened) = c.place()? else {
        return Err(Nfsstat4::Isdir);
    };
    let attr = c.cx.server.vfs.getattr(&opened.file).await?;
    Ok(there(opened.clone(), attr.change))
}

/// A file that was there before.
fn there(opened: Opened, change: u64) -> Found {
    Found {
        opened,
        cinfo: ChangeInfo4 {
            atomic: true,
            before: change,
            after: change,
        },
        fresh: false,
        attrset: Bitmap4::EMPTY,
        size: None,
    }
}

async fn look_up(c: &Compound<'_>, component: Component4<'_>) -> Result<Found, Nfsstat4> {
    let name = name(component)?;
    let change = match c.place()? {
        Place::File(dir) => {
            crate::nfs4::reply::directory(dir)?;
            c.cx.server.vfs.getattr(&dir.file).await?.change
        }
        Place::Pseudo(_) => 0,
    };
    match c.walk(c.place()?, &name).await? {
        Place::File(opened) => Ok(there(opened, change)),
        Place::Pseudo(_) => Err(Nfsstat4::Isdir),
    }
}

/// The delegation an open is claimed under must be the client's, and of that file.
fn delegated(
    c: &Compound<'_>,
    stateid: &Stateid4,
    client: &Arc<Client>,
    opened: &Opened,
) -> Result<(), Nfsstat4> {
    let target = stateful::target(c, stateid)?;
    if target.client.number != client.number {
        return Err(Nfsstat4::BadStateid);
    }
    let file = Some(file_key(&opened.file));
    let inner = client.lock();
    let held = &inner.holdings;
    held.check(
        c.home(client),
        target.name,
        target.seqid,
        &[Kind::Deleg],
        file,
    )
}

/// Finds or makes a file of this name. A size for one that is there waits until it is open.
async fn make(
    c: &Compound<'_>,
    component: Component4<'_>,
    how: &Createhow4<'_>,
) -> Result<Found, Nfsstat4> {
    let dir = c.dir()?;
    let name = name(component)?;
    dir.writable()?;
    let Plan { setting, how, acls } = plan(c, dir, how).await?;
    let vfs = &c.cx.server.vfs;
    let way = match (&acls, &how) {
        (None, CreateHow::Unchecked(set) | CreateHow::Guarded(set)) => Settle::of(set),
        _ => Settle::Both,
    };
    let created = match &acls {
        None => vfs.create(&dir.cred, &dir.file, &name, how).await,
        Some(acls) => {
            let with = vfs.create_with_acls(&dir.cred, &dir.file, &name, how, acls);
            Box::pin(with).await
        }
    };
    let (file, _) = match acls {
        None => created.result?,
        Some(_) => created.result.map_err(attr::acl::refused)?,
    };
    if created.fresh {
        way.made(c.cx, dir, &file).await?;
    }
    let Place::File(opened) = beside(dir, file) else {
        return Err(Nfsstat4::Serverfault);
    };
    let attrset = if created.fresh {
        setting.mask
    } else {
        Bitmap4::EMPTY
    };
    Ok(Found {
        opened,
        cinfo: change_info(&created.dir),
        fresh: created.fresh,
        attrset,
        // A new file is empty. One that was there is emptied or left as it is (RFC 8881 18.16.3).
        size: setting.set.size.filter(|size| created.fresh == (*size > 0)),
    })
}

/// What the VFS is asked to do, and which attributes that sets.
struct Plan {
    setting: Setting,
    how: CreateHow,
    acls: Option<NewAcls>,
}

async fn plan(c: &Compound<'_>, dir: &Opened, how: &Createhow4<'_>) -> Result<Plan, Nfsstat4> {
    let attrs = match how {
        Createhow4::Unchecked(attrs)
        | Createhow4::Guarded(attrs)
        | Createhow4::Exclusive41(_, attrs) => attrs,
        Createhow4::Exclusive(verifier) => {
            // They may hold the verifier: the client sets them again (RFC 8881 18.16.3).
            let mask = Bitmap4::of(&[bit::TIME_ACCESS, bit::TIME_MODIFY]);
            return Ok(Plan {
                setting: Setting {
                    mask,
                    ..Setting::default()
                },
                how: CreateHow::Exclusive(*verifier),
                acls: None,
            });
        }
    };
    let (setting, acls) = attr::acl::initial(c, dir, attrs, FileKind::Regular).await?;
    let set = SetAttr {
        size: None,
        ..setting.set
    };
    let how = match how {
        Createhow4::Exclusive41(verifier, _) => CreateHow::ExclusiveAttrs(*verifier, set),
        Createhow4::Guarded(_) => CreateHow::Guarded(set),
        _ => CreateHow::Unchecked(set),
    };
    Ok(Plan { setting, how, acls })
}
