//! Real programs on the mount: what people do with files, checked by comparing what comes back.
//!
//! Each workload works in `$W`, a new directory on the mount, and `$L`, one on the guest's own tmpfs. `$FILES` scales it.

use tests::crates::Project;
use tests::need::{self, Need, number, soak};
use tests::odd::ODD_FILES;
use tests::server::Config;
use tests::uml::{Boot, Guest};
use tests::version::Version;

use crate::kernel::{Bed, bed};

/// One workload.
pub struct Work {
    /// Name, also of its directory.
    pub name: &'static str,
    /// What it needs.
    pub needs: &'static [Need],
    /// Its shell script, run under `set -e`.
    body: &'static str,
    /// Time limit without kills, for the small default size.
    pub seconds: u64,
    /// Small enough to run under kills by default.
    pub quick: bool,
}

/// All of them.
pub const WORKS: &[Work] = &[
    Work {
        name: "tar",
        needs: &[],
        body: TAR,
        seconds: 120,
        quick: true,
    },
    Work {
        name: "rsync",
        needs: &[Need::Program("rsync", "rsync")],
        body: RSYNC,
        seconds: 120,
        quick: false,
    },
    Work {
        name: "git",
        needs: &[Need::Program("git", "git")],
        body: GIT,
        seconds: 180,
        quick: true,
    },
    Work {
        name: "sqlite",
        needs: &[Need::Program("sqlite3", "sqlite3")],
        body: SQLITE,
        seconds: 120,
        quick: true,
    },
    Work {
        name: "mix",
        needs: &[],
        body: MIX,
        seconds: 200,
        quick: true,
    },
];

const TAR: &str = r#"
$RIG/guest tree $L/src $FILES 1
tar -C $L/src -cf $L/there.tar .
mkdir $W/x
tar -C $W/x -xf $L/there.tar
forget
diff -r $L/src $W/x
tar -C $W/x -cf $W/back.tar .
forget
mkdir $L/back
tar -C $L/back -xf $W/back.tar
diff -r $L/src $L/back
rm -rf $W/x
"#;

const RSYNC: &str = r#"
$RIG/guest tree $L/src $((FILES / 2)) 2
cd $L/src
@ODD@
cd /
rsync -aHAX $L/src/ $W/there/
forget
rsync -aHAXnci --delete $L/src/ $W/there/ >$L/diff
[ ! -s $L/diff ] || { cat $L/diff; exit 1; }
rsync -aHAX $W/there/ $L/back/
rsync -aHAXnci --delete $L/src/ $L/back/ >$L/diff
[ ! -s $L/diff ] || { cat $L/diff; exit 1; }
"#;

const GIT: &str = r#"
export HOME=$L GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com
git config --global safe.directory '*'
$RIG/guest tree $L/src $((FILES / 5)) 3
git -C $L/src init -q
git -C $L/src add .
git -C $L/src commit -qm one
git clone -q --no-hardlinks $L/src $W/clone
cd $W/clone
$RIG/guest tree $W/clone/more $((FILES / 10)) 4
git add .
git commit -qm two
git mv more moved
git commit -qm three
git gc -q --prune=now
cd /
forget
git -C $W/clone fsck --full --strict
git -C $W/clone status --porcelain | (! grep .)
git clone -q $W/clone $L/back
[ "$(git -C $L/back rev-parse HEAD^{tree})" = "$(git -C $W/clone rev-parse HEAD^{tree})" ]
diff -r -x .git $W/clone $L/back
"#;

