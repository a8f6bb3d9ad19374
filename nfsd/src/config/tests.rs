//! Tests of the configuration.

use super::*;
use crate::export::client::Peer;
use proptest::prelude::*;
use std::io;
use std::net::IpAddr;

const MEMORY: u64 = 4 << 30;

struct NoHosts;

impl Resolver for NoHosts {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn name(&self, _: IpAddr) -> Option<String> {
        None
    }
}

fn read(text: &str) -> (Config, String) {
    let mut found = Findings::new();
    let config = Config::parse("ringnfs.toml", text, MEMORY, &mut found);
    let told: Vec<String> = found
        .iter()
        .map(ToString::to_string)
        .filter(|line| !line.contains(": note: "))
        .collect();
    (config, told.join("\n"))
}

fn clean(text: &str) -> Config {
    let (config, found) = read(text);
    assert_eq!(found, "", "{text}");
    config
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(clean(""), Config::for_memory(MEMORY));
}

#[test]
fn every_setting_is_read() {
    let config = clean(
        r#"
listen = ["192.0.2.1:2049", "[::1]:0"]
threads = 3
io_policy = "ring"
exports_file = "/etc/exports"
state_dir = "/s"
recovery_db = "/d/r.redb"
runtime_dir = "/r"
lease_time = "20s"
grace_time = "1m"
log = "warn,nfsd::rpc=debug"
log_format = "json"
manage_gids = true
idmap = "names"
idmap_domain = "Example.org"
rpcbind = true
portmapper = true
[limits]
connections = 100
connections_per_client = 10
records_in_flight = 7
reply_bytes = "2MiB"
transfer_bytes = "64KiB"
record_bytes = 0x20000
buffers_bytes = "1GiB"
open_files = 5000
delegations = 700
available_memory = 12
[timeouts]
half_record = "5s"
send_stalled = "2m"
drain = "0s"
"#,
    );
    assert_eq!(
        config.listen,
        [
            "192.0.2.1:2049".parse().expect("addr"),
            "[::1]:0".parse().expect("addr")
        ]
    );
    assert_eq!(
        (config.threads, config.io_policy, config.log_format),
        (3, IoPolicy::Ring, LogFormat::Json)
    );
    assert_eq!(
        config.exports_file.as_deref(),
        Some(Path::new("/etc/exports"))
    );
    assert_eq!(
        (config.state_dir.to_str(), config.runtime_dir.to_str()),
        (Some("/s"), Some("/r"))
    );
    assert_eq!(config.recovery_db(), Path::new("/d/r.redb"));
    assert_eq!(
        (config.lease_time, config.grace_time),
        (Duration::from_secs(20), Duration::from_secs(60))
    );
    assert_eq!(config.log, "warn,nfsd::rpc=debug");
    assert!(config.manage_gids && config.rpcbind && config.portmapper);
    assert_eq!(
        (config.idmap, config.idmap_domain.as_deref()),
        (Idmapping::Names, Some("Example.org"))
    );
    let limits = Limits {
        connections: 100,
        connections_per_client: 10,
        records_in_flight: 7,
        reply_bytes: 2 << 20,
        transfer_bytes: 64 << 10,
        record_bytes: 128 << 10,
        buffers_bytes: 1 << 30,
        open_files: 5000,
        delegations: 700,
        available_memory: 12,
    };
    assert_eq!(config.limits, limits);
    let seconds = |t: Duration| t.as_secs();
    let times = config.timeouts;
    assert_eq!(
        (
            seconds(times.half_record),
            seconds(times.send_stalled),
            seconds(times.drain)
        ),
        (5, 120, 0)
    );
}

