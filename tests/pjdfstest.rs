//! pjdfstest 0.2.2 and fsx 0.3.2 (both from crates.io, installed by `tests/run`) through the kernel client,
//! on every version.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use tests::need::{self, Need, number, soak};
use tests::server::{Config, Kind};
use tests::version::Version;

use crate::kernel::{Bed, bed};

const EXPECTED: &str = include_str!("pjdfstest/expected");
const CONFIG: &str = include_str!("pjdfstest/config.toml");
const FSX_CONFIG: &str = include_str!("pjdfstest/fsx.toml");

/// Tests in version 0.2.2, all of them and those that remount read-only.
const TESTS: usize = 398;
const REMOUNTING: usize = 13;

/// What one run of pjdfstest printed.
#[derive(Debug, Default)]
struct Results {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    skipped: BTreeSet<String>,
}

impl Results {
    /// Lines are `NAME   ok|FAILED|skipped`, each perhaps followed by indented reasons.
    fn parse(text: &str) -> Results {
        let mut results = Results::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(verdict), None) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let set = match verdict {
                _ if !name.contains("::") || line.starts_with(char::is_whitespace) => continue,
                "ok" => &mut results.passed,
                "FAILED" => &mut results.failed,
                "skipped" => &mut results.skipped,
                _ => continue,
            };
            set.insert(name.to_owned());
        }
        results
    }

    fn total(&self) -> usize {
        self.passed.len() + self.failed.len() + self.skipped.len()
    }
}

by_version! { pjdfstest: pjdfstest_v3 V3 default, pjdfstest_v4_0 V4_0 default, pjdfstest_v4_1 V4_1 soak, pjdfstest_v4_2 V4_2 default }

fn pjdfstest(test: &str, version: Version) {
    if !need::have(test, &[&[Need::CargoTool("pjdfstest")]]) {
        return;
    }
    let config = Config::default();
    let Some(bed) = bed(test, version, &config) else {
        return;
    };
    let name = place(&bed, "pjdfstest");
    bed.mount("");
    // The tests that remount need a process of their own: another test's open file would keep the mount busy.
    let main = run(&bed, &name, false);
    let remounting = run(&bed, &name, true);

    let expected = expected(config.kind, version);
    let new: Vec<_> = main
        .failed
        .union(&remounting.failed)
        .filter(|t| !expected.contains(t.as_str()))
        .collect();
    let fixed: Vec<_> = expected
        .iter()
        .filter(|t| main.passed.contains(**t))
        .collect();
    eprintln!(
        "{test} on {:?}: {} passed, {} skipped, failed: {:?}",
        config.kind,
        main.passed.len(),
        main.skipped.len(),
        main.failed
    );
    assert!(new.is_empty(), "new failures: {new:#?}");
    assert!(
        fixed.is_empty(),
        "no longer fail, remove them from tests/pjdfstest/expected: {fixed:#?}"
    );
    // Nothing may drop out unseen.
    assert_eq!((main.total(), remounting.total()), (TESTS, REMOUNTING));
    let allocates = version >= Version::V4_2;
    let skipped =
        |t: &&String| !(t.contains("::erofs_") || t.starts_with("posix_fallocate::") && !allocates);
    let odd: Vec<_> = main
        .skipped
        .iter()
        .filter(skipped)
        .filter(|t| *t != "link::link_count_max")
        .collect();
    assert!(
        odd.is_empty() && remounting.skipped.is_empty(),
        "skipped: {odd:?} {:?}",
        remounting.skipped
    );
}

fn run(bed: &Bed, name: &str, remount: bool) -> Results {
    let mut config = CONFIG.replace(
        "allow_remount = false",
        &format!("allow_remount = {remount}"),
    );
    if bed.version >= Version::V4_2 {
        config = config.replace("[features]", "[features]\nposix_fallocate = {}");
    }
    let filter = if remount { "erofs" } else { "" };
    let script = format!(
        "mkdir -p /tmp/second; rm -rf /mnt/nfs/w; mkdir -m 777 /mnt/nfs/w; cat >/tmp/pjdfstest.toml <<'E'\n{config}\nE
         $RIG/{name} -c /tmp/pjdfstest.toml -s /tmp/second -p /mnt/nfs/w {filter}"
    );
    // Its status is 1 if any test failed; what counts is which.
    let out = bed.guest.run(300, &script);
    assert!(
        out.output.contains("Summary: "),
        "no summary (status {}):\n{}",
        out.status,
        out.output
    );
    let results = Results::parse(&out.output);
    // Each failure with the reasons below it.
    let mut failed = false;
    for line in out.output.lines() {
        if line.contains("::") && !line.starts_with(char::is_whitespace) {
            failed = line.trim_end().ends_with("FAILED");
        }
        if failed {
            eprintln!("{line}");
        }
    }
    results
}

