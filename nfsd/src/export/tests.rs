//! Tests of the export table.

use super::client::Name;
use super::*;
use proptest::prelude::*;
use std::io;
use std::net::IpAddr;

/// Knows two hosts.
struct Hosts;

impl Resolver for Hosts {
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match host {
            "ws1" => Ok(vec![IpAddr::from([192, 0, 2, 1])]),
            "ws2" => Ok(vec![IpAddr::from([192, 0, 2, 2])]),
            _ => Err(io::Error::other("no such host")),
        }
    }
    fn name(&self, _: IpAddr) -> Option<String> {
        None
    }
}

fn table(text: &str) -> ExportTable {
    let mut found = Findings::new();
    let table = load("exports", 1, text.as_bytes(), &Hosts, &mut found);
    assert_eq!(found.to_string(), "", "{text}");
    table
}

fn faults(text: &str) -> String {
    let mut found = Findings::new();
    load("exports", 1, text.as_bytes(), &Hosts, &mut found);
    found.to_string()
}

fn peer(addr: &str) -> Peer<'static> {
    Peer::from(addr.parse::<IpAddr>().expect("an address"))
}

fn anon_uid(access: Access<'_>) -> Option<u32> {
    access.granted().map(|options| options.anon_uid)
}

#[test]
fn nothing_is_exported_to_nobody_named() {
    let table = table("/srv ws1(rw)");
    let id = table.exports()[0].id;
    assert_eq!(table.lookup(id, &peer("192.0.2.9")), Access::Denied);
    assert_eq!(
        table.lookup(id.wrapping_add(1), &peer("192.0.2.1")),
        Access::Denied
    );
    assert!(table.lookup(id, &peer("192.0.2.1")).granted().is_some());
    assert!(
        table
            .lookup(id, &peer("::ffff:192.0.2.1"))
            .granted()
            .is_some()
    );
    assert_eq!(
        ExportTable::default().lookup(0, &peer("127.0.0.1")),
        Access::Denied
    );
}

#[test]
fn precedence_is_host_longest_network_wildcard_everyone() {
    let text = "/a *(anonuid=1) *.lab(anonuid=2) 192.0.0.0/16(anonuid=3) 192.0.2.0/24(anonuid=4) ws1(anonuid=5) 192.0.2.7(anonuid=6)";
    let table = table(text);
    let export = &table.exports()[0];
    assert_eq!(anon_uid(export.access(&peer("192.0.2.1"))), Some(5));
    assert_eq!(anon_uid(export.access(&peer("192.0.2.7"))), Some(6));
    assert_eq!(anon_uid(export.access(&peer("192.0.2.9"))), Some(4));
    assert_eq!(anon_uid(export.access(&peer("192.0.9.9"))), Some(3));
    let far = "203.0.113.1".parse().expect("an address");
    assert_eq!(export.access(&Peer::from(far)), Access::NeedsName);
    assert_eq!(
        anon_uid(export.access(&Peer::new(far, Name::Is("x.lab")))),
        Some(2)
    );
    assert_eq!(
        anon_uid(export.access(&Peer::new(far, Name::Is("x.net")))),
        Some(1)
    );
    assert_eq!(
        anon_uid(export.access(&Peer::new(far, Name::Absent))),
        Some(1)
    );
    assert!(table.needs_names());
}

fn below(table: &ExportTable, path: &str, from: &str) -> Option<(String, String)> {
    match table.find_by_path(Path::new(path), &peer(from)) {
        Found::Granted { export, below, .. } => Some((
            export.path.display().to_string(),
            below.display().to_string(),
        )),
        _ => None,
    }
}

