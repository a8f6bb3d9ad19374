//! Engine row.
fn main() {}
