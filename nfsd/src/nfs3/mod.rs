//! NFS version 3 (RFC 1813).

pub mod args;
pub mod attr;
pub mod dirlist;
mod listing;
pub(crate) mod made;
pub mod proc;
pub(crate) mod reply;
pub mod res;
pub mod status;
pub mod types;

use crate::xdr::{Dec, xdr_enum};

pub use proc::{Flags, Row, dispatch, row};

/// Program number.
pub const NFS_PROGRAM: u32 = 100_003;
/// Version number.
pub const NFS_V3: u32 = 3;

xdr_enum! {
    /// Procedures (RFC 1813 section 3).
    pub enum Proc3 {
        /// Do nothing.
        Null = 0 "NULL",
        /// Get file attributes.
        Getattr = 1 "GETATTR",
        /// Set file attributes.
        Setattr = 2 "SETATTR",
        /// Lookup filename.
        Lookup = 3 "LOOKUP",
        /// Check access permission.
        Access = 4 "ACCESS",
        /// Read from symbolic link.
        Readlink = 5 "READLINK",
        /// Read from file.
        Read = 6 "READ",
        /// Write to file.
        Write = 7 "WRITE",
        /// Create a file.
        Create = 8 "CREATE",
        /// Create a directory.
        Mkdir = 9 "MKDIR",
        /// Create a symbolic link.
        Symlink = 10 "SYMLINK",
        /// Create a special device.
        Mknod = 11 "MKNOD",
        /// Remove a file.
        Remove = 12 "REMOVE",
        /// Remove a directory.
        Rmdir = 13 "RMDIR",
        /// Rename a file or directory.
        Rename = 14 "RENAME",
        /// Create link to an object.
        Link = 15 "LINK",
        /// Read from directory.
        Readdir = 16 "READDIR",
        /// Extended read from directory.
        Readdirplus = 17 "READDIRPLUS",
        /// Get dynamic file system information.
        Fsstat = 18 "FSSTAT",
        /// Get static file system information.
        Fsinfo = 19 "FSINFO",
        /// Retrieve POSIX information.
        Pathconf = 20 "PATHCONF",
        /// Commit cached data on a server to stable storage.
        Commit = 21 "COMMIT",
    }
}

/// Whether a procedure's reply is as long as the client asks for.
#[must_use]
pub fn asks_for_bytes(proc: u32) -> bool {
    matches!(
        Proc3::from_wire(proc),
        Some(Proc3::Read | Proc3::Readdir | Proc3::Readdirplus)
    )
}

/// Bytes such a procedure is asked for; 0 for others and for arguments that do not decode.
#[must_use]
pub fn reply_bytes(proc: u32, mut args: Dec<'_>) -> u32 {
    use args::{Read3Args, Readdir3Args, Readdirplus3Args};
    let count = match Proc3::from_wire(proc) {
        Some(Proc3::Read) => args.get().map(|a: Read3Args<'_>| a.count),
        Some(Proc3::Readdir) => args.get().map(|a: Readdir3Args<'_>| a.count),
        Some(Proc3::Readdirplus) => args.get().map(|a: Readdirplus3Args<'_>| a.maxcount),
        _ => return 0,
    };
    count.unwrap_or(0)
}

#[cfg(test)]
mod tests;
