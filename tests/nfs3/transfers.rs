//! READs and WRITEs as long as the server is set to take them, and records that are longer.

use nfsd::nfs3::Proc3;
use nfsd::nfs3::types::StableHow;
use nfsd::rpc::record::mark;
use tests::client::nfs3::nfs3;
use tests::client::{Client, PATIENCE};
use tests::daemon::{Setup, policies};

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

/// Bytes that say where they are.
fn pattern(len: u32) -> Vec<u8> {
    let mut data: Vec<u8> = (0..len.div_ceil(4)).flat_map(u32::to_be_bytes).collect();
    data.truncate(len as usize);
    data
}

/// What is set is what FSINFO says, and what READ and WRITE do; not a byte more, and a record that could hold more ends its
/// connection.
#[test]
fn transfers_are_as_long_as_configured() {
    for policy in policies() {
        for transfer in [256 * KIB, MIB, 2 * MIB, 4 * MIB] {
            let config = format!("[limits]\ntransfer_bytes = \"{}KiB\"", transfer / KIB);
            let server = Setup::config(&config).policy(&policy).start();
            let (mut client, root) = server.mounted();
            let info = client.fsinfo(&root).expect("FSINFO");
            assert_eq!((info.rtmax, info.wtmax), (transfer, transfer));
            let preferred = transfer.min(MIB);
            assert_eq!((info.rtpref, info.wtpref), (preferred, preferred));
            let file = client.new_file(&root, b"file", 0o644);
            let data = pattern(2 * transfer);
            let (first, second) = data.split_at(transfer as usize);
            // Twice: the first is received in other ways than what follows it.
            for _ in 0..2 {
                for (offset, part) in [(0, first), (u64::from(transfer), second)] {
                    let wrote = client.write(&file, offset, part, StableHow::Unstable);
                    assert_eq!(wrote.expect("WRITE").count, transfer);
                }
            }
            let found = std::fs::read(server.export().join("file")).expect("the file");
            assert!(found == data, "{transfer}");
            for (offset, part, eof) in [(0, first, false), (u64::from(transfer), second, true)] {
                let read = client.read(&file, offset, transfer).expect("READ");
                assert!(read.data == part && read.eof == eof, "{transfer} {offset}");
            }
            let read = client.read(&file, 1, u32::MAX).expect("READ");
            assert!(!read.eof && read.data == data[1..=transfer as usize]);
            // The longest request, and one that is longer, with whatever is in it.
            let (xid, mut record) = client.build(nfs3(Proc3::Null), &());
            record.resize((transfer + 4 * KIB) as usize, 0);
            client.send_record(&record);
            client.answer(xid).outcome().expect("NULL");
            let longer = mark(transfer + 4 * KIB + 1, true);
            client.send_raw(&longer).expect("sending");
            assert!(client.closed_within(PATIENCE), "{transfer}");
        }
    }
}

/// Many of the longest, all at once over several connections, where the buffers do not hold them all.
#[test]
fn long_transfers_share_little_memory() {
    for policy in policies() {
        let config = "[limits]\ntransfer_bytes = \"4MiB\"\nbuffers_bytes = \"64MiB\"";
        let server = Setup::config(config)
            .args(&["--threads", "1"])
            .policy(&policy)
            .start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o644);
        let data = pattern(4 * MIB);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (mut client, file, data) = (server.client(), &file, &data);
                scope.spawn(move || {
                    let start = |client: &mut Client| {
                        client.start_write(file, 0, data, StableHow::Unstable)
                    };
                    let xids = [(); 4].map(|()| start(&mut client));
                    for xid in xids {
                        let wrote = client.finish_write(xid).expect("WRITE");
                        assert_eq!(wrote.count, 4 * MIB);
                    }
                    for _ in 0..3 {
                        let read = client.read(file, 0, 4 * MIB).expect("READ");
                        assert!(read.data == *data && read.eof);
                    }
                });
            }
        });
        let mapped = server.stat("buffers.mapped_bytes");
        assert!(mapped <= 64 << 20, "{mapped} bytes");
        drop(client);
        server.wait_idle();
        assert_eq!(server.stat("buffers.out"), 0);
    }
}
