//! Tests of the io_uring engine and the VFS on real file systems, one process for all. They run one
//! at a time: they count descriptors, change limits, inject faults. Much of it needs the superuser.

mod access; // decisions held to the kernel's
#[cfg(feature = "fault-injection")]
mod acl_drops; // requests about ACLs that end at every point
mod acls; // ACLs, read and set
mod change; // the change attribute
mod copy; // COPY and CLONE, on several file systems
mod data; // reading, writing, stability, attributes
mod differential; // random decisions, ours and the kernel's
mod directory; // READDIR on several file systems
mod engine; // executor, in-flight operations, queues
#[cfg(feature = "fault-injection")]
mod every_op; // every type of operation fails, and is dropped
#[cfg(feature = "fault-injection")]
mod faults; // every opcode fails or comes back short
mod locks; // files that are open, locked or delegated
mod mounts; // file systems below, and resources that run out
#[path = "../../../tests/src/not_run.rs"]
mod not_run; // a loud word about a test that cannot run
mod open; // what OPEN asks: permission, creation, removal
mod resources; // buffers, registered files, personalities, threads
mod scratch; // places and checks the others share
mod space; // data and holes
mod together; // several workers on one tree
mod tree; // names and handles
mod xattr; // users' extended attributes, and quota