#[test]
fn mounts_use_the_deepest_export_that_lets_the_peer_in() {
    let table = table("/srv *(ro)\n/srv/deep ws1(rw)\n/only ws1\n");
    let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
    assert_eq!(below(&table, "/srv", "192.0.2.9"), pair("/srv", ""));
    assert_eq!(below(&table, "//srv/./", "192.0.2.9"), None);
    assert_eq!(
        below(&table, "//srv//x/y/", "192.0.2.9"),
        pair("/srv", "x/y")
    );
    assert_eq!(
        below(&table, "/srv/deep/x", "192.0.2.1"),
        pair("/srv/deep", "x")
    );
    assert_eq!(
        below(&table, "/srv/deep/x", "192.0.2.9"),
        pair("/srv", "deep/x")
    );
    assert_eq!(
        table.find_by_path(Path::new("/srvx"), &peer("192.0.2.1")),
        Found::NotExported
    );
    assert_eq!(
        table.find_by_path(Path::new("/srv/../only"), &peer("192.0.2.1")),
        Found::NotExported
    );
    assert_eq!(
        table.find_by_path(Path::new("srv"), &peer("192.0.2.1")),
        Found::NotExported
    );
    assert_eq!(
        table.find_by_path(Path::new("/only/x"), &peer("192.0.2.9")),
        Found::Denied
    );
}

#[test]
fn mounts_under_a_wildcard_need_the_name() {
    let table = table("/srv *(ro)\n/srv/deep *.lab(rw)\n");
    assert_eq!(
        table.find_by_path(Path::new("/srv/deep"), &peer("192.0.2.9")),
        Found::NeedsName
    );
    assert_eq!(
        below(&table, "/srv/x", "192.0.2.9"),
        Some(("/srv".to_owned(), "x".to_owned()))
    );
    assert_eq!(table.visible_to(&peer("192.0.2.9")), None);
}

#[test]
fn peers_see_only_their_exports() {
    let table = table("/a ws1\n/b *\n/c ws2 192.0.2.1\n");
    let seen = |from: &str| -> Vec<&Path> {
        table
            .visible_to(&peer(from))
            .unwrap_or_default()
            .iter()
            .map(|e| e.path.as_path())
            .collect()
    };
    assert_eq!(
        seen("192.0.2.1"),
        [Path::new("/a"), Path::new("/b"), Path::new("/c")]
    );
    assert_eq!(seen("192.0.2.2"), [Path::new("/b"), Path::new("/c")]);
    assert_eq!(seen("203.0.113.1"), [Path::new("/b")]);
}

/// File handles of clients hold these numbers: they must never change.
#[test]
fn export_ids_are_stable() {
    assert_eq!(export_id(Path::new("/srv"), None), STABLE_IDS[0]);
    assert_eq!(
        export_id(Path::new("/srv"), Some(Fsid::ROOT)),
        STABLE_IDS[1]
    );
    assert_eq!(
        export_id(Path::new("/other"), Some(Fsid::ROOT)),
        STABLE_IDS[1]
    );
    assert_eq!(
        export_id(Path::new("/srv"), Some(Fsid::Number(1))),
        STABLE_IDS[2]
    );
}

const STABLE_IDS: [u32; 3] = [2658411460, 485683008, 1774703149];

#[test]
fn the_id_does_not_depend_on_order_or_clients() {
    let (one, two) = (table("/a *\n/b ws1"), table("/b *(rw)\n/a ws2"));
    let id = |table: &ExportTable, path: &str| {
        table
            .exports()
            .iter()
            .find(|e| e.path == Path::new(path))
            .map(|e| e.id)
    };
    assert_eq!(id(&one, "/a"), id(&two, "/a"));
    assert!(id(&one, "/a").is_some() && id(&one, "/a") != id(&one, "/b"));
    for export in one.exports() {
        assert_eq!(one.get(export.id), Some(export));
    }
}

#[test]
fn same_path_and_client_twice_is_refused() {
    assert_eq!(
        faults("/a *(rw)\n/b *\n/a/ ws1 *"),
        "exports:3: error: /a is already exported to \"*\" in line 1: \"*(ro,sync,root_squash)\"; fix: remove one of the two"
    );
    assert!(faults("/a 10.0.0.0/8 10.1.1.1/255.0.0.0").contains("already exported"));
}

#[test]
fn lines_of_one_path_are_joined() {
    let table = table("/a ws1\n/b *\n/a ws2(rw)");
    assert_eq!(table.exports().len(), 2);
    assert_eq!(table.exports()[0].clients.len(), 2);
}

