//! Benchmark of ringnfs and its peers: a pipelined raw-TCP NFS load generator that costs the client little,
//! so that two cores shared with the server still measure the server. It shares no code with the server crates:
//! every call and every check is written here from RFC 5531, RFC 1813 and RFC 8881.

pub mod acls;
pub mod conn;
pub mod cpu;
pub mod engine;
pub mod load;
pub mod outq;
pub mod report;
pub mod rows;
pub mod rpc;
pub mod servers;
pub mod session;
pub mod v4;
pub mod work;
