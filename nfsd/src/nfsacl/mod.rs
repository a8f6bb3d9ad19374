//! The NFSACL protocol, program 100227: POSIX ACLs beside NFS version 3, as Solaris made it and Linux speaks it. There is
//! no RFC.
//!
//! Version 3 has NULL, GETACL and SETACL. Of version 2, which goes with NFS version 2, only NULL is answered.

mod proc;
pub mod types;

pub use proc::{cached, dispatch};
