//! The Network Lock Manager (RFC 1813 appendix II; Open Group XNFS, chapters 9 and 10): locks and
//! shares for NFS version 3, in the conflict table of all versions.
//!
//! | file | content |
//! |---|---|
//! | `types` | what is on the wire |
//! | `state` | hosts, what they hold and wait for: pure |
//! | `proc` | the procedures |
//! | `grant` | locks that were waited for: granted, and the host is told until it knows |
//! | `peer` | calls to a host: its port mapper, then the program |

pub mod grant;
pub mod peer;
pub mod proc;
pub mod state;
pub mod types;

pub use proc::dispatch;
