//! Tests of what a list of exports becomes, on real directories and mounts.

use super::*;
use crate::export::names::Resolver;
use crate::export::{Export, load};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use vfs::uring::RingConfig;
use vfs::{Cred, Name, VfsConfig, exec, sys};

#[path = "../../../tests/src/not_run.rs"]
mod not_run;

/// Knows no hosts.
struct Nobody;

impl Resolver for Nobody {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::Error::other("no such host"))
    }
    fn name(&self, _: IpAddr) -> Option<String> {
        None
    }
}

fn key() -> HandleKey {
    HandleKey::new(*b"0123456789abcdef")
}

fn table(lines: &[String]) -> ExportTable {
    let mut found = Findings::new();
    let text = lines.join("\n");
    let table = load("exports", 1, text.as_bytes(), &Nobody, &mut found);
    assert!(!found.has_errors(), "{found}");
    table
}

/// A scratch directory and a VFS for the exports in it.
struct Place {
    dir: TempDir,
    vfs: Arc<Vfs>,
    mounted: Vec<PathBuf>,
}

impl Drop for Place {
    fn drop(&mut self) {
        for point in self.mounted.iter().rev() {
            command(Command::new("umount").arg("-l").arg(point));
        }
    }
}

/// Says loudly that this test did not run, or fails it: see `tests/src/not_run.rs`.
fn not_run(why: &str) {
    // Named by the test runner after the test.
    let thread = std::thread::current();
    not_run::not_run(thread.name().unwrap_or("exported"), why);
}

