//! The NFS server: RPC, NFS programs, exports, configuration.

pub mod mount;
pub mod nfs3;
pub mod rpc;
pub mod xdr;
