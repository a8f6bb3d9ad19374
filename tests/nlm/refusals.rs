//! What is refused, and how: without permission, on an export that is only read, when a table is full.

use nfsd::nlm::state::WAITS_MAX;
use nfsd::nlm::types::{FshAccess, FshMode, NlmProc, NlmStat};
use tests::client::Login;
use tests::client::nlm::Host;
use tests::daemon::{Setup, TestServer};

use super::two;

const READS: (FshAccess, FshMode) = (FshAccess::Read, FshMode::Write);
const WRITES: (FshAccess, FshMode) = (FshAccess::Write, FshMode::None);
const SHARE: NlmProc = NlmProc::Share;

#[test]
fn who_may_share() {
    let setup = Setup::exports(
        "@DIR@/export *(rw,no_root_squash,insecure,fsid=1)\n@DIR@/export/ro *(ro,no_root_squash,insecure,fsid=2)\n",
    );
    let dir = tests::daemon::fresh_dir();
    let ro = dir.path().join("export/ro");
    std::fs::create_dir(&ro).expect("mkdir");
    std::fs::write(ro.join("f"), "x").expect("a file");
    let server = setup.start_in(dir);
    let (mut a, _b, fh) = two(&server);
    let root = a.mount(&server.export());
    let closed = a.client.new_file(&root, b"closed", 0o600);
    let ro = a.mount(&server.export().join("ro"));
    let read_only = a.client.lookup(&ro, b"f").expect("LOOKUP").fh;
    a.client.set_login(Login::user(1000, 1000));
    let own = a.client.new_file(&root, b"own", 0);
    for (vers, rofs) in [(4, NlmStat::Rofs), (3, NlmStat::DeniedNolocks)] {
        a.vers = vers;
        for (fh, what, expected) in [
            (&fh, WRITES, NlmStat::Granted),
            (&own, WRITES, NlmStat::Granted),
            (&closed, READS, NlmStat::Denied),
            (&closed, WRITES, NlmStat::Denied),
            (&read_only, READS, NlmStat::Granted),
            (&read_only, WRITES, rofs),
            (&read_only, (FshAccess::Both, FshMode::None), rofs),
        ] {
            assert_eq!(a.share(SHARE, fh, b"1", what), expected, "{what:?}");
            // A host gives back what it has, if anything.
            let back = a.share(NlmProc::Unshare, fh, b"1", what);
            assert_eq!(back, NlmStat::Granted);
        }
        // There is none to reclaim after a first start.
        let late = a.share_with(SHARE, &fh, b"1", READS, true);
        assert_eq!(late, NlmStat::DeniedGracePeriod);
        let directory = a.share(SHARE, &root, b"1", READS);
        let failed = match vers {
            4 => NlmStat::Failed,
            _ => NlmStat::DeniedNolocks,
        };
        assert_eq!(directory, failed);
    }
}

#[test]
fn lines_are_bounded() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    let mut c = Host::new(server.addr(), "gamma");
    let root = a.mount(&server.export());
    let other = a.client.new_file(&root, b"other", 0o666);
    assert_eq!(a.lock(&fh, 1, (0, 0)), NlmStat::Granted);
    assert_eq!(a.lock(&other, 1, (0, 0)), NlmStat::Granted);
    // Not in each other's way: whether they wait in a circle is soon seen.
    let max = WAITS_MAX as u64;
    for n in 0..max {
        assert_eq!(b.wait(&fh, 7, (n, 1)), NlmStat::Blocked, "{n}");
    }
    assert_eq!(b.wait(&fh, 7, (3, 1)), NlmStat::Blocked, "asked again");
    let full = NlmStat::DeniedNolocks;
    assert_eq!(b.wait(&other, 7, (0, 1)), full, "all that b may wait for");
    assert_eq!(c.wait(&fh, 7, (max, 1)), full, "all that may wait there");
    assert_eq!(c.lock(&fh, 7, (max, 1)), NlmStat::Denied);
    assert_eq!(c.wait(&other, 7, (0, 1)), NlmStat::Blocked);
    assert_eq!(b.cancel(&fh, 7, (3, 1)), NlmStat::Granted);
    assert_eq!(c.wait(&fh, 7, (max, 1)), NlmStat::Blocked, "there is room");
    assert_eq!(b.wait(&fh, 7, (3, 1)), full, "not there");
    assert_eq!(b.wait(&other, 7, (3, 1)), NlmStat::Blocked);
}
