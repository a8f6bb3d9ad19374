//! Fuzzes what NFSv4 clients hold: opens, locks and their stateids must be what a naive model has, after each step of a
//! script made of the input.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| nfsd::nfs4::state::holdings::model::run(script));
