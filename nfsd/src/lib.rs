//! The NFS server: RPC, NFS programs, exports, configuration.

pub mod capabilities;
pub mod cli;
pub mod config;
pub mod conflict;
pub mod conn;
pub mod control;
pub mod cx;
pub mod export;
pub mod exported;
pub mod fh;
pub mod finding;
pub mod groups;
pub mod junction;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod mount;
pub mod nfs3;
pub mod nfs4;
pub mod nfsacl;
pub mod request;
pub mod roots;
pub mod rpc;
pub mod server;
pub mod worker;
pub mod xdr;