fn expected(kind: Kind, version: Version) -> BTreeSet<&'static str> {
    let own = format!("{kind:?}").to_lowercase();
    let mut tests = BTreeSet::new();
    for line in EXPECTED
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [server, versions, test] = words[..] else {
            panic!("tests/pjdfstest/expected: not SERVER VERSIONS TEST: {line}")
        };
        let here = versions == "all" || versions.split(',').any(|v| v == version.name());
        if here && (server == "all" || server == own) {
            tests.insert(test);
        }
    }
    tests
}

by_version! { fsx: fsx_v3 V3 soak, fsx_v4_0 V4_0 soak, fsx_v4_1 V4_1 soak, fsx_v4_2 V4_2 default }

/// Random reads, writes, mmaps, truncates and reopens against a model, over several seeds and transfer sizes.
fn fsx(test: &str, version: Version) {
    if !need::have(test, &[&[Need::CargoTool("fsx")]]) {
        return;
    }
    let Some(bed) = bed(test, version, &Config::default()) else {
        return;
    };
    let seeds = number("RINGNFS_FSX_SEEDS", if soak() { 12 } else { 3 });
    let ops = number("RINGNFS_FSX_OPS", if soak() { 40_000 } else { 3_000 });
    let run = fsx_script(&bed, ops);
    for (options, seeds) in [
        ("", 1..=seeds),
        ("rsize=4096,wsize=4096", seeds + 1..=seeds + 1 + seeds / 4),
    ] {
        bed.mount(options);
        for seed in seeds {
            let start = Instant::now();
            let script = run(&format!("/mnt/nfs/fsx.{seed}"), &seed.to_string());
            bed.guest.ok(120 + ops / 20, &script);
            eprintln!(
                "{test} seed {seed} {options}: {ops} operations, {:.1} s",
                start.elapsed().as_secs_f64()
            );
        }
        bed.guest.ok(60, "umount /mnt/nfs");
    }
}

/// The script that runs fsx, `ops` operations, given a file and a seed. It must be there.
pub fn fsx_script(bed: &Bed, ops: u64) -> impl Fn(&str, &str) -> String + use<> {
    let name = place(bed, "fsx");
    // Hole punching and posix_fallocate came with 4.2.
    let config = match bed.version {
        Version::V4_2 => format!("{FSX_CONFIG}punch_hole = 1\nposix_fallocate = 1\n"),
        _ => FSX_CONFIG.to_owned(),
    };
    move |file, seed| {
        format!(
            "cat >/tmp/fsx.toml <<'E'\n{config}\nE
             $RIG/{name} -f /tmp/fsx.toml -N {ops} -S {seed} -P /tmp {file} >/tmp/fsx.out 2>&1 ||
                 {{ tail -40 /tmp/fsx.out; exit 1; }}"
        )
    }
}

/// Puts a tool where the guest sees it; returns its name there.
fn place(bed: &Bed, tool: &str) -> String {
    let path = need::cargo_tool(tool).expect("asked before");
    bed.rig.place(Path::new(&path));
    tool.to_owned()
}

#[test]
fn output_is_understood() {
    let text = "unlink::a   ok\nchmod::erofs_named      skipped\n\tRemounts are not allowed\nb::c   FAILED\n\tassertion x\n";
    let r = Results::parse(text);
    assert_eq!(
        (r.passed.len(), r.failed.len(), r.skipped.len()),
        (1, 1, 1),
        "{r:?}"
    );
    assert!(
        expected(Kind::Ganesha, Version::V3).contains("utimensat::follow_symlink")
            && expected(Kind::Knfsd, Version::V3).len() == 2
            && !expected(Kind::Knfsd, Version::V4_2).contains("utimensat::y2038")
    );
}
