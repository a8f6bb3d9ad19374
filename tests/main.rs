//! One integration binary.

#![allow(
    clippy::result_large_err,
    reason = "a failed procedure carries its attributes, and tests are not in a hurry"
)]

/// `by_version! { run: NAME VERSION default, NAME VERSION soak, ... }`: a test NAME for each VERSION, calling
/// `run(its name, Version)` when that version is wanted (see `tests::version`).
macro_rules! by_version {
    ($run:ident: $($name:ident $version:ident $when:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            let test = concat!(module_path!(), "::", stringify!($name));
            let test = test.split_once("::").map_or(test, |(_, name)| name);
            let version = tests::version::Version::$version;
            if version.wanted(test, stringify!($when) == "default") {
                $run(test, version);
            }
        }
    )*};
}

/// Every wire type against rpcgen C, libtirpc, nfs3_types and xdr-codec.
mod codec;
/// SIGKILL and power loss in the middle of work.
mod crash;
/// Several exports and file systems below one mount of the real client.
mod crossing;
/// A FUSE file system, exported to the real client.
mod fuse;
/// Clients that are called back over IPv6.
mod ipv6;
/// The real Linux NFS client, in user-mode Linux, against the server.
mod kernel;
/// Locks, opens and delegations of two clients while the server is killed again and again.
mod lock_kills;
/// What POSIX says of record locks, through the kernel client.
mod lock_suite;
/// Locks, shared state and recovery of NFSv4 through the real client, with two of them.
mod locking;
/// Every NFSv3 procedure with the raw client: success, errors, attributes, handles, exports, full disks.
mod nfs3;
/// Every NFSv4 operation with the raw client.
mod nfs4;
/// NFSACL: the procedures with the raw client, lifetimes of ACLs, setfacl and getfacl through the kernel client.
mod nfsacl;
/// Every procedure of NLM and NSM with hosts that are called back.
mod nlm;
/// The public suites pjdfstest and fsx through the kernel client.
mod pjdfstest;
/// Disk quotas on ext4, the server in one guest and the client in another.
mod quotas;
/// Real programs on the mount: tar, git, rsync, sqlite, cargo.
mod real_work;
/// Stuck clients, stopped disks, signals, faults below the VFS, with the raw client.
mod robust;
/// ONC RPC over TCP with the raw client: refusals, records, retransmissions, programs, connections.
mod rpc;
/// `--rpcbind` with a real rpcbind.
mod rpcbind;
/// sqlite and a mailbox, shared by two clients over NFSv3.
mod sharing;
