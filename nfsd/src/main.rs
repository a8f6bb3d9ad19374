//! The ringnfs command.

fn main() {}
