//! The MOUNT protocol, versions 1 and 3.

pub mod types;
