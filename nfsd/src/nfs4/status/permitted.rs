//! Which status an operation may answer with (RFC 7530 13.2, RFC 8881 15.2, RFC 7862 11.2, RFC 8276).

use super::Nfsstat4;
use crate::nfs4::Op4;
use Nfsstat4::{
    Access, AdminRevoked, Attrnotsupp, BackChanBusy, BadCookie, BadHighSlot, BadRange, BadSeqid,
    BadSessionDigest, BadStateid, Badchar, Badhandle, Badiomode, Badlayout, Badname, Badowner,
    Badsession, Badslot, Badtype, Badxdr, CbPathDown, ClidInuse, ClientidBusy, CompleteAlready,
    ConnNotBoundToSession, Deadlock, Deadsession, Delay, DelegAlreadyWanted, DelegRevoked, Denied,
    DirdelegUnavail, Dquot, EncrAlgUnsupp, Exist, Expired, Fbig, Fhexpired, FileOpen, Grace,
    HashAlgUnsupp, Inval, Io, Isdir, Layouttrylater, Layoutunavailable, LeaseMoved, LockNotsupp,
    LockRange, Locked, LocksHeld, Mlink, Moved, Nametoolong, NoGrace, Noent, Nofilehandle, Nospc,
    NotOnlyOp, NotSame, Notdir, Notempty, Notsupp, Noxattr, Nxio, OffloadDenied, OffloadNoReqs,
    OldStateid, OpIllegal, OpNotInSession, Openmode, PartnerNoAuth, PartnerNotsupp, Perm,
    PnfsIoHole, PnfsNoLayout, Recallconflict, ReclaimBad, ReclaimConflict, RepTooBig,
    RepTooBigToCache, ReqTooBig, Resource, Restorefh, RetryUncachedRep, Rofs, Same, SeqFalseRetry,
    SeqMisordered, SequencePos, Serverfault, ShareDenied, Stale, StaleClientid, StaleStateid,
    Symlink, TooManyOps, Toosmall, UnionNotsupp, UnknownLayouttype, UnsafeCompound, WrongCred,
    WrongType, Wrongsec, Xattr2big, Xdev,
};

/// Statuses.
type List = &'static [Nfsstat4];

// What many operations list together.

/// Operations on a filehandle.
const OBJECT: List = &[Stale, Fhexpired, Moved, Nofilehandle];
/// Those that look into the object.
const USE: List = &[Io, Access, Inval];
/// Those that take a name in a directory.
const NAME: List = &[Notdir, Inval, Nametoolong, Badchar, Badname];
/// Those that take a stateid.
const STATE: List = &[Expired, OldStateid, BadStateid, AdminRevoked];
/// Those that take space.
const SPACE: List = &[Nospc, Rofs, Dquot];
/// Those on a range of locks.
const RANGE: List = &[Isdir, Grace, LockRange, BadRange];
/// Those on data.
const DATA: List = &[Isdir, Grace, Symlink, Openmode];
/// Those on data that may lie on other servers.
const PNFS: List = &[PnfsIoHole, PnfsNoLayout];
/// Those that reclaim.
const RECLAIM: List = &[Grace, NoGrace, ReclaimBad, ReclaimConflict];

/// What every operation but ILLEGAL may say. The RFCs leave some of it out of some rows, which is not
/// meant: any arguments can be cut short, any server can be busy (Linux clients wait and ask again
/// after DELAY whatever the operation) or broken or without the operation.
const EVERY: List = &[Badxdr, Delay, Notsupp, Serverfault];
/// What every operation of 4.0 may say besides.
const EVERY_40: List = &[Resource];
/// What every operation of 4.1 and later may say besides: it runs in a session.
const EVERY_41: List = &[
    Deadsession,
    OpNotInSession,
    RepTooBig,
    RepTooBigToCache,
    ReqTooBig,
    RetryUncachedRep,
    TooManyOps,
];

