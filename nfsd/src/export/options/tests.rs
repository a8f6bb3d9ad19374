//! Tests of the option table.

use super::*;
use crate::finding::{Findings, Place};

fn read(list: &str) -> (Options, String) {
    let mut found = Findings::new();
    let options = parse_options(
        list,
        &Options::default(),
        Place {
            file: "exports",
            line: 4,
        },
        &mut found,
    );
    (options, found.to_string())
}

fn clean(list: &str) -> Options {
    let (options, found) = read(list);
    assert_eq!(found, "", "{list}");
    options
}

#[test]
fn defaults_are_those_of_exports_5() {
    let options = clean("");
    assert_eq!(options, Options::default());
    assert!(options.read_only() && !options.is_async() && options.secure_ports());
    assert!(options.root_squash() && !options.all_squash());
    assert!(
        !options.crossmnt() && !options.nohide() && !options.no_acl() && !options.insecure_locks()
    );
    assert_eq!(
        (options.anon_uid, options.anon_gid, options.sec),
        (65534, 65534, Sec::SYS)
    );
    assert!(options.port_allowed(1023) && !options.port_allowed(1024));
}

#[test]
fn every_switch_sets_what_it_says() {
    assert!(!clean("rw").read_only());
    assert!(clean("async").is_async());
    assert!(!clean("insecure").secure_ports() && clean("insecure").port_allowed(50000));
    assert!(!clean("no_root_squash").root_squash());
    assert!(clean("all_squash").all_squash());
    assert!(clean("crossmnt").crossmnt());
    assert!(clean("rw").delegations() && !clean("no_delegations").delegations());
    assert!(clean("rw").host_locks() && !clean("no_host_locks").host_locks());
    assert!(clean("nohide").nohide());
    assert!(clean("insecure_locks").insecure_locks() && clean("no_auth_nlm").insecure_locks());
    assert!(clean("nordirplus").no_readdirplus());
    assert!(read("no_acl").0.no_acl());
    let defaults = "ro,sync,secure,root_squash,no_all_squash,no_subtree_check,hide,secure_locks,auth_nlm,acl,rdirplus";
    assert_eq!(clean(defaults), Options::default());
    assert_eq!(clean("no_pnfs,xprtsec=none,sec=sys,rw,rw"), clean("rw"));
}

#[test]
fn values() {
    let options = clean("anonuid=1000,anongid=100,sec=none:sys,fsid=root,mp");
    assert_eq!((options.anon_uid, options.anon_gid), (1000, 100));
    assert_eq!(options.sec, Sec::SYS | Sec::NONE);
    assert_eq!(options.fsid, Some(Fsid::ROOT));
    assert_eq!(options.mountpoint, Some(Mountpoint::Here));
    assert_eq!(
        clean("mountpoint=/a\\040b").mountpoint,
        Some(Mountpoint::At("/a b".into()))
    );
    assert_eq!(clean("anonuid=-2").anon_uid, 4294967294);
    assert_eq!(clean("anonuid=7,anonuid=7").anon_uid, 7);
}

#[test]
fn faults_say_where_what_and_the_fix() {
    let cases = [
        (
            "no_root_sqash",
            "unknown option: \"no_root_sqash\"; fix: did you mean \"no_root_squash\"?",
        ),
        (
            "banana",
            "unknown option: \"banana\"; fix: remove it; `ringnfs options` lists the known ones",
        ),
        (
            "manage_gids",
            "not an option of an export: \"manage_gids\"; fix: set manage_gids = true in the daemon configuration",
        ),
        (
            "ro,rw",
            "options \"ro\" and \"rw\" contradict each other: \"ro,rw\"; fix: keep one of the two",
        ),
        (
            "async,rw,sync",
            "options \"async\" and \"sync\" contradict each other: \"async,sync\"; fix: keep one of the two",
        ),
        (
            "root_squash,no_root_squash",
            "options \"root_squash\" and \"no_root_squash\" contradict each other: \"root_squash,no_root_squash\"; fix: keep one of the two",
        ),
        (
            "secure_locks,no_auth_nlm",
            "options \"secure_locks\" and \"no_auth_nlm\" contradict each other: \"secure_locks,no_auth_nlm\"; fix: keep one of the two",
        ),
        (
            "rw=10.0.0.1",
            "option \"rw\" takes no value: \"rw=10.0.0.1\"; fix: write \"rw\"; clients are named before the parenthesis: CLIENT(rw)",
        ),
        (
            "anonuid",
            "option \"anonuid\" needs a value: \"anonuid\"; fix: write anonuid=UID",
        ),
        (
            "anonuid=",
            "option \"anonuid\" needs a value: \"anonuid=\"; fix: write anonuid=UID",
        ),
        (
            "anonuid=bob",
            "not a user or group number: \"anonuid=bob\"; fix: write a number from 0 to 4294967294",
        ),
        (
            "anongid=4294967295",
            "not a user or group number: \"anongid=4294967295\"; fix: write a number from 0 to 4294967294",
        ),
        (
            "anongid=+1",
            "not a user or group number: \"anongid=+1\"; fix: write a number from 0 to 4294967294",
        ),
        (
            "anonuid=1,anonuid=2",
            "option \"anonuid\" is given twice with different values: \"anonuid=1,anonuid=2\"; fix: keep one of the two",
        ),
        (
            "sec=sys,sec=none",
            "option \"sec\" is given twice with different values: \"sec=sys,sec=none\"; fix: join the flavors with colons, as in sec=sys:none; options per flavor are not supported",
        ),
        (
            "mp,mountpoint=/a",
            "option \"mountpoint\" is given twice with different values: \"mountpoint=,mountpoint=/a\"; fix: keep one of the two",
        ),
        (
            "fsid=010",
            "not a file system identity: \"fsid=010\"; fix: write a number from 0 to 4294967295, a UUID of 32 hex digits, or root",
        ),
        (
            "sec=krb5p",
            "security flavor \"krb5p\" is not supported yet: \"sec=krb5p\"; fix: write sec=sys",
        ),
        (
            "sec=sys:krb5",
            "security flavor \"krb5\" is not supported yet: \"sec=sys:krb5\"; fix: write sec=sys",
        ),
        (
            "sec=syss",
            "unknown security flavor \"syss\": \"sec=syss\"; fix: did you mean \"sys\"?",
        ),
        (
            "sec=sys:",
            "unknown security flavor \"\": \"sec=sys:\"; fix: write sec=sys, sec=none or sec=sys:none",
        ),
        (
            "xprtsec=none:tls",
            "RPC with TLS is not supported yet: \"xprtsec=none:tls\"; fix: write xprtsec=none",
        ),
        (
            "xprtsec=ssl",
            "unknown transport security: \"xprtsec=ssl\"; fix: write xprtsec=none",
        ),
        (
            "mountpoint=a",
            "not an absolute path: \"mountpoint=a\"; fix: write mountpoint=/PATH",
        ),
        (
            "refer=/a@b",
            "referrals are not supported: \"refer=/a@b\"; fix: remove the option",
        ),
        (
            "rw,,sync",
            "empty option in the list: \"rw,,sync\"; fix: remove the extra comma",
        ),
        (
            "rw,",
            "empty option in the list: \"rw,\"; fix: remove the extra comma",
        ),
    ];
    for (list, expected) in cases {
        assert_eq!(
            read(list).1,
            format!("exports:4: error: {expected}"),
            "{list}"
        );
    }
}

