//! ONC RPC over TCP as seen by a client that does everything it may and much that it may not.

#[path = "rpc/callbacks.rs"]
mod callbacks;
#[path = "rpc/connections.rs"]
mod connections;
#[path = "rpc/errors.rs"]
mod errors;
#[path = "rpc/long_records.rs"]
mod long_records;
#[path = "rpc/programs.rs"]
mod programs;
#[path = "rpc/records.rs"]
mod records;
#[path = "rpc/replay.rs"]
mod replay;

pub(crate) use tests::workers;
