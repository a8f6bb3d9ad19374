//! NFS version 4 (RFC 7530, RFC 8881, RFC 7862).

pub mod recovery;
pub mod state;