/// A row: the operation; lists and statuses that all minor versions list for it, besides [`EVERY`] and
/// the like; what only 4.0 lists; what only 4.1 and later list; and what no RFC lists although the
/// situation exists and clients expect it: immutable files, sticky directories and protected links
/// (PERM), what `rename(2)` and `mkdir(2)` say, delayed allocation (NOSPC, DQUOT), exports that refuse
/// a client (ACCESS), and what the text of the operation says and its row forgets (SEEK NXIO,
/// EXCHANGE_ID PERM, COPY OFFLOAD_NO_REQS).
///
/// The one status of the 4.0 column that is not in RFC 7530: OPEN of a delegated file (CLAIM_DELEGATE_CUR)
/// takes a stateid, which can be STALE_STATEID.
type Row = (Op4, &'static [List], List, List, List, List);

/// In order of operation numbers, without ILLEGAL.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    (Op4::Access, &[OBJECT, USE], &[], &[Badhandle], &[], &[]),
    (Op4::Close, &[OBJECT, STATE], &[LocksHeld], &[Isdir, Inval, Badhandle, StaleStateid, BadSeqid,
        LeaseMoved], &[WrongCred], &[]),
    (Op4::Commit, &[OBJECT], &[Io, Access, Isdir, Symlink], &[Inval, Rofs, Badhandle], &[WrongType],
        &[Nospc, Dquot]),
    (Op4::Create, &[OBJECT, USE, NAME, SPACE], &[Perm, Exist, Badtype, Attrnotsupp, Badowner],
        &[Badhandle], &[Mlink, UnsafeCompound], &[Noent, Mlink]),
    (Op4::Delegpurge, &[], &[], &[StaleClientid, LeaseMoved], &[WrongCred], &[]),
    (Op4::Delegreturn, &[STATE], &[Inval, Stale, Moved, Nofilehandle], &[StaleStateid, LeaseMoved],
        &[Fhexpired, WrongCred, DelegRevoked], &[]),
    (Op4::Getattr, &[OBJECT, USE], &[Grace], &[Badhandle], &[WrongType], &[]),
    (Op4::Getfh, &[OBJECT], &[], &[Badhandle], &[], &[]),
    (Op4::Link, &[OBJECT, USE, NAME, SPACE], &[Exist, Xdev, Isdir, Mlink, Wrongsec, FileOpen],
        &[Noent, Badhandle], &[Grace, Symlink, WrongType], &[Perm, Noent]),
    (Op4::Lock, &[OBJECT, STATE, RANGE, RECLAIM], &[Access, Inval, Denied, Openmode, LockNotsupp,
        Deadlock], &[Badhandle, StaleClientid, StaleStateid, BadSeqid, LeaseMoved], &[Rofs, Symlink,
        WrongCred, WrongType], &[]),
    (Op4::Lockt, &[OBJECT, RANGE], &[Access, Inval, Denied, Expired], &[Badhandle, StaleClientid,
        LeaseMoved], &[Rofs, Symlink, WrongCred, WrongType], &[]),
    (Op4::Locku, &[OBJECT, STATE], &[Access, Inval, LockRange, BadRange], &[Isdir, Badhandle, Grace,
        StaleStateid, BadSeqid, LeaseMoved], &[WrongCred], &[]),
    (Op4::Lookup, &[OBJECT, USE, NAME], &[Noent, Wrongsec, Symlink], &[Badhandle], &[], &[]),
    (Op4::Lookupp, &[OBJECT], &[Noent, Io, Access, Notdir, Wrongsec, Symlink], &[Badhandle], &[],
        &[]),
    (Op4::Nverify, &[OBJECT, USE], &[Same, Grace, Attrnotsupp, Badchar], &[Badhandle],
        &[UnknownLayouttype, WrongType], &[]),
    (Op4::Open, &[OBJECT, USE, NAME, STATE, SPACE, RECLAIM], &[Perm, Noent, Exist, Isdir, Fbig,
        ShareDenied, Wrongsec, Symlink, Attrnotsupp, Badowner], &[Badhandle, StaleClientid,
        StaleStateid, BadSeqid], &[DelegAlreadyWanted, UnsafeCompound, WrongType, DelegRevoked], &[]),
    (Op4::Openattr, &[OBJECT, SPACE], &[Noent, Io, Access], &[Badhandle], &[UnsafeCompound,
        WrongType], &[]),
    (Op4::OpenConfirm, &[OBJECT, STATE], &[Isdir, Inval, Badhandle, StaleStateid, BadSeqid,
        LeaseMoved], &[], &[], &[]),
    (Op4::OpenDowngrade, &[OBJECT, STATE], &[Inval, Rofs], &[Badhandle, StaleStateid, BadSeqid,
        LeaseMoved, LocksHeld], &[WrongCred], &[]),
    (Op4::Putfh, &[], &[Stale, Badhandle, Wrongsec, Moved], &[Fhexpired], &[], &[Io, Access]),
    (Op4::Putpubfh, &[], &[Wrongsec], &[], &[], &[Io, Access, Stale]),
    (Op4::Putrootfh, &[], &[Wrongsec], &[], &[], &[Io, Access, Stale]),
    (Op4::Read, &[OBJECT, USE, STATE, DATA], &[Locked], &[Badhandle, StaleStateid, LeaseMoved],
        &[PnfsIoHole, PnfsNoLayout, WrongType, DelegRevoked, PartnerNoAuth], &[]),
    (Op4::Readdir, &[OBJECT, USE], &[Notdir, BadCookie, Toosmall, NotSame], &[Badhandle], &[], &[]),
    (Op4::Readlink, &[OBJECT, USE], &[], &[Isdir, Badhandle], &[WrongType], &[]),
    (Op4::Remove, &[OBJECT, USE, NAME], &[Noent, Rofs, Notempty, Grace, FileOpen], &[Badhandle],
        &[], &[Perm]),
    (Op4::Rename, &[OBJECT, USE, NAME, SPACE], &[Noent, Exist, Xdev, Notempty, Grace, Wrongsec,
        FileOpen], &[Badhandle], &[Mlink], &[Perm, Isdir, Mlink]),
    (Op4::Renew, &[], &[Access, Expired, StaleClientid, LeaseMoved, CbPathDown], &[], &[], &[]),
    (Op4::Restorefh, &[], &[Stale, Fhexpired, Wrongsec, Moved], &[Badhandle, Restorefh],
        &[Nofilehandle], &[]),
    (Op4::Savefh, &[OBJECT], &[], &[Badhandle], &[], &[]),
    (Op4::Secinfo, &[OBJECT, NAME], &[Noent, Access], &[Badhandle], &[], &[Io]),
    (Op4::Setattr, &[OBJECT, USE, STATE, SPACE], &[Perm, Fbig, Locked, Grace, Attrnotsupp, Openmode,
        Badowner, Badchar], &[Isdir, Badhandle, StaleStateid, LeaseMoved], &[UnknownLayouttype,
        WrongType, DelegRevoked], &[Isdir]),
    (Op4::Setclientid, &[], &[Inval, ClidInuse], &[], &[], &[]),
    (Op4::SetclientidConfirm, &[], &[ClidInuse, StaleClientid], &[], &[], &[]),
    (Op4::Verify, &[OBJECT, USE], &[Grace, NotSame, Attrnotsupp, Badchar], &[Badhandle],
        &[UnknownLayouttype, WrongType], &[]),
    (Op4::Write, &[OBJECT, USE, STATE, SPACE, DATA], &[Fbig, Locked], &[Nxio, Badhandle,
        StaleStateid, LeaseMoved], &[PnfsIoHole, PnfsNoLayout, WrongType, DelegRevoked], &[Perm]),
    (Op4::ReleaseLockowner, &[], &[Expired, StaleClientid, LeaseMoved, LocksHeld], &[], &[], &[]),
    (Op4::BackchannelCtl, &[], &[Noent, Inval], &[], &[], &[]),
    (Op4::BindConnToSession, &[], &[Inval, BadSessionDigest, Badsession, NotOnlyOp], &[], &[], &[]),
    (Op4::ExchangeId, &[], &[Noent, Inval, ClidInuse, NotSame, Badchar, HashAlgUnsupp,
        EncrAlgUnsupp, NotOnlyOp], &[], &[], &[Perm]),
    (Op4::CreateSession, &[], &[Noent, Inval, Nospc, Toosmall, ClidInuse, StaleClientid,
        SeqMisordered, NotOnlyOp, WrongCred], &[], &[], &[]),
    (Op4::DestroySession, &[], &[StaleClientid, CbPathDown, Badsession, ConnNotBoundToSession,
        BackChanBusy, NotOnlyOp, WrongCred], &[], &[], &[]),
    (Op4::FreeStateid, &[], &[OldStateid, BadStateid, LocksHeld, WrongCred], &[], &[], &[]),
    (Op4::GetDirDelegation, &[OBJECT, USE], &[Notdir, Grace, DirdelegUnavail], &[], &[], &[]),
    (Op4::Getdeviceinfo, &[], &[Noent, Inval, Toosmall, UnknownLayouttype], &[], &[], &[]),
    (Op4::Getdevicelist, &[], &[Io, Inval, BadCookie, Fhexpired, Nofilehandle, NotSame,
        UnknownLayouttype], &[], &[], &[]),
    (Op4::Layoutcommit, &[OBJECT, USE, RECLAIM], &[Isdir, Fbig, Expired, Symlink, Attrnotsupp,
        AdminRevoked, Badiomode, Badlayout, UnknownLayouttype, WrongCred, DelegRevoked], &[], &[],
        &[]),
    (Op4::Layoutget, &[OBJECT, USE], &[Nospc, Dquot, Toosmall, Locked, Grace, OldStateid,
        BadStateid, Openmode, AdminRevoked, Badiomode, Badlayout, Layouttrylater, Layoutunavailable,
        Recallconflict, UnknownLayouttype, WrongType, DelegRevoked], &[], &[], &[]),
    (Op4::Layoutreturn, &[OBJECT, STATE], &[Isdir, Inval, Grace, NoGrace, UnknownLayouttype,
        WrongCred, WrongType, DelegRevoked], &[], &[], &[]),
    (Op4::SecinfoNoName, &[OBJECT], &[Noent, Access, Notdir, Inval], &[], &[], &[Io]),
    (Op4::Sequence, &[], &[Badsession, Badslot, ConnNotBoundToSession, SeqMisordered, SequencePos,
        SeqFalseRetry, BadHighSlot], &[], &[], &[]),
    (Op4::SetSsv, &[], &[Inval, BadSessionDigest], &[], &[], &[]),
    (Op4::TestStateid, &[], &[], &[], &[], &[]),
    (Op4::WantDelegation, &[OBJECT, RECLAIM], &[Io, Inval, DelegAlreadyWanted, Recallconflict,
        WrongType], &[], &[], &[]),
    (Op4::DestroyClientid, &[], &[StaleClientid, ClientidBusy, NotOnlyOp, WrongCred], &[], &[],
        &[]),
    (Op4::ReclaimComplete, &[OBJECT], &[Inval, CompleteAlready, WrongCred, WrongType], &[], &[],
        &[]),
    (Op4::Allocate, &[OBJECT, USE, STATE, SPACE, DATA], &[Fbig, WrongType, DelegRevoked], &[], &[],
        &[Perm]),
    (Op4::Copy, &[OBJECT, USE, STATE, SPACE, DATA, PNFS], &[Fbig, Locked, WrongType, DelegRevoked,
        PartnerNotsupp, PartnerNoAuth, OffloadDenied], &[], &[], &[Xdev, OffloadNoReqs]),
    (Op4::CopyNotify, &[OBJECT, USE, STATE, DATA, PNFS], &[Locked, WrongType, DelegRevoked], &[],
        &[], &[]),
    (Op4::Deallocate, &[OBJECT, USE, STATE, DATA], &[Fbig, Rofs, WrongType, DelegRevoked], &[], &[],
        &[Perm, Nospc, Dquot]),
    (Op4::IoAdvise, &[OBJECT, USE, STATE], &[Isdir, Fbig, Grace, Symlink, WrongType, DelegRevoked],
        &[], &[], &[]),
    (Op4::Layouterror, &[OBJECT, STATE], &[Isdir, Inval, Grace, NoGrace, UnknownLayouttype,
        WrongCred, WrongType, DelegRevoked], &[], &[], &[]),
    (Op4::Layoutstats, &[OBJECT, STATE], &[Isdir, Inval, Grace, NoGrace, UnknownLayouttype,
        WrongCred, WrongType, DelegRevoked], &[], &[], &[]),
    (Op4::OffloadCancel, &[STATE], &[Grace, CompleteAlready], &[], &[], &[]),
    (Op4::OffloadStatus, &[STATE], &[Grace, CompleteAlready], &[], &[], &[]),
    (Op4::ReadPlus, &[OBJECT, USE, STATE, DATA, PNFS], &[Locked, WrongType, DelegRevoked,
        PartnerNoAuth], &[], &[], &[]),
    (Op4::Seek, &[OBJECT, USE, STATE, DATA, PNFS], &[Locked, WrongType, DelegRevoked, UnionNotsupp],
        &[], &[], &[Nxio]),
    (Op4::WriteSame, &[OBJECT, USE, STATE, SPACE, DATA, PNFS], &[Fbig, Locked, WrongType,
        DelegRevoked], &[], &[], &[]),
    (Op4::Clone, &[OBJECT, USE, STATE, SPACE, DATA], &[Xdev, Fbig, Locked, WrongType, DelegRevoked],
        &[], &[], &[]),
    (Op4::Getxattr, &[OBJECT, USE], &[Perm, Nametoolong, Toosmall, Badchar, WrongType, Noxattr,
        Xattr2big], &[], &[], &[]),
    (Op4::Setxattr, &[OBJECT, USE, SPACE], &[Perm, Exist, Nametoolong, Grace, Badchar, WrongType,
        Noxattr, Xattr2big], &[], &[], &[Fbig]),
    (Op4::Listxattrs, &[OBJECT, USE], &[Perm, BadCookie, Toosmall, NotSame, WrongType, Noxattr],
        &[], &[], &[]),
    (Op4::Removexattr, &[OBJECT, USE], &[Perm, Rofs, Nametoolong, Grace, Badchar, WrongType,
        Noxattr], &[], &[], &[]),
];

