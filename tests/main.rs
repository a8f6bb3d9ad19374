//! One integration binary.

#![allow(
    clippy::result_large_err,
    reason = "a failed procedure carries its attributes, and tests are not in a hurry"
)]

/// Every wire type against rpcgen C, libtirpc, nfs3_types and xdr-codec.
mod codec;
/// SIGKILL and power loss in the middle of work.
mod crash;
/// The real Linux NFS client, in user-mode Linux, against the server.
mod kernel;
/// Every NFSv3 procedure with the raw client: success, errors, attributes, handles, exports, full disks.
mod nfs3;
/// Every NFSv4 operation with the raw client.
mod nfs4;
/// NFSACL: the procedures with the raw client, lifetimes of ACLs, setfacl and getfacl through the kernel client.
mod nfsacl;
/// The public suites pjdfstest and fsx through the kernel client.
mod pjdfstest;
/// Real programs on the mount: tar, git, rsync, sqlite, cargo.
mod real_work;
/// Stuck clients, stopped disks, signals, faults below the VFS, with the raw client.
mod robust;
/// ONC RPC over TCP with the raw client: refusals, records, retransmissions, programs, connections.
mod rpc;