#[test]
fn fsid_is_one_per_export_and_unique() {
    assert_eq!(
        faults("/a *(fsid=1)\n/b *(fsid=1)"),
        "exports:2: error: /a and /b have the same fsid: \"fsid=1\"; fix: give each export its own fsid"
    );
    assert_eq!(
        faults("/a *(fsid=1) ws1(fsid=2)"),
        "exports:1: error: /a has another fsid for another client: \"fsid=1, fsid=2\"; fix: give all clients of an export the same fsid"
    );
    assert_eq!(
        table("/a ws1 *(fsid=1)").exports()[0].fsid,
        Some(Fsid::Number(1))
    );
}

#[test]
fn colliding_ids_are_refused() {
    // Two paths whose hashes share 32 bits, found by search below.
    let (mut seen, mut pair) = (HashMap::new(), None);
    for n in 0..1_000_000u32 {
        let path = format!("/p{n}");
        if let Some(first) = seen.insert(export_id(Path::new(&path), None), path.clone()) {
            pair = Some((first, path));
            break;
        }
    }
    let (first, second) = pair.expect("a collision among a million 32-bit hashes");
    let text = faults(&format!("{first} *\n{second} *\n"));
    assert!(
        text.starts_with(&format!(
            "exports:2: error: {first} and {second} get the same export id: \"0x"
        )),
        "{text}"
    );
    assert!(
        text.ends_with("fix: give one of them an fsid= of its own, or another one"),
        "{text}"
    );
    assert!(!faults(&format!("{first} *\n{second} *(fsid=9)\n")).contains("error"));
}

#[test]
fn unresolved_hosts_are_told_and_get_nothing() {
    assert_eq!(
        faults("/a nohost(rw)"),
        "exports:1: warning: cannot resolve the host name, it gets no access: no such host: \"nohost\"; \
         fix: correct the name, or run `ringnfs reload` when it can be resolved"
    );
}

fn client() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        any::<[u8; 4]>().prop_map(|a| IpAddr::from(a).to_string()),
        any::<[u8; 16]>().prop_map(|a| format!("[{}]", std::net::Ipv6Addr::from(a))),
        (any::<[u8; 4]>(), 0u8..=32).prop_map(|(a, n)| format!("{}/{n}", IpAddr::from(a))),
        (any::<[u8; 16]>(), 0u8..=128).prop_map(|(a, n)| format!("{}/{n}", IpAddr::from(a))),
        Just("ws1".to_owned()),
        "[a-z]{1,5}\\.[a-z]{1,3}",
        "[a-z]{0,3}\\*\\.[a-z]{1,3}",
    ]
}

fn option_list() -> impl Strategy<Value = String> {
    let rows: Vec<&'static str> = options::OPTIONS.iter().map(|row| row.name).collect();
    let word = (proptest::sample::select(rows), any::<u32>()).prop_map(|(name, n)| match name {
        "anonuid" | "anongid" | "fsid" => format!("{name}={n}"),
        "sec" => ["sec=sys", "sec=none", "sec=sys:none"][(n % 3) as usize].to_owned(),
        "mp" | "mountpoint" if n % 2 == 0 => format!("{name}=/m\\054{n}"),
        name => name.to_owned(),
    });
    proptest::collection::vec(word, 0..6).prop_map(|words| words.join(","))
}

proptest! {
    /// Whatever was understood of a file reads back the same from its canonical form, and without errors.
    #[test]
    fn display_reads_back(
        entries in proptest::collection::vec(
            ("/[ -~]{0,8}", proptest::collection::vec((client(), option_list()), 1..4)), 0..5)
    ) {
        let mut text = Vec::new();
        for (path, clients) in &entries {
            let Ok(path) = parse::check_path(path.as_bytes()) else { continue };
            text.extend_from_slice(parse::escape(&path).as_bytes());
            for (client, list) in clients {
                text.extend_from_slice(format!(" {client}({list})").as_bytes());
            }
            text.push(b'\n');
        }
        let first = load("f", 1, &text, &Hosts, &mut Findings::new());
        let mut found = Findings::new();
        let again = load("f", 1, first.to_string().as_bytes(), &Hosts, &mut found);
        prop_assert_eq!(&again, &first);
        let about_syntax = found.iter().find(|f| f.severity == crate::finding::Severity::Error && !f.message.contains("fsid"));
        prop_assert!(about_syntax.is_none(), "{}", found);
    }
}