fn row(op: Op4) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.0 == op)
}

/// Whether an operation of a minor version may answer with a status.
///
/// An operation that the minor version does not have any more is `NOTSUPP`, one it does not have yet
/// does not exist.
#[must_use]
pub fn permitted(op: Op4, minor: u32, status: Nfsstat4) -> bool {
    let (first, last) = op.minors();
    if op == Op4::Illegal || minor < first {
        return [OpIllegal, Badxdr].contains(&status);
    }
    if minor > last {
        return status == Notsupp;
    }
    let Some((_, sets, common, only_40, since_41, customary)) = row(op) else {
        return false;
    };
    let (version, session) = match minor {
        0 => (only_40, EVERY_40),
        _ => (since_41, EVERY_41),
    };
    let lists = [common, version, customary, &session, &EVERY];
    status == Nfsstat4::Ok || sets.iter().chain(lists).any(|list| list.contains(&status))
}

/// What says about the same as `status`, the nearest first. Much of it is one situation under the names
/// of different minor versions: the wrong type of file, results too long, state that is gone.
const fn near(status: Nfsstat4) -> List {
    match status {
        Perm | Wrongsec | WrongCred => &[Access, Perm],
        Access => &[Perm, Wrongsec],
        Rofs => &[Access, Perm],
        Symlink => &[WrongType, Notdir, Inval],
        Isdir => &[WrongType, Inval, Exist],
        Notdir => &[WrongType, Inval],
        WrongType => &[Inval, Notdir, Badtype],
        Badtype | Badiomode => &[Inval],
        Attrnotsupp | Badowner | Badchar | Badname | UnionNotsupp => &[Inval, Notsupp],
        Nametoolong | Noxattr => &[Badname, Inval],
        BadCookie => &[NotSame, Inval],
        NotSame => &[BadCookie, Inval],
        Xdev | BadRange | LockRange | LockNotsupp => &[Inval, Notsupp],
        Nxio => &[Inval],
        Exist => &[Notempty],
        Notempty => &[Exist],
        Fbig | Dquot | Mlink | Xattr2big => &[Nospc, Fbig, Inval],
        Nospc => &[Dquot, Resource],
        Noent => &[Stale],
        Badhandle | Fhexpired => &[Stale],
        Restorefh => &[Nofilehandle],
        Toosmall => &[RepTooBig, Resource],
        RepTooBig | RepTooBigToCache | ReqTooBig | TooManyOps => &[Resource, RepTooBig, Toosmall],
        // The server is full: later there may be room.
        Resource => &[Delay],
        Grace | Locked | ShareDenied | FileOpen => &[Locked, Access, Delay],
        DelegRevoked => &[AdminRevoked, Expired, BadStateid],
        AdminRevoked | Expired => &[Expired, BadStateid, StaleClientid],
        // A stateid of an earlier life of the server is known in 4.1 by its session.
        StaleStateid | OldStateid | BadSeqid => &[BadStateid],
        Openmode => &[Access],
        StaleClientid => &[Expired, BadStateid, Badsession],
        NoGrace => &[ReclaimBad, Inval],
        ReclaimBad | ReclaimConflict => &[NoGrace, Inval],
        _ => &[],
    }
}

/// What is left if nothing near is permitted: one of these always is.
const LAST: List = &[Io, Serverfault, Notsupp, OpIllegal];

/// The status an operation answers instead of one it may not: the nearest that it may ([`near`]), and
/// if there is none `IO`, then `SERVERFAULT`.
#[must_use]
pub fn restrict(op: Op4, minor: u32, status: Nfsstat4) -> Nfsstat4 {
    let candidates = [status].into_iter().chain(near(status).iter().copied());
    candidates
        .chain(LAST.iter().copied())
        .find(|candidate| permitted(op, minor, *candidate))
        .unwrap_or(Serverfault)
}

#[cfg(test)]
mod tests;
