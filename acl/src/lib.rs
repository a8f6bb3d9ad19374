//! POSIX ACLs and NFSv4 ACLs: data and rules, no I/O.
//!
//! The rules are the Linux kernel's, which implements POSIX.1e draft 17 with a few turns of its own; `tests/kernel.rs`
//! holds every rule here to the answer of the running kernel.
#![forbid(unsafe_code)]

#[cfg(test)]
mod arbitrary;
pub mod check;
pub mod inherit;
mod live;
pub mod map;
pub mod mode;
pub mod nfs4;
pub mod posix;
pub mod xattr;

pub use check::{Access, Caller, Kind, Node, permits, permitted};
pub use live::live;
pub use posix::{Acl, Entry, Invalid, Perm, Tag};