#[test]
fn faults_say_where_what_and_the_fix() {
    let cases = [
        (
            "\nthread = 1",
            "2: error: unknown setting: \"thread\"; fix: did you mean \"threads\"?",
        ),
        (
            "[limits]\nconections = 1",
            "2: error: unknown setting: \"limits.conections\"; fix: did you mean \"limits.connections\"?",
        ),
        (
            "open_files = 1",
            "1: error: unknown setting: \"open_files\"; fix: did you mean \"limits.open_files\"?",
        ),
        (
            "[limit]\nx = 1",
            "1: error: unknown setting: \"limit\"; fix: did you mean \"limits\"?",
        ),
        (
            "banana = 1",
            "1: error: unknown setting: \"banana\"; fix: remove it; `ringnfs reference` lists the known ones",
        ),
        (
            "limits = 3",
            "1: error: unknown setting: \"limits\"; fix: did you mean \"limits\"?",
        ),
        (
            "threads = 1025",
            "1: error: threads: not a usable number: \"1025\"; fix: write a number from 0 to 1024",
        ),
        (
            "threads = -1",
            "1: error: threads: not a usable number: \"-1\"; fix: write a number from 0 to 1024",
        ),
        (
            "threads = \"x\"",
            "1: error: threads: not a usable number: \"\\\"x\\\"\"; fix: write a number from 0 to 1024",
        ),
        (
            "io_policy = \"fast\"",
            "1: error: io_policy: not one of the known values: \"\\\"fast\\\"\"; fix: write \"ring\" or \"adaptive\"",
        ),
        (
            "io_policy = 3",
            "1: error: io_policy: not a string but a number: \"3\"; fix: write \"ring\" or \"adaptive\"",
        ),
        (
            "idmap = \"name\"",
            "1: error: idmap: not one of the known values: \"\\\"name\\\"\"; fix: write \"numeric\" or \"names\"",
        ),
        (
            "idmap_domain = \"a@b\"",
            "1: error: idmap_domain: not a domain name: \"\\\"a@b\\\"\"; fix: write idmap_domain = \"example.org\"",
        ),
        (
            "rpcbind = 1",
            "1: error: rpcbind: not true or false: \"1\"; fix: write rpcbind = true or rpcbind = false",
        ),
        (
            "state_dir = \"var\"",
            "1: error: state_dir: not an absolute path: \"\\\"var\\\"\"; fix: write state_dir = \"/PATH\"",
        ),
        (
            "listen = []",
            "1: error: listen: no address to listen on: \"[]\"; fix: write listen = [\"0.0.0.0:2049\", \"[::]:2049\"]",
        ),
        (
            "listen = \"10.0.0.1\"",
            "1: error: listen: the port is missing in \"10.0.0.1\": \"\\\"10.0.0.1\\\"\"; fix: write \"10.0.0.1:2049\"",
        ),
        (
            "listen = \"::1\"",
            "1: error: listen: the port is missing in \"::1\": \"\\\"::1\\\"\"; fix: write \"[::1]:2049\"",
        ),
        (
            "listen = \"2049\"",
            "1: error: listen: the address is missing in \"2049\": \"\\\"2049\\\"\"; fix: write \"0.0.0.0:2049\" and \"[::]:2049\"",
        ),
        (
            "listen = [\"10.0.0.1:1\", \"10.0.0.1:1\"]",
            "1: error: listen: \"10.0.0.1:1\" is there twice: \"[\\\"10.0.0.1:1\\\", \\\"10.0.0.1:1\\\"]\"; fix: name every address once",
        ),
        (
            "[limits]\nrecord_bytes = \"1MB\"",
            "2: error: limits.record_bytes: not a usable size: \"\\\"1MB\\\"\"; fix: write a size from 64KiB to 4100KiB, such as \"1028KiB\"",
        ),
        (
            "[timeouts]\ndrain = 30",
            "2: error: timeouts.drain: not a usable time: \"30\"; fix: write a time from 0ms to 1h, such as \"10s\"",
        ),
        (
            "log = \"inof\"",
            "1: error: log: not a log level: \"inof\": \"\\\"inof\\\"\"; fix: did you mean \"info\"?",
        ),
        (
            "exports = ''\nexports_file = \"/e\"",
            "2: error: exports and exports_file contradict each other: \"exports_file\"; fix: keep one of the two",
        ),
        (
            "[limits]\nconnections = 5\nconnections_per_client = 6",
            "3: error: limits.connections_per_client is above limits.connections: \"6\"; fix: write at most 5, or raise limits.connections",
        ),
        (
            "[limits]\nrecord_bytes = \"4100KiB\"\nbuffers_bytes = \"16MiB\"",
            "2: error: the buffers do not hold four of the longest requests: \"4100KiB of 16MiB\"; fix: make limits.buffers_bytes at least four times limits.record_bytes",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text).1, format!("ringnfs.toml:{expected}"), "{text}");
    }
}

