//! Fuzzes a file's conflict table: shares, byte ranges and delegations must do what a naive model does, step by step of
//! a script made of the input.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| vfs::locks::model::run(script));