const SQLITE: &str = r#"
rows=$((FILES * 2))
{
    echo 'PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL;'
    echo 'CREATE TABLE t(id INTEGER PRIMARY KEY, a INTEGER, b BLOB); CREATE INDEX i ON t(a);'
    for part in 0 1 2 3 4 5 6 7; do
        echo "BEGIN; WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x < $rows / 8)"
        echo "INSERT INTO t(a,b) SELECT x * 7919 % 1009, randomblob(200) FROM n; COMMIT;"
        echo "UPDATE t SET a = a + 1 WHERE id % 10 = $part;"
    done
    echo 'DELETE FROM t WHERE id % 5 = 0; VACUUM;'
} >$L/work.sql
sqlite3 -bail $W/db <$L/work.sql
forget
[ "$(sqlite3 $W/db 'PRAGMA integrity_check')" = ok ]
[ "$(sqlite3 $W/db 'SELECT count(*) FROM t')" = $((rows / 8 * 8 - rows / 8 * 8 / 5)) ]
[ "$(sqlite3 $W/db 'PRAGMA mmap_size=1000000; SELECT count(*) FROM t' | tail -1)" = $((rows / 8 * 8 - rows / 8 * 8 / 5)) ]
[ ! -e $W/db-journal ]
"#;

const MIX: &str = r#"
$RIG/guest mix $W 4 $((FILES * 5))
forget
(! ls -A $W | grep .)
"#;

impl Work {
    /// The script, working in the directory `place` of the mount.
    pub fn script(&self, place: &str) -> String {
        let body = self.body.replace("@ODD@", ODD_FILES);
        let files = number("RINGNFS_FILES", if soak() { 20_000 } else { 800 });
        format!(
            "forget() {{ sync; echo 3 >/proc/sys/vm/drop_caches; }}
             W=/mnt/nfs/{place} L=/tmp/{place} FILES={files}
             rm -rf $W $L; mkdir $W $L
             {body}
             cd /; rm -rf $W $L"
        )
    }

    /// True if its programs are here; says so loudly if not.
    pub fn ready(&self) -> bool {
        need::have(&format!("real_work::{}", self.name), &[self.needs])
    }
}

by_version! { undisturbed: undisturbed_v3 V3 soak, undisturbed_v4_0 V4_0 soak, undisturbed_v4_1 V4_1 soak, undisturbed_v4_2 V4_2 default }

/// Each workload once, undisturbed.
fn undisturbed(test: &str, version: Version) {
    let Some(bed) = bed(test, version, &Config::default()) else {
        return;
    };
    bed.mount("");
    let scale = if soak() { 20 } else { 1 };
    for work in WORKS.iter().filter(|w| w.ready()) {
        let start = std::time::Instant::now();
        bed.guest.ok(work.seconds * scale, &work.script(work.name));
        eprintln!("{}: {:.1} s", work.name, start.elapsed().as_secs_f64());
    }
    assert_eq!(
        bed.guest.ok(30, "ls -A /mnt/nfs").trim(),
        "",
        "something is left"
    );
}

by_version! { build_rust_crates: build_rust_crates_v3 V3 soak, build_rust_crates_v4_0 V4_0 soak, build_rust_crates_v4_1 V4_1 soak, build_rust_crates_v4_2 V4_2 soak }

/// Unpacks and builds Rust crates on the mount, with this machine's compiler in the guest, and runs the result.
fn build_rust_crates(test: &str, version: Version) {
    let Some(bed) = bed(test, version, &Config::default()) else {
        return;
    };
    let Some(project) = Project::new(&bed.rig) else {
        return need::not_run(test, "the sources of its crates in cargo's cache");
    };
    let guest = builder(&bed);
    let Project { unpack, build } = project;
    let mut script = format!("mkdir -p /mnt/nfs/build; cd /mnt/nfs/build\n{unpack}{build}");
    script += "touch src/main.rs; cargo build --offline -j1 2>&1 | grep 'Compiling app'\n";
    script += "cargo build --offline -j1 2>&1 | (! grep Compiling)\n";
    guest.ok(number("RINGNFS_BUILD_SECONDS", 400), &script);
}

/// Another guest with the export mounted: a compiler needs more memory than the usual one has.
pub fn builder(bed: &Bed) -> Guest {
    let boot = Boot {
        mem: 1536,
        addr: 3,
        ..Boot::default()
    };
    let guest = Guest::boot(&bed.rig, &boot);
    bed.mount_on(&guest, "");
    guest
}
