//! The MOUNT protocol, versions 1 to 3 (RFC 1094 appendix A, RFC 1813 appendix I).

mod list;
mod proc;
pub mod types;

pub use proc::dispatch;
