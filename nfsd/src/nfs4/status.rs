//! Status of NFS version 4 (RFC 8881 section 15.1, RFC 7530 13.1, RFC 7862 11.1, RFC 8276 8.5): numbers
//! and errno mapping.

mod permitted;

pub use permitted::{permitted, restrict};

use crate::nfs3::status::{Nfsstat3, from_errno};
use crate::xdr::{Status, XdrError, xdr_enum};

xdr_enum! {
    /// `nfsstat4`.
    pub enum Nfsstat4 {
        /// Everything is fine.
        Ok = 0 "NFS4_OK",
        /// Not owner.
        Perm = 1 "NFS4ERR_PERM",
        /// No such file or directory.
        Noent = 2 "NFS4ERR_NOENT",
        /// I/O error.
        Io = 5 "NFS4ERR_IO",
        /// No such device or address.
        Nxio = 6 "NFS4ERR_NXIO",
        /// Permission denied.
        Access = 13 "NFS4ERR_ACCESS",
        /// File exists.
        Exist = 17 "NFS4ERR_EXIST",
        /// Different file systems.
        Xdev = 18 "NFS4ERR_XDEV",
        /// Not a directory.
        Notdir = 20 "NFS4ERR_NOTDIR",
        /// Is a directory.
        Isdir = 21 "NFS4ERR_ISDIR",
        /// Invalid argument.
        Inval = 22 "NFS4ERR_INVAL",
        /// File too large.
        Fbig = 27 "NFS4ERR_FBIG",
        /// No space left on device.
        Nospc = 28 "NFS4ERR_NOSPC",
        /// Read-only file system.
        Rofs = 30 "NFS4ERR_ROFS",
        /// Too many hard links.
        Mlink = 31 "NFS4ERR_MLINK",
        /// Name too long.
        Nametoolong = 63 "NFS4ERR_NAMETOOLONG",
        /// Directory not empty.
        Notempty = 66 "NFS4ERR_NOTEMPTY",
        /// Quota hard limit reached.
        Dquot = 69 "NFS4ERR_DQUOT",
        /// Stale filehandle.
        Stale = 70 "NFS4ERR_STALE",
        /// Invalid filehandle.
        Badhandle = 10001 "NFS4ERR_BADHANDLE",
        /// READDIR cookie is stale.
        BadCookie = 10003 "NFS4ERR_BAD_COOKIE",
        /// Operation not supported.
        Notsupp = 10004 "NFS4ERR_NOTSUPP",
        /// Response limit exceeded.
        Toosmall = 10005 "NFS4ERR_TOOSMALL",
        /// Undefined server error.
        Serverfault = 10006 "NFS4ERR_SERVERFAULT",
        /// Type invalid for CREATE.
        Badtype = 10007 "NFS4ERR_BADTYPE",
        /// File busy: retry.
        Delay = 10008 "NFS4ERR_DELAY",
        /// NVERIFY says the attributes are the same.
        Same = 10009 "NFS4ERR_SAME",
        /// Lock unavailable.
        Denied = 10010 "NFS4ERR_DENIED",
        /// Lock lease expired.
        Expired = 10011 "NFS4ERR_EXPIRED",
        /// I/O failed due to a lock.
        Locked = 10012 "NFS4ERR_LOCKED",
        /// In grace period.
        Grace = 10013 "NFS4ERR_GRACE",
        /// Filehandle expired.
        Fhexpired = 10014 "NFS4ERR_FHEXPIRED",
        /// Share reservation denied.
        ShareDenied = 10015 "NFS4ERR_SHARE_DENIED",
        /// Wrong security flavor.
        Wrongsec = 10016 "NFS4ERR_WRONGSEC",
        /// Client ID in use.
        ClidInuse = 10017 "NFS4ERR_CLID_INUSE",
        /// Resource exhaustion.
        Resource = 10018 "NFS4ERR_RESOURCE",
        /// File system relocated.
        Moved = 10019 "NFS4ERR_MOVED",
        /// Current filehandle not set.
        Nofilehandle = 10020 "NFS4ERR_NOFILEHANDLE",
        /// Minor version not supported.
        MinorVersMismatch = 10021 "NFS4ERR_MINOR_VERS_MISMATCH",
        /// Server has rebooted.
        StaleClientid = 10022 "NFS4ERR_STALE_CLIENTID",
        /// Server has rebooted.
        StaleStateid = 10023 "NFS4ERR_STALE_STATEID",
        /// State is out of sync.
        OldStateid = 10024 "NFS4ERR_OLD_STATEID",
        /// Incorrect stateid.
        BadStateid = 10025 "NFS4ERR_BAD_STATEID",
        /// Request is out of sequence.
        BadSeqid = 10026 "NFS4ERR_BAD_SEQID",
        /// VERIFY says the attributes are not the same.
        NotSame = 10027 "NFS4ERR_NOT_SAME",
        /// Overlapping lock range not supported.
        LockRange = 10028 "NFS4ERR_LOCK_RANGE",
        /// Should be a file or directory.
        Symlink = 10029 "NFS4ERR_SYMLINK",
        /// No saved filehandle.
        Restorefh = 10030 "NFS4ERR_RESTOREFH",
        /// Some file system moved.
        LeaseMoved = 10031 "NFS4ERR_LEASE_MOVED",
        /// Attribute not supported.
        Attrnotsupp = 10032 "NFS4ERR_ATTRNOTSUPP",
        /// Reclaim outside of grace.
        NoGrace = 10033 "NFS4ERR_NO_GRACE",
        /// Reclaim error at server.
        ReclaimBad = 10034 "NFS4ERR_RECLAIM_BAD",
        /// Conflict during reclaim.
        ReclaimConflict = 10035 "NFS4ERR_RECLAIM_CONFLICT",
        /// XDR decode failed.
        Badxdr = 10036 "NFS4ERR_BADXDR",
        /// File locks held at CLOSE.
        LocksHeld = 10037 "NFS4ERR_LOCKS_HELD",
        /// Conflict in open and I/O.
        Openmode = 10038 "NFS4ERR_OPENMODE",
        /// Owner translation bad.
        Badowner = 10039 "NFS4ERR_BADOWNER",
        /// UTF-8 character not supported.
        Badchar = 10040 "NFS4ERR_BADCHAR",
        /// Name not supported.
        Badname = 10041 "NFS4ERR_BADNAME",
        /// Lock range not supported.
        BadRange = 10042 "NFS4ERR_BAD_RANGE",
        /// No atomic up- or downgrade.
        LockNotsupp = 10043 "NFS4ERR_LOCK_NOTSUPP",
        /// Undefined operation.
        OpIllegal = 10044 "NFS4ERR_OP_ILLEGAL",
        /// File locking deadlock.
        Deadlock = 10045 "NFS4ERR_DEADLOCK",
        /// Open file blocks the operation.
        FileOpen = 10046 "NFS4ERR_FILE_OPEN",
        /// Lock-owner state revoked.
        AdminRevoked = 10047 "NFS4ERR_ADMIN_REVOKED",
        /// Callback path down.
        CbPathDown = 10048 "NFS4ERR_CB_PATH_DOWN",
        /// Bad layout iomode.
        Badiomode = 10049 "NFS4ERR_BADIOMODE",
        /// Bad layout.
        Badlayout = 10050 "NFS4ERR_BADLAYOUT",
        /// Bad session digest.
        BadSessionDigest = 10051 "NFS4ERR_BAD_SESSION_DIGEST",
        /// No such session.
        Badsession = 10052 "NFS4ERR_BADSESSION",
        /// No such slot.
        Badslot = 10053 "NFS4ERR_BADSLOT",
        /// RECLAIM_COMPLETE was sent before.
        CompleteAlready = 10054 "NFS4ERR_COMPLETE_ALREADY",
        /// Connection not bound to session.
        ConnNotBoundToSession = 10055 "NFS4ERR_CONN_NOT_BOUND_TO_SESSION",
        /// Delegation already wanted.
        DelegAlreadyWanted = 10056 "NFS4ERR_DELEG_ALREADY_WANTED",
        /// Backchannel busy.
        BackChanBusy = 10057 "NFS4ERR_BACK_CHAN_BUSY",
        /// Layout unavailable for now.
        Layouttrylater = 10058 "NFS4ERR_LAYOUTTRYLATER",
        /// Layout unavailable.
        Layoutunavailable = 10059 "NFS4ERR_LAYOUTUNAVAILABLE",
        /// No matching layout.
        NomatchingLayout = 10060 "NFS4ERR_NOMATCHING_LAYOUT",
        /// Conflict with a recall.
        Recallconflict = 10061 "NFS4ERR_RECALLCONFLICT",
        /// Unknown layout type.
        UnknownLayouttype = 10062 "NFS4ERR_UNKNOWN_LAYOUTTYPE",
        /// Unexpected sequence ID.
        SeqMisordered = 10063 "NFS4ERR_SEQ_MISORDERED",
        /// SEQUENCE must be first.
        SequencePos = 10064 "NFS4ERR_SEQUENCE_POS",
        /// Request too big.
        ReqTooBig = 10065 "NFS4ERR_REQ_TOO_BIG",
        /// Reply too big.
        RepTooBig = 10066 "NFS4ERR_REP_TOO_BIG",
        /// Reply too big to cache.
        RepTooBigToCache = 10067 "NFS4ERR_REP_TOO_BIG_TO_CACHE",
        /// Retried request was not cached.
        RetryUncachedRep = 10068 "NFS4ERR_RETRY_UNCACHED_REP",
        /// Retry or recovery would be unsafe.
        UnsafeCompound = 10069 "NFS4ERR_UNSAFE_COMPOUND",
        /// Too many operations.
        TooManyOps = 10070 "NFS4ERR_TOO_MANY_OPS",
        /// Operation needs a session.
        OpNotInSession = 10071 "NFS4ERR_OP_NOT_IN_SESSION",
        /// Hash algorithm not supported.
        HashAlgUnsupp = 10072 "NFS4ERR_HASH_ALG_UNSUPP",
        /// Client ID has state.
        ClientidBusy = 10074 "NFS4ERR_CLIENTID_BUSY",
        /// I/O to a hole of a striped file.
        PnfsIoHole = 10075 "NFS4ERR_PNFS_IO_HOLE",
        /// Retry differs from the original.
        SeqFalseRetry = 10076 "NFS4ERR_SEQ_FALSE_RETRY",
        /// Bad highest slot.
        BadHighSlot = 10077 "NFS4ERR_BAD_HIGH_SLOT",
        /// New requests not allowed on this session.
        Deadsession = 10078 "NFS4ERR_DEADSESSION",
        /// Encryption algorithm not supported.
        EncrAlgUnsupp = 10079 "NFS4ERR_ENCR_ALG_UNSUPP",
        /// I/O without layout.
        PnfsNoLayout = 10080 "NFS4ERR_PNFS_NO_LAYOUT",
        /// Operation must be alone.
        NotOnlyOp = 10081 "NFS4ERR_NOT_ONLY_OP",
        /// Wrong credential.
        WrongCred = 10082 "NFS4ERR_WRONG_CRED",
        /// Wrong type of file.
        WrongType = 10083 "NFS4ERR_WRONG_TYPE",
        /// Directory delegation unavailable.
        DirdelegUnavail = 10084 "NFS4ERR_DIRDELEG_UNAVAIL",
        /// Client does not want the delegation.
        RejectDeleg = 10085 "NFS4ERR_REJECT_DELEG",
        /// Layout return conflict.
        Returnconflict = 10086 "NFS4ERR_RETURNCONFLICT",
        /// Delegation was revoked.
        DelegRevoked = 10087 "NFS4ERR_DELEG_REVOKED",
        /// Other server not supported.
        PartnerNotsupp = 10088 "NFS4ERR_PARTNER_NOTSUPP",
        /// Not authorized by the other server.
        PartnerNoAuth = 10089 "NFS4ERR_PARTNER_NO_AUTH",
        /// Union arm not supported.
        UnionNotsupp = 10090 "NFS4ERR_UNION_NOTSUPP",
        /// Offload denied.
        OffloadDenied = 10091 "NFS4ERR_OFFLOAD_DENIED",
        /// Wrong label format.
        WrongLfs = 10092 "NFS4ERR_WRONG_LFS",
        /// Bad label.
        Badlabel = 10093 "NFS4ERR_BADLABEL",
        /// Copy requirements cannot be met.
        OffloadNoReqs = 10094 "NFS4ERR_OFFLOAD_NO_REQS",
        /// Extended attribute does not exist.
        Noxattr = 10095 "NFS4ERR_NOXATTR",
        /// Extended attribute too big.
        Xattr2big = 10096 "NFS4ERR_XATTR2BIG",
    }
}

