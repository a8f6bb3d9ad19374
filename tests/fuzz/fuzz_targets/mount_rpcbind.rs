//! Fuzzes the types of MOUNT, the port mapper, rpcbind and AUTH_SYS, and universal addresses; the first byte chooses.
#![no_main]

mod law;

use libfuzzer_sys::fuzz_target;
use nfsd::mount::types::*;
use nfsd::rpc::auth::sys::AuthSys;
use nfsd::rpc::portmap::*;
use nfsd::rpc::uaddr::{parse_universal_addr, universal_addr};

fuzz_target!(|data: &[u8]| {
    if let Some((0, text)) = data.split_first().map(|(n, text)| (*n, text)) {
        if let Some(addr) = parse_universal_addr(text) {
            assert_eq!(
                parse_universal_addr(universal_addr(&addr).as_bytes()),
                Some(addr)
            );
        }
        return;
    }
    choose!(data;
        1 => Dirpath<'_>,
        2 => Fhstatus,
        3 => Mountres3<'_>,
        4 => Mountlist<'_>,
        5 => Exports<'_>,
        6 => Mapping,
        7 => PmapList<'_>,
        8 => Rpcb<'_>,
        9 => RpcbList<'_>,
        10 => AuthSys<'_>,
    );
});
