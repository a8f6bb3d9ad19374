//! The NFS server: RPC, NFS programs, exports, configuration.

pub mod export;
pub mod finding;
