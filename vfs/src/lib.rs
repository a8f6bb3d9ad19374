//! The virtual file system of ringnfs on io_uring: the engine (`uring`, `exec`), identity, file
//! handles, and the operations NFS needs, each an `async fn` that returns a value or an [`Errno`].

pub mod attr;
pub mod cred;
pub mod errno;
pub mod exec;
pub mod handle;
pub mod sys;
pub mod uring;

pub use attr::{Attr, FileKind, SetAttr, SetTime, Time};
pub use cred::Cred;
pub use errno::{Errno, Result};
