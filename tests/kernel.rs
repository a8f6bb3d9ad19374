//! The real Linux NFS client.
use tests::server::{self, Config, Kind, Server};
use tests::netns::Rig;
use tests::uml::{Boot, Guest};
#[test]
fn smoke() {
    let kind = Kind::from_env();
    if !server::have("kernel::smoke", kind) { return; }
    let t = std::time::Instant::now();
    let rig = Rig::new();
    eprintln!("rig {:?}", t.elapsed());
    let mut server = Server::start(&rig, &Config::default());
    eprintln!("server {:?} {:?}", t.elapsed(), server.pid());
    let guest = Guest::boot(&rig, &Boot::default());
    eprintln!("guest {:?}", t.elapsed());
    let m = server.target.mount3("/mnt/nfs", "");
    eprintln!("{}", guest.ok(60, &format!("{m}
grep nfs /proc/mounts; echo hi >/mnt/nfs/x; cat /mnt/nfs/x; df /mnt/nfs; ls -la /mnt/nfs")));
    eprintln!("job {:?}", t.elapsed());
    server.kill9();
    eprintln!("killed {:?}", t.elapsed());
    server.start_again();
    eprintln!("restarted {:?}", t.elapsed());
    guest.ok(60, "ls -l /mnt/nfs; cat /mnt/nfs/x; dmesg | tail -5");
    eprintln!("job {:?}", t.elapsed());
}
