//! The virtual file system of ringnfs on io_uring: the engine (`uring`, `exec`), identity, file
//! handles, and the operations NFS needs, each an `async fn` that returns a value or an [`Errno`].

pub mod access;
pub mod acl_cache;
pub mod attr;
mod change;
pub mod cred;
mod data;
pub mod dir;
mod dir_cache;
mod direct;
pub mod errno;
pub mod exec;
pub mod file;
mod lane;
mod listing;
pub mod locks;
mod lookup;
pub mod mount;
pub mod name;
pub mod namespace;
pub mod order;
mod setattr;
pub mod stable;
pub mod sys;
pub mod table;
pub mod uring;
pub mod vfs;

pub use access::Rights;
pub use attr::{Attr, FileKind, SetAttr, SetTime, Time};
pub use cred::Cred;
pub use data::{ReadData, ReadDone, Written};
pub use dir::{DirEntry, DirPage, Listed};
pub use errno::{BAD_COOKIE, Errno, NOT_SYNC, Result};
pub use file::{File, Pin};
pub use lookup::Found;
pub use mount::{Limits, Mount, StatFs};
pub use name::Name;
pub use namespace::{CreateHow, Created, Linked, NodeKind, Renamed};
pub use stable::Stable;
pub use sys::KernelHandle;
pub use vfs::{Changed, Vfs, VfsConfig, Wcc};
