//! What is timed: shell scripts for a guest. `$S` has what was made beforehand on the guest's own tmpfs, `$W` is an empty
//! directory on the mount, `$FILES` the size.

use tests::crates::Project;
use tests::odd::ODD_FILES;

/// One work.
pub struct Work {
    /// Name in the table and for `--works`.
    pub name: &'static str,
    /// What it is, in the table's legend.
    pub about: &'static str,
    /// Before the clock runs, in a mount of its own.
    before: &'static str,
    /// What is timed.
    timed: &'static str,
}

/// All of them. `build` is completed by the crates this machine has.
pub const WORKS: &[Work] = &[
    Work {
        name: "untar",
        about: "tar -x of FILES files of 0 to 16 KiB, 50 to a directory",
        before: "",
        timed: "tar -C $W -xf $S/tree.tar",
    },
    Work {
        name: "read",
        about: "tar -c of that tree, nothing cached by the client",
        before: "tar -C $W -xf $S/tree.tar",
        timed: "tar -C $W -cf - . | cat >/dev/null",
    },
    Work {
        name: "rm",
        about: "rm -rf of that tree",
        before: "tar -C $W -xf $S/tree.tar",
        timed: "rm -rf $W/*",
    },
    Work {
        name: "churn",
        about: "2/5 of FILES files of 12 bytes made in one directory, then removed, by one process",
        before: "",
        timed: "$RIG/guest churn $W $((FILES * 2 / 5))",
    },
    Work {
        name: "clone",
        about: "git clone --no-hardlinks of a local repository of 1/5 of FILES files",
        before: "",
        timed: "git clone -q --no-hardlinks $S/repository $W/clone",
    },
    Work {
        name: "rsync",
        about: "rsync -aHAX of 2/5 of FILES files with links, a FIFO, modes and owners",
        before: "",
        timed: "rsync -aHAX $S/mixed/ $W/there/",
    },
    Work {
        name: "build",
        about: "three crates unpacked and built with cargo build --offline",
        before: "",
        timed: "cd $W\n@BUILD@",
    },
];

/// Makes what the works need, in `$S`.
const PREPARE: &str = r#"
mkdir -p $S
$RIG/guest tree $S/tree $FILES 1
tar -C $S/tree -cf $S/tree.tar .
rm -rf $S/tree
git config --global safe.directory '*'
git config --global user.name a
git config --global user.email a@example.com
$RIG/guest tree $S/repository $((FILES / 5)) 3
git -C $S/repository init -q
git -C $S/repository add .
git -C $S/repository commit -qm one
$RIG/guest tree $S/mixed $((FILES * 2 / 5)) 2
cd $S/mixed
"#;

/// Common start of all scripts: where things are.
fn variables(files: u64) -> String {
    format!("export HOME=/tmp S=/tmp/sources W=/mnt/nfs/work FILES={files}\n")
}

/// The script that makes what all works need.
pub fn prepare(files: u64) -> String {
    variables(files) + PREPARE + ODD_FILES
}

impl Work {
    /// What runs before the clock, with the export mounted; it unmounts, so that the client knows nothing afterwards.
    pub fn before(&self, files: u64) -> String {
        let before = self.before;
        format!("{}mkdir $W\n{before}\numount /mnt/nfs\n", variables(files))
    }

    /// Runs it, with the export mounted again; the output's last line is `SECONDS` with a fraction. What the client
    /// counted is in `$RUN/before` and `$RUN/after`.
    ///
    /// The clock stops when everything is with the server: a client that holds a delegation may keep data back.
    pub fn timed(&self, files: u64, project: Option<&Project>) -> String {
        let timed = match project {
            Some(p) => self
                .timed
                .replace("@BUILD@", &format!("{}{}", p.unpack, p.build)),
            None => self.timed.to_owned(),
        };
        format!(
            "{}cat /proc/self/mountstats >$RUN/before
             from=$EPOCHREALTIME
             {timed}
             cd /
             sync -f /mnt/nfs
             to=$EPOCHREALTIME
             cat /proc/self/mountstats >$RUN/after
             printf '%d.%06d\\n' $(((${{to/./}} - ${{from/./}}) / 1000000)) $(((${{to/./}} - ${{from/./}}) % 1000000))",
            variables(files)
        )
    }

    /// Takes everything away again.
    pub fn after(files: u64) -> String {
        format!("{}rm -rf $W\numount /mnt/nfs\n", variables(files))
    }

    /// True if it needs the crates of [`Project`].
    pub fn builds(&self) -> bool {
        self.timed.contains("@BUILD@")
    }
}