fn command(command: &mut Command) -> bool {
    let quiet = command.stderr(Stdio::null()).stdout(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

impl Place {
    /// With these directories; `None`, loudly, where exports cannot be opened.
    fn new(directories: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a scratch directory");
        for below in directories {
            fs::create_dir_all(dir.path().join(below)).expect("mkdir");
        }
        if let Err(e) = vfs::Mount::open(dir.path(), false, None) {
            not_run(&format!("to open exports: {e}"));
            return None;
        }
        let vfs = Vfs::new(&VfsConfig {
            open_files: 100,
            verifier_seed: 1,
        });
        Some(Place {
            dir,
            vfs,
            mounted: Vec::new(),
        })
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Mounts a tmpfs; false, loudly, where that is not allowed.
    fn tmpfs(&mut self, below: &str) -> bool {
        let point = self.path(below);
        let done = command(
            Command::new("mount")
                .args(["-t", "tmpfs", "none"])
                .arg(&point),
        );
        if done {
            self.mounted.push(point);
        } else {
            not_run("to mount a tmpfs");
        }
        done
    }

    fn line(&self, below: &str, options: &str) -> String {
        format!("{} *(insecure,{options})", self.path(below).display())
    }

    fn load(&self, lines: &[String]) -> (Exported, String) {
        let mut found = Findings::new();
        let first = Exported::default();
        let exported = first.next(&self.vfs, table(lines), &key(), 5, &mut found);
        assert!(!found.has_errors(), "{found}");
        let lasting = "no lasting identity";
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        let told = told.iter().filter(|line| !line.contains(lasting));
        (exported, told.cloned().collect::<Vec<_>>().join("\n"))
    }

    fn handle(&self, below: &str) -> KernelHandle {
        let dir = fs::File::open(self.path(below)).expect("open");
        sys::name_to_handle(dir.as_fd(), c"").expect("a handle")
    }

    fn ino(&self, below: &str) -> u64 {
        fs::metadata(self.path(below)).expect("stat").ino()
    }

    fn id(&self, exported: &Exported, below: &str) -> u32 {
        let path = self.path(below);
        let mut all = exported.table.exports().iter();
        all.find(|e| e.path == path).expect("an export").id
    }

    /// Walks `below` an export's root as LOOKUP does, and gives where that ends.
    fn look_up(&self, exported: &Exported, outer: u32, below: &str) -> (u64, KernelHandle) {
        let (vfs, root) = (self.vfs.clone(), exported.roots[&outer].clone());
        let names: Vec<Vec<u8>> = below.split('/').map(|n| n.as_bytes().to_vec()).collect();
        let config = RingConfig {
            pool_bytes: 16 << 20,
            ..RingConfig::default()
        };
        let walk = async move {
            let cred = Cred::root();
            let mut at = vfs.file(&root.mount, root.handle).await.expect("root");
            for name in names {
                let name = Name::new(&name).expect("a name");
                let found = vfs.lookup(&cred, &at, &name).await.result;
                at = found.expect("found").0;
            }
            let end = (at.mount.fsid, at.handle.clone());
            drop(at);
            end
        };
        exec::block_on(&config, walk).expect("a worker")
    }
}

#[test]
fn nested_exports_on_one_file_system() {
    let Some(place) = Place::new(&["srv/a/in"]) else {
        return;
    };
    let (exported, told) = place.load(&[place.line("srv", "ro"), place.line("srv/a/in", "rw")]);
    assert_eq!(told, "");
    let outer = place.id(&exported, "srv");
    let inner = place.id(&exported, "srv/a/in");
    let (fsid, handle) = place.look_up(&exported, outer, "a/in");
    assert_eq!(handle, place.handle("srv/a/in"));
    let crossing = |export, handle: &KernelHandle, may: &[u32]| {
        exported.crossing(export, fsid, handle, &|e| may.contains(&e))
    };
    assert_eq!(
        crossing(outer, &handle, &[outer, inner]),
        Crossing::Into(Target::Export(inner))
    );
    assert_eq!(crossing(outer, &handle, &[outer]), Crossing::Stay);
    assert_eq!(crossing(inner, &handle, &[outer, inner]), Crossing::Stay);
    let above = place.handle("srv/a");
    assert_eq!(
        crossing(outer, &above, &[outer, inner]),
        Crossing::Stay,
        "no junction"
    );
    assert_eq!(
        exported.crossing(outer, fsid ^ 1, &handle, &|_| true),
        Crossing::Stay,
        "of another file system"
    );
    assert!(exported.junctions.any_below(outer) && !exported.junctions.any_below(inner));
    // Up the way it came down.
    let covered = Covered {
        outer,
        fsid,
        handle,
        fileid: place.ino("srv/a/in"),
    };
    assert_eq!(exported.above(inner, &|_| true), Above::Covered(&covered));
    assert_eq!(
        exported.mounted_on(inner, &|_| true),
        Some(place.ino("srv/a/in"))
    );
    let only_inner = |export| export == inner;
    let standing = exported.pseudo.standing(inner).expect("it stands");
    assert_eq!(
        exported.above(inner, &only_inner),
        Above::Pseudo(standing.parent.expect("not the root"))
    );
    assert_eq!(
        exported.mounted_on(inner, &only_inner),
        Some(standing.fileid)
    );
}

#[test]
fn a_file_system_mounted_over_a_directory_of_the_outer_export() {
    for cross in [false, true] {
        let Some(mut place) = Place::new(&["srv/in"]) else {
            return;
        };
        let (under, hidden) = (place.ino("srv/in"), place.handle("srv/in"));
        if !place.tmpfs("srv/in") {
            return;
        }
        assert_ne!(place.ino("srv/in"), under);
        let outer = if cross { "crossmnt" } else { "ro" };
        let (exported, told) =
            place.load(&[place.line("srv", outer), place.line("srv/in", "fsid=77")]);
        assert_eq!(told, "");
        let outer = place.id(&exported, "srv");
        let inner = place.id(&exported, "srv/in");
        let (fsid, handle) = place.look_up(&exported, outer, "in");
        assert_eq!(handle == hidden, !cross);
        assert_eq!(fsid == exported.roots[&outer].mount.fsid, !cross);
        let crossing = |may: &[u32]| exported.crossing(outer, fsid, &handle, &|e| may.contains(&e));
        assert_eq!(
            crossing(&[outer, inner]),
            Crossing::Into(Target::Export(inner))
        );
        assert_eq!(crossing(&[outer]), Crossing::Refused);
        assert_eq!(exported.mounted_on(inner, &|_| true), Some(under));
        assert_eq!(exported.roots[&inner].mount.fsid, 77);
    }
}

#[test]
fn an_export_below_a_mount_point() {
    let Some(mut place) = Place::new(&["srv/m"]) else {
        return;
    };
    if !place.tmpfs("srv/m") {
        return;
    }
    fs::create_dir(place.path("srv/m/in")).expect("mkdir");
    let lines = |options| {
        [
            place.line("srv", options),
            place.line("srv/m/in", "fsid=78"),
        ]
    };
    let (exported, told) = place.load(&lines("ro"));
    assert_eq!(told, "");
    let outer = place.id(&exported, "srv");
    let inner = place.id(&exported, "srv/m/in");
    let (fsid, handle) = place.look_up(&exported, outer, "m");
    let crossing = |may: &[u32]| exported.crossing(outer, fsid, &handle, &|e| may.contains(&e));
    let Crossing::Into(Target::Node(m)) = crossing(&[outer, inner]) else {
        panic!("the way goes on in the pseudo file system");
    };
    assert_eq!(crossing(&[outer]), Crossing::Stay);
    let all = |_: u32| true;
    assert_eq!(
        exported.pseudo.lookup(m, b"in", &all),
        Some(Target::Export(inner))
    );
    assert_eq!(exported.pseudo.parent(m, &all), Some(Target::Export(outer)));
    assert_eq!(exported.above(inner, &all), Above::Pseudo(m));
    let (exported, told) = place.load(&lines("crossmnt"));
    assert_eq!(told, "");
    let outer = place.id(&exported, "srv");
    let (fsid, handle) = place.look_up(&exported, outer, "m/in");
    assert_eq!(
        exported.crossing(outer, fsid, &handle, &|_| true),
        Crossing::Into(Target::Export(inner))
    );
    assert_eq!(
        exported.mounted_on(inner, &|_| true),
        Some(place.ino("srv/m/in"))
    );
}

#[test]
fn the_way_is_never_through_a_symbolic_link() {
    let Some(place) = Place::new(&["srv", "elsewhere/in"]) else {
        return;
    };
    std::os::unix::fs::symlink("../elsewhere", place.path("srv/a")).expect("symlink");
    let (exported, told) = place.load(&[place.line("srv", "ro"), place.line("srv/a/in", "ro")]);
    assert!(told.contains("cannot get here"), "{told}");
    assert!(!exported.junctions.any_below(place.id(&exported, "srv")));
}

/// What a client may not use stays out of sight on the way to what it may.
#[test]
fn an_export_in_one_that_is_another_file_system() {
    for options in ["ro", "crossmnt"] {
        let Some(mut place) = Place::new(&["a/b"]) else {
            return;
        };
        if !place.tmpfs("a/b") {
            return;
        }
        fs::create_dir(place.path("a/b/c")).expect("mkdir");
        let lines = [
            place.line("a", options),
            place.line("a/b", "fsid=7"),
            place.line("a/b/c", "fsid=8"),
        ];
        let (exported, told) = place.load(&lines);
        assert_eq!(told, "");
        let [a, b, c] = ["a", "a/b", "a/b/c"].map(|below| place.id(&exported, below));
        let (fsid, handle) = place.look_up(&exported, a, "b");
        let crossing = |may: &[u32]| exported.crossing(a, fsid, &handle, &|e| may.contains(&e));
        assert_eq!(crossing(&[a, b, c]), Crossing::Into(Target::Export(b)));
        assert_eq!(crossing(&[a]), Crossing::Refused);
        let Crossing::Into(Target::Node(node)) = crossing(&[a, c]) else {
            panic!("a pseudo directory");
        };
        let not_b = |export| export != b;
        assert_eq!(exported.above(c, &not_b), Above::Pseudo(node));
        let Above::Covered(covered) = exported.above(c, &|_| true) else {
            panic!("in b");
        };
        assert_eq!(covered.outer, b);
    }
}

/// Of three in a row every pair is known: a client may use the outermost and the innermost alone.
#[test]
fn exports_three_deep() {
    let Some(place) = Place::new(&["a/b/c"]) else {
        return;
    };
    let lines = ["a", "a/b", "a/b/c"].map(|below| place.line(below, "ro"));
    let (exported, told) = place.load(&lines);
    assert_eq!(told, "");
    let [a, b, c] = ["a", "a/b", "a/b/c"].map(|below| place.id(&exported, below));
    let (fsid, handle) = place.look_up(&exported, a, "b/c");
    let not_b = |export| export != b;
    assert_eq!(
        exported.crossing(a, fsid, &handle, &not_b),
        Crossing::Into(Target::Export(c))
    );
    let over = |allowed: Allowed<'_>| match exported.above(c, allowed) {
        Above::Covered(covered) => Some(covered.outer),
        _ => None,
    };
    assert_eq!((over(&|_| true), over(&not_b)), (Some(b), Some(a)));
}

#[test]
fn a_reload_moves_the_change_attribute_when_it_changes_something() {
    let Some(place) = Place::new(&["a", "b"]) else {
        return;
    };
    let one = || table(&[place.line("a", "ro")]);
    let two = || table(&[place.line("a", "ro"), place.line("b", "ro")]);
    let mut found = Findings::new();
    let mut at = Exported::default();
    let mut seen = Vec::new();
    for (table, now) in [
        (one(), 50),
        (one(), 60),
        (two(), 70),
        (one(), 70),
        (two(), 3),
    ] {
        at = at.next(&place.vfs, table, &key(), now, &mut found);
        seen.push((at.generation, at.pseudo.change()));
    }
    assert_eq!(seen, [(1, 50), (2, 50), (3, 70), (4, 71), (5, 72)]);
}

/// Every export is got to from the root by names alone, whoever may use which.
#[test]
fn every_export_is_reached_through_pseudo_directories_and_junctions() {
    let Some(place) = Place::new(&["x/a/b/c/d", "x/e"]) else {
        return;
    };
    let below = ["x/a", "x/a/b/c", "x/a/b/c/d", "x/e"];
    let (exported, _) = place.load(&below.map(|b| place.line(b, "ro")));
    let all: Vec<&Export> = exported.table.exports().iter().collect();
    for mask in 0..1 << all.len() {
        let may: Vec<&&Export> = all
            .iter()
            .enumerate()
            .filter(|(n, _)| mask & (1 << n) != 0)
            .map(|(_, e)| e)
            .collect();
        let allowed = |id: u32| may.iter().any(|e| e.id == id);
        for wanted in &may {
            let end = walk(&exported, &wanted.path, &allowed);
            assert_eq!(end, Some(wanted.id), "{} of {may:?}", wanted.path.display());
        }
    }
}

/// The export a client ends in that follows `path` from the root.
fn walk(exported: &Exported, path: &Path, allowed: Allowed<'_>) -> Option<u32> {
    let mut at = exported.pseudo.root(allowed);
    let mut done = PathBuf::from("/");
    for name in path.iter().skip(1) {
        done.push(name);
        at = match at {
            Target::Node(node) => exported
                .pseudo
                .lookup(node, name.as_encoded_bytes(), allowed)?,
            Target::Export(outer) => {
                let dir = fs::File::open(&done).ok()?;
                let handle = sys::name_to_handle(dir.as_fd(), c"").ok()?;
                let fsid = exported.roots[&outer].mount.fsid;
                match exported.crossing(outer, fsid, &handle, allowed) {
                    Crossing::Into(target) => target,
                    Crossing::Stay => at,
                    Crossing::Refused => return None,
                }
            }
        };
    }
    match at {
        Target::Export(export) => Some(export),
        Target::Node(_) => None,
    }
}