#[test]
fn warnings_and_notes_do_not_refuse() {
    let cases = [
        (
            "subtree_check",
            "warning: file handles are signed and bound to their export; subtree_check is ignored: \"subtree_check\"; fix: remove \"subtree_check\"",
        ),
        (
            "no_root_squash,anonuid=7",
            "warning: anonuid has no effect: nobody is squashed with no_root_squash: \"anonuid\"; fix: remove anonuid, or use root_squash or all_squash",
        ),
        (
            "all_squash,no_root_squash",
            "warning: no_root_squash has no effect with all_squash: \"no_root_squash\"; fix: remove no_root_squash or all_squash",
        ),
        (
            "pnfs",
            "warning: pNFS is not supported; pnfs is ignored: \"pnfs\"; fix: remove \"pnfs\"",
        ),
        (
            "no_wdelay",
            "note: concurrent stable writes always share one flush; there is no delay to switch: \"no_wdelay\"",
        ),
    ];
    for (list, expected) in cases {
        assert_eq!(read(list).1, format!("exports:4: {expected}"), "{list}");
    }
    assert_eq!(read("no_root_squash,anonuid=7,sec=none").1, "");
    assert_eq!(
        read("no_root_squash,all_squash,anonuid=7")
            .1
            .lines()
            .count(),
        1
    );
}

#[test]
fn every_fault_of_a_list_is_reported() {
    assert_eq!(read("rx,ro,rw,anonuid=x").1.lines().count(), 3);
}

#[test]
fn a_list_overrides_its_base_without_contradiction() {
    let base = clean("rw,async,anonuid=5");
    let mut found = Findings::new();
    let options = parse_options(
        "ro,anonuid=6",
        &base,
        Place { file: "e", line: 1 },
        &mut found,
    );
    assert!(found.is_empty());
    assert!(options.read_only() && options.is_async());
    assert_eq!(options.anon_uid, 6);
}

#[test]
fn display_is_canonical_and_reads_back() {
    assert_eq!(Options::default().to_string(), "ro,sync,root_squash");
    let list = "rw,async,no_wdelay,insecure,no_root_squash,all_squash,anonuid=1,anongid=2,fsid=7,crossmnt,nohide,\
                sec=sys:none,insecure_locks,no_acl,mountpoint=/a\\054b,nordirplus,no_delegations,no_host_locks";
    let options = read(list).0;
    assert_eq!(options.to_string(), list);
    assert_eq!(read(&options.to_string()).0, options);
}

#[test]
fn the_table_is_sound() {
    for (i, row) in OPTIONS.iter().enumerate() {
        assert!(
            OPTIONS[..i].iter().all(|other| other.name != row.name),
            "{} twice",
            row.name
        );
        assert!(
            !row.meaning.is_empty()
                && row
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{}",
            row.name
        );
        if let (Value::None, "yes") = (row.value, row.default) {
            assert_eq!(
                read(row.name).0,
                Options::default(),
                "{} says it is the default",
                row.name
            );
        }
    }
}

#[test]
fn the_reference_has_every_option() {
    let text = reference();
    assert!(
        text.contains("* ro                       clients may only read\n"),
        "{text}"
    );
    assert!(
        text.contains("* anonuid=UID              uid of squashed users (default 65534)\n"),
        "{text}"
    );
    assert_eq!(text.lines().count(), OPTIONS.len() + 2);
}
