//! What NFSv4 clients hold: pure, takes `now`, never waits.

pub mod grace;
