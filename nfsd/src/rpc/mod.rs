//! ONC RPC version 2 (RFC 5531): pure parts, no sockets and no clock.

pub mod auth;
pub mod drc;
pub mod msg;
pub mod portmap;
pub mod record;