#[test]
fn faults_of_recovery_settings() {
    let cases = [
        (
            "lease_time = 90",
            "1: error: lease_time: not a usable time: \"90\"; fix: write a time from 1s to 1h, such as \"90s\"",
        ),
        (
            "grace_time = \"3601s\"",
            "1: error: grace_time: not a usable time: \"\\\"3601s\\\"\"; fix: write a time from 1s to 1h, such as \"90s\"",
        ),
        (
            "lease_time = \"2500ms\"",
            "1: error: lease_time: not a whole number of seconds: \"\\\"2500ms\\\"\"; fix: write \"3s\"",
        ),
        (
            "lease_time = \"60s\"\ngrace_time = \"30s\"",
            "2: warning: grace_time is below lease_time: clients can notice a restart too late to reclaim their locks: \"30s\"; fix: write at least \"1m\"",
        ),
        (
            "recovery_db = \"r.redb\"",
            "1: error: recovery_db: not an absolute path: \"\\\"r.redb\\\"\"; fix: write recovery_db = \"/PATH\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text).1, format!("ringnfs.toml:{expected}"), "{text}");
    }
}

#[test]
fn the_recovery_database_is_in_the_state_directory() {
    let config = clean("state_dir = \"/s\"");
    assert_eq!(config.recovery_db(), Path::new("/s/recovery.redb"));
}

#[test]
fn syntax_faults_have_a_line() {
    let (_, found) = read("threads = 1\nrpcbind = = 2\n");
    assert!(
        found.starts_with("ringnfs.toml:2: error: not TOML: "),
        "{found}"
    );
    let (_, found) = read("threads = 1\nthreads = 2\n");
    assert!(
        found.starts_with("ringnfs.toml:2: error: not TOML: duplicate key"),
        "{found}"
    );
}

#[test]
fn every_fault_is_reported_in_order() {
    let (_, found) = read("x = 1\nthreads = 'a'\n[limits]\ny = 2\nopen_files = 1\n");
    let lines: Vec<&str> = found
        .lines()
        .map(|line| line.split(' ').next().unwrap_or_default())
        .collect();
    assert_eq!(
        lines,
        [
            "ringnfs.toml:1:",
            "ringnfs.toml:2:",
            "ringnfs.toml:4:",
            "ringnfs.toml:5:"
        ]
    );
}

#[test]
fn the_client_limit_follows_when_only_the_total_is_given() {
    assert_eq!(
        clean("[limits]\nconnections = 5")
            .limits
            .connections_per_client,
        5
    );
}

#[test]
fn transfers_are_as_long_as_memory_has_it() {
    const MIB: u64 = 1 << 20;
    for (memory, transfer) in [
        (0, 1),
        (512, 1),
        (4 << 10, 1),
        ((7 << 10) - 1, 1),
        (7 << 10, 2),
        (8 << 10, 2),
        ((14 << 10) - 1, 2),
        (14 << 10, 4),
        (16 << 10, 4),
        (1 << 30, 4),
    ] {
        let limits = Limits::for_memory(memory * MIB);
        assert_eq!(limits.transfer_bytes, transfer * MIB, "{memory} MiB");
        assert_eq!(limits.record_bytes, limits.transfer_bytes + 4096);
        assert!(limits.buffers_bytes / limits.transfer_bytes >= 32);
        assert!(transfer == 1 || limits.buffers_bytes / limits.transfer_bytes >= 448);
    }
}

/// Never below 1 MiB, however many threads there are, and never longer than set.
#[test]
fn many_threads_have_shorter_transfers() {
    const MIB: u64 = 1 << 20;
    for (buffers, set, threads, transfer) in [
        (2048, 4, 1, 4),
        (2048, 4, 32, 4),
        (2048, 4, 33, 2),
        (2048, 4, 64, 2),
        (2048, 4, 65, 1),
        (2048, 4, 1000, 1),
        (2048, 1, 1000, 1),
        (64, 3, 1, 3),
        (64, 3, 2, 2),
        (64, 4, 0, 4),
        (16, 1, 16, 1),
    ] {
        let text =
            format!("[limits]\nbuffers_bytes = \"{buffers}MiB\"\ntransfer_bytes = \"{set}MiB\"");
        let mut limits = clean(&text).limits;
        assert_eq!(limits.shorten_transfers(threads), transfer < set, "{text}");
        assert_eq!(limits.transfer_bytes, transfer * MIB, "{threads}: {text}");
        assert_eq!(limits.record_bytes, transfer * MIB + 4096);
    }
    let mut short = clean("[limits]\ntransfer_bytes = \"64KiB\"").limits;
    assert!(!short.shorten_transfers(1000) && short.transfer_bytes == 64 << 10);
}

#[test]
fn transfers_records_and_buffers_follow_each_other() {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    for (text, transfer, record) in [
        ("", MIB, MIB + 4 * KIB),
        ("transfer_bytes = \"4MiB\"", 4 * MIB, 4 * MIB + 4 * KIB),
        ("transfer_bytes = \"64KiB\"", 64 * KIB, 68 * KIB),
        ("buffers_bytes = \"896MiB\"", 2 * MIB, 2 * MIB + 4 * KIB),
        ("buffers_bytes = \"2GiB\"", 4 * MIB, 4 * MIB + 4 * KIB),
        ("buffers_bytes = \"16MiB\"", MIB, MIB + 4 * KIB),
        (
            "transfer_bytes = \"1MiB\"\nbuffers_bytes = \"2GiB\"",
            MIB,
            MIB + 4 * KIB,
        ),
        // Shorter requests have room for shorter WRITEs, longer ones for no longer ones.
        ("record_bytes = \"64KiB\"", 60 * KIB, 64 * KIB),
        ("record_bytes = 524289", 508 * KIB, 524_289),
        ("record_bytes = \"4100KiB\"", MIB, 4100 * KIB),
        (
            "transfer_bytes = \"2MiB\"\nrecord_bytes = \"2052KiB\"",
            2 * MIB,
            2052 * KIB,
        ),
    ] {
        let limits = clean(&format!("[limits]\n{text}")).limits;
        assert_eq!(
            (limits.transfer_bytes, limits.record_bytes),
            (transfer, record),
            "{text}"
        );
    }
}

#[test]
fn faults_of_transfer_sizes() {
    let range = "fix: write a size from 64KiB to 4MiB in whole blocks of 4KiB, such as \"1MiB\"";
    let cases = [
        (
            "transfer_bytes = \"8MiB\"",
            format!("2: error: limits.transfer_bytes: not a usable size: \"\\\"8MiB\\\"\"; {range}"),
        ),
        (
            "transfer_bytes = 4096",
            format!("2: error: limits.transfer_bytes: not a usable size: \"4096\"; {range}"),
        ),
        (
            "transfer_bytes = 1000000",
            format!("2: error: limits.transfer_bytes: not a usable size: \"1000000\"; {range}"),
        ),
        (
            "open_files = 100\ntransfer_bytes = \"4MiB\"\nbuffers_bytes = \"32MiB\"",
            "3: error: limits.transfer_bytes: the buffers do not hold sixteen so long: \"4MiB\"; \
             fix: write at most \"2MiB\", or limits.buffers_bytes = \"64MiB\""
                .to_owned(),
        ),
        (
            "record_bytes = \"1088KiB\"\ntransfer_bytes = \"2MiB\"",
            "3: error: limits.transfer_bytes: longer than a request may be, with its headers: \"2MiB\"; \
             fix: write at most \"1084KiB\", or limits.record_bytes = \"2052KiB\""
                .to_owned(),
        ),
    ];
    for (text, expected) in cases {
        let found = read(&format!("[limits]\n{text}")).1;
        assert_eq!(found, format!("ringnfs.toml:{expected}"), "{text}");
    }
}

#[test]
fn the_reference_is_a_configuration_file_of_defaults() {
    let text = Config::reference(MEMORY);
    assert_eq!(clean(&text), Config::for_memory(MEMORY), "{text}");
    for setting in SETTINGS {
        let name = setting.key.rsplit('.').next().unwrap_or_default();
        assert!(text.contains(&format!("{name} =")), "{name}");
    }
}

#[test]
fn defaults_fit_each_other_on_small_and_large_machines() {
    for memory in [0, 64 << 20, 1 << 30, 4 << 30, 1 << 40, u64::MAX] {
        let mut found = Findings::new();
        let config = Config::parse("f", &Config::reference(memory), memory, &mut found);
        assert!(!found.has_errors(), "{memory}: {found}");
        assert_eq!(config, Config::for_memory(memory));
    }
    // Ten thousand idle connections of one client must fit on the machine this is built for.
    assert!(Limits::for_memory(4 << 30).connections_per_client > 10_000);
}

#[test]
fn inline_exports_report_lines_of_the_toml_file() {
    for (text, line) in [
        ("threads = 1\nexports = '''\n/a *\n/b *(rx)\n'''\n", 4),
        ("exports = '''/a *\n/b *(rx)'''", 2),
        ("exports = \"/a *(rx)\"", 1),
        ("\nexports = \"\"\"\n/a *(rx)\n\"\"\"", 3),
    ] {
        let config = clean(text);
        let mut found = Findings::new();
        load_exports(Path::new("r.toml"), &config, &NoHosts, &mut found);
        assert!(
            found
                .to_string()
                .starts_with(&format!("r.toml:{line}: error: unknown option")),
            "{text}: {found}"
        );
    }
}

#[test]
fn command_line_settings_are_checked_the_same() {
    let mut config = Config::for_memory(MEMORY);
    let mut found = Findings::new();
    config.set("--threads", "threads", "4", &mut found);
    config.set("--rpcbind", "rpcbind", "true", &mut found);
    config.set("--listen", "listen", "127.0.0.1:0,[::1]:0", &mut found);
    assert!(found.is_empty(), "{found}");
    assert_eq!(
        (config.threads, config.rpcbind, config.listen.len()),
        (4, true, 2)
    );
    config.set("--threads", "threads", "4000", &mut found);
    assert_eq!(
        found.to_string(),
        "--threads: error: not a usable number: \"4000\"; fix: write a number from 0 to 1024"
    );
}

#[test]
fn directories_are_exported_to_everyone_who_can_reach_the_listener() {
    let source = ExportSource::Dirs {
        dirs: vec!["/srv/a".into(), "/srv/b".into()],
        options: SERVE_OPTIONS.to_owned(),
    };
    let mut found = Findings::new();
    let table = source.load(&NoHosts, &mut found);
    assert!(found.is_empty(), "{found}");
    assert_eq!(table.exports().len(), 2);
    let options = table.exports()[0]
        .access(&Peer::from(IpAddr::from([203, 0, 113, 1])))
        .granted()
        .cloned();
    let options = options.expect("access");
    assert!(
        !options.read_only()
            && !options.is_async()
            && options.root_squash()
            && !options.secure_ports()
    );

    let source = ExportSource::Dirs {
        dirs: vec!["/srv/a".into()],
        options: "rx".to_owned(),
    };
    source.load(&NoHosts, &mut found);
    assert_eq!(
        found.to_string(),
        "--options: error: unknown option: \"rx\"; fix: did you mean \"ro\"?"
    );
}

#[test]
fn config_files_are_read_again_on_reload() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("ringnfs.toml");
    let exports = dir.path().join("exports");
    let source = ExportSource::ConfigFile(file.clone());
    let paths = |found: &mut Findings| -> Vec<PathBuf> {
        source
            .load(&NoHosts, found)
            .exports()
            .iter()
            .map(|e| e.path.clone())
            .collect()
    };
    let mut found = Findings::new();
    fs::write(&file, "exports = '/a *'").expect("written");
    assert_eq!(paths(&mut found), [PathBuf::from("/a")]);
    fs::write(&file, format!("exports_file = \"{}\"", exports.display())).expect("written");
    fs::write(&exports, "/b *\n/c *\n").expect("written");
    assert_eq!(
        paths(&mut found),
        [PathBuf::from("/b"), PathBuf::from("/c")]
    );
    assert!(!found.has_errors(), "{found}");
    fs::remove_file(&exports).expect("removed");
    assert!(paths(&mut found).is_empty());
    assert!(
        found
            .to_string()
            .contains("cannot read the file: No such file"),
        "{found}"
    );
}

