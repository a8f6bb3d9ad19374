//! Test harness of ringnfs.

pub mod client;
pub mod daemon;
pub mod image;
pub mod loopfs;
pub mod need;
pub mod netns;
pub mod server;
pub mod uml;
