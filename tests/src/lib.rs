//! Test harness of ringnfs.

#![allow(
    clippy::result_large_err,
    reason = "a failed procedure carries its attributes, and tests are not in a hurry"
)]

pub mod client;
pub mod crates;
pub mod daemon;
pub mod fusefs;
pub mod image;
pub mod loopfs;
pub mod need;
pub mod netns;
mod not_run;
pub mod odd;
pub mod peer;
pub mod server;
mod stall;
pub mod uml;
pub mod version;
pub mod workers;