#[test]
fn mount_commands_can_be_pasted() {
    let commands = |addr: &str, path: &str| {
        mount_commands(addr.parse().expect("addr"), "nas", Path::new(path))
    };
    assert_eq!(
        commands("127.0.0.1:2049", "/srv"),
        [
            "sudo mount -t nfs -o vers=4.2,proto=tcp,port=2049 127.0.0.1:/srv /mnt",
            "sudo mount -t nfs -o vers=3,proto=tcp,port=2049,mountproto=tcp,mountport=2049,nolock 127.0.0.1:/srv /mnt"
        ]
    );
    for command in commands("[::1]:3049", "/a b") {
        assert!(command.contains("proto=tcp6,port=3049"));
        assert!(command.ends_with(" '[::1]:/a b' /mnt"));
    }
    assert!(commands("0.0.0.0:2049", "/srv")[0].ends_with(" nas:/srv /mnt"));
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in ".{0,80}") {
        Config::parse("f", &text, MEMORY, &mut Findings::new());
    }

    #[test]
    fn any_value_of_any_setting_is_read_without_panic(
        setting in proptest::sample::select(SETTINGS.iter().map(|s| s.key).collect::<Vec<_>>()),
        value in prop_oneof!["[0-9a-fx_.-]{1,22}", "\"[ -!#-\\[\\]-~]{0,12}\"", Just("[1, {a = 2}]".to_owned()), Just("1979-05-27".to_owned())],
    ) {
        Config::parse("f", &format!("{setting} = {value}\n"), MEMORY, &mut Findings::new());
    }
}
