//! NFS version 4, minor versions 0 to 2 (RFC 7530, RFC 8881, RFC 7862, RFC 8276).

mod allow;
pub mod attr;
pub mod cb;
pub mod compound;
pub mod durable;
pub mod idmap;
pub mod op;
pub mod pseudo;
pub mod recovery;
mod reply;
pub mod state;
pub mod stateful;
pub mod status;
pub mod types;
mod walk;

use crate::xdr::xdr_enum;

#[cfg(test)]
mod tests;

/// Version number.
pub const NFS_V4: u32 = 4;
/// Highest minor version served.
pub const MINOR_MAX: u32 = 2;
/// NULL: do nothing.
pub const PROC_NULL: u32 = 0;
/// COMPOUND: compound operations.
pub const PROC_COMPOUND: u32 = 1;

xdr_enum! {
    /// Operations (RFC 7530 16, RFC 8881 18, RFC 7862 15, RFC 8276 8.4), `nfs_opnum4`.
    pub enum Op4 {
        /// Check access rights.
        Access = 3 "ACCESS",
        /// Close a file.
        Close = 4 "CLOSE",
        /// Commit cached data.
        Commit = 5 "COMMIT",
        /// Create a non-regular file object.
        Create = 6 "CREATE",
        /// Purge delegations awaiting recovery.
        Delegpurge = 7 "DELEGPURGE",
        /// Return a delegation.
        Delegreturn = 8 "DELEGRETURN",
        /// Get attributes.
        Getattr = 9 "GETATTR",
        /// Get the current filehandle.
        Getfh = 10 "GETFH",
        /// Create a link to a file.
        Link = 11 "LINK",
        /// Create a lock.
        Lock = 12 "LOCK",
        /// Test for a lock.
        Lockt = 13 "LOCKT",
        /// Unlock a file.
        Locku = 14 "LOCKU",
        /// Look a filename up.
        Lookup = 15 "LOOKUP",
        /// Look the parent directory up.
        Lookupp = 16 "LOOKUPP",
        /// Verify a difference in attributes.
        Nverify = 17 "NVERIFY",
        /// Open a regular file, creating it if necessary.
        Open = 18 "OPEN",
        /// Open the named attribute directory.
        Openattr = 19 "OPENATTR",
        /// Confirm an open.
        OpenConfirm = 20 "OPEN_CONFIRM",
        /// Reduce an open file's access.
        OpenDowngrade = 21 "OPEN_DOWNGRADE",
        /// Set the current filehandle.
        Putfh = 22 "PUTFH",
        /// Set the public filehandle.
        Putpubfh = 23 "PUTPUBFH",
        /// Set the root filehandle.
        Putrootfh = 24 "PUTROOTFH",
        /// Read from a file.
        Read = 25 "READ",
        /// Read a directory.
        Readdir = 26 "READDIR",
        /// Read a symbolic link.
        Readlink = 27 "READLINK",
        /// Remove a file system object.
        Remove = 28 "REMOVE",
        /// Rename a directory entry.
        Rename = 29 "RENAME",
        /// Renew a lease.
        Renew = 30 "RENEW",
        /// Restore the saved filehandle.
        Restorefh = 31 "RESTOREFH",
        /// Save the current filehandle.
        Savefh = 32 "SAVEFH",
        /// Obtain available security.
        Secinfo = 33 "SECINFO",
        /// Set attributes.
        Setattr = 34 "SETATTR",
        /// Negotiate a client ID.
        Setclientid = 35 "SETCLIENTID",
        /// Confirm a client ID.
        SetclientidConfirm = 36 "SETCLIENTID_CONFIRM",
        /// Verify the same attributes.
        Verify = 37 "VERIFY",
        /// Write to a file.
        Write = 38 "WRITE",
        /// Release lock-owner state.
        ReleaseLockowner = 39 "RELEASE_LOCKOWNER",
        /// Backchannel control.
        BackchannelCtl = 40 "BACKCHANNEL_CTL",
        /// Associate a connection with a session.
        BindConnToSession = 41 "BIND_CONN_TO_SESSION",
        /// Instantiate a client ID.
        ExchangeId = 42 "EXCHANGE_ID",
        /// Create a session and confirm the client ID.
        CreateSession = 43 "CREATE_SESSION",
        /// Destroy a session.
        DestroySession = 44 "DESTROY_SESSION",
        /// Free a stateid with no locks.
        FreeStateid = 45 "FREE_STATEID",
        /// Get a directory delegation.
        GetDirDelegation = 46 "GET_DIR_DELEGATION",
        /// Get device information.
        Getdeviceinfo = 47 "GETDEVICEINFO",
        /// Get all device mappings.
        Getdevicelist = 48 "GETDEVICELIST",
        /// Commit writes made using a layout.
        Layoutcommit = 49 "LAYOUTCOMMIT",
        /// Get layout information.
        Layoutget = 50 "LAYOUTGET",
        /// Release layout information.
        Layoutreturn = 51 "LAYOUTRETURN",
        /// Get security on an unnamed object.
        SecinfoNoName = 52 "SECINFO_NO_NAME",
        /// Supply per-procedure sequencing and control.
        Sequence = 53 "SEQUENCE",
        /// Update the SSV of a client ID.
        SetSsv = 54 "SET_SSV",
        /// Test stateids for validity.
        TestStateid = 55 "TEST_STATEID",
        /// Request a delegation.
        WantDelegation = 56 "WANT_DELEGATION",
        /// Destroy a client ID.
        DestroyClientid = 57 "DESTROY_CLIENTID",
        /// Indicate that reclaims are finished.
        ReclaimComplete = 58 "RECLAIM_COMPLETE",
        /// Reserve space in a region of a file.
        Allocate = 59 "ALLOCATE",
        /// Initiate a server-side copy.
        Copy = 60 "COPY",
        /// Notify a source server of a future copy.
        CopyNotify = 61 "COPY_NOTIFY",
        /// Unreserve space in a region of a file.
        Deallocate = 62 "DEALLOCATE",
        /// Send client I/O access pattern hints.
        IoAdvise = 63 "IO_ADVISE",
        /// Provide errors for the layout.
        Layouterror = 64 "LAYOUTERROR",
        /// Provide statistics for the layout.
        Layoutstats = 65 "LAYOUTSTATS",
        /// Stop an offloaded operation.
        OffloadCancel = 66 "OFFLOAD_CANCEL",
        /// Poll for the status of an asynchronous operation.
        OffloadStatus = 67 "OFFLOAD_STATUS",
        /// Read data or holes from a file.
        ReadPlus = 68 "READ_PLUS",
        /// Find the next data or hole.
        Seek = 69 "SEEK",
        /// Write an application data block many times.
        WriteSame = 70 "WRITE_SAME",
        /// Clone a range of a file into another.
        Clone = 71 "CLONE",
        /// Get an extended attribute.
        Getxattr = 72 "GETXATTR",
        /// Set an extended attribute.
        Setxattr = 73 "SETXATTR",
        /// List extended attributes.
        Listxattrs = 74 "LISTXATTRS",
        /// Remove an extended attribute.
        Removexattr = 75 "REMOVEXATTR",
        /// Illegal operation.
        Illegal = 10044 "ILLEGAL",
    }
}

impl Op4 {
    /// The lowest and highest minor version that has the operation: what 4.1 made obsolete is
    /// mandatory not to implement there (RFC 8881 1.8, table in 17).
    #[must_use]
    pub const fn minors(self) -> (u32, u32) {
        match self {
            Self::OpenConfirm
            | Self::Renew
            | Self::Setclientid
            | Self::SetclientidConfirm
            | Self::ReleaseLockowner => (0, 0),
            Self::Illegal => (0, MINOR_MAX),
            _ => {
                let number = self.wire();
                if number < Self::BackchannelCtl.wire() {
                    (0, MINOR_MAX)
                } else if number < Self::Allocate.wire() {
                    (1, MINOR_MAX)
                } else {
                    (2, MINOR_MAX)
                }
            }
        }
    }
}
