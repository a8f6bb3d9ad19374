//! Callbacks: what the server asks of its clients (RFC 7530 section 10, RFC 8881 section 20).

pub mod slots;
pub mod wire;