impl Status for Nfsstat4 {
    const OK: Self = Self::Ok;
    const FAULT: Self = Self::Serverfault;
}

impl From<Nfsstat3> for Nfsstat4 {
    /// What both versions have keeps its number.
    fn from(status: Nfsstat3) -> Self {
        match status {
            Nfsstat3::Nodev => Self::Nxio,
            Nfsstat3::Remote => Self::Serverfault,
            // SETATTR's guard is not in version 4.
            Nfsstat3::NotSync => Self::Serverfault,
            other => Self::from_wire(other.wire()).unwrap_or(Self::Serverfault),
        }
    }
}

impl From<vfs::Errno> for Nfsstat4 {
    fn from(errno: vfs::Errno) -> Self {
        match errno {
            vfs::Errno::ELOOP => Self::Symlink,
            vfs::Errno::ENODATA => Self::Noxattr,
            // A mount point or a file in use (RFC 7530 13.1.4.8).
            vfs::Errno::EBUSY | vfs::Errno::ETXTBSY => Self::FileOpen,
            other => from_errno(other.0).into(),
        }
    }
}

impl From<XdrError> for Nfsstat4 {
    /// Of arguments: they do not decode. Of results: they do not fit.
    fn from(error: XdrError) -> Self {
        match error {
            XdrError::Full => Self::RepTooBig,
            _ => Self::Badxdr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_version_3_has_keeps_its_number() {
        for old in Nfsstat3::ALL.iter().copied() {
            let new = Nfsstat4::from(old);
            let differs = [Nfsstat3::Nodev, Nfsstat3::Remote, Nfsstat3::NotSync].contains(&old);
            assert_eq!(new.wire() != old.wire(), differs, "{old}");
        }
        assert_eq!(Nfsstat4::from(vfs::Errno::EACCES), Nfsstat4::Access);
        assert_eq!(Nfsstat4::from(vfs::Errno::EAGAIN), Nfsstat4::Delay);
        assert_eq!(Nfsstat4::from(vfs::BAD_COOKIE), Nfsstat4::BadCookie);
    }
}
