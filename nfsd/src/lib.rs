//! The NFS server: RPC, NFS programs, exports, configuration.
