//! The NFS server: RPC, NFS programs, exports, configuration.

pub mod capabilities;
pub mod cli;
pub mod config;
pub mod control;
pub mod cx;
pub mod export;
pub mod fh;
pub mod finding;
pub mod groups;
pub mod log;
pub mod mount;
pub mod nfs3;
pub mod rpc;
pub mod server;
pub mod xdr;
