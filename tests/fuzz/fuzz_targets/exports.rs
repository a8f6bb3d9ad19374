//! Fuzzes the exports(5) parser: any bytes are read without a panic, and what was read without errors reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfsd::export::{ExportTable, load, names::Resolver};
use nfsd::finding::Findings;
use std::io;
use std::net::IpAddr;

/// No host has an address: the fuzzer must not ask the network.
struct NoHosts;

impl Resolver for NoHosts {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(Vec::new())
    }
    fn name(&self, _: IpAddr) -> Option<String> {
        None
    }
}

fn read(text: &[u8]) -> (ExportTable, Findings) {
    let mut found = Findings::new();
    let table = load("exports", 1, text, &NoHosts, &mut found);
    (table, found)
}

fuzz_target!(|text: &[u8]| {
    let (table, found) = read(text);
    // The faults must be printable too.
    let _ = found.to_string();
    if !found.has_errors() {
        let (again, found) = read(table.to_string().as_bytes());
        assert!(!found.has_errors(), "{found}");
        assert_eq!(again, table);
    }
});
