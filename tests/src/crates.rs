//! Rust crates that are on this machine already, unpacked and built on a mount with this machine's compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::netns::Rig;

/// Crates without dependencies of their own that this workspace uses, so that their sources are on this machine.
const CRATES: [&str; 3] = ["arrayvec", "siphasher", "strsim"];

/// Shell scripts that make a project of some crates in a guest's directory and build it.
pub struct Project {
    /// Makes the project in the current directory.
    pub unpack: String,
    /// Builds it and runs what comes out.
    pub build: String,
}

impl Project {
    /// `None` if cargo's cache has not got the crates.
    ///
    /// # Panics
    /// If there is no rustc.
    pub fn new(rig: &Rig) -> Option<Project> {
        let crates: Option<Vec<_>> = CRATES.iter().map(|name| cached_crate(name)).collect();
        let crates = crates?;
        let sysroot = Command::new("rustc")
            .args(["--print", "sysroot"])
            .output()
            .expect("rustc");
        let sysroot = String::from_utf8(sysroot.stdout).expect("a path");
        let mut unpack = String::from("mkdir vendor src .cargo\n");
        let mut manifest =
            String::from("[package]\nname = \"app\"\nedition = \"2021\"\n[dependencies]\n");
        for (name, file) in CRATES.iter().zip(&crates) {
            let placed = rig.place(file);
            unpack += &format!("tar -C vendor -xzf {}\n", placed.display());
            let stem = file
                .file_stem()
                .expect("NAME-VERSION")
                .to_string_lossy()
                .into_owned();
            unpack += &format!("echo '{{\"files\":{{}}}}' >vendor/{stem}/.cargo-checksum.json\n");
            manifest += &format!("{name} = \"*\"\n");
        }
        let source = "fn main() { let a: arrayvec::ArrayVec<u8, 4> = (0..4).collect();
        println!(\"{} {}\", a.len(), strsim::levenshtein(\"kitten\", \"sitting\")); }";
        unpack += "cat >.cargo/config.toml <<'E'\n[source.crates-io]\nreplace-with = \"here\"\n";
        unpack += "[source.here]\ndirectory = \"vendor\"\nE\n";
        unpack +=
            &format!("cat >Cargo.toml <<'E'\n{manifest}E\ncat >src/main.rs <<'E'\n{source}\nE\n");
        let build = format!(
            "export PATH={}/bin:$PATH CARGO_HOME=/tmp/cargo\n\
             cargo build --offline -j1 2>&1\n[ \"$(target/debug/app)\" = '4 3' ]\n",
            sysroot.trim()
        );
        Some(Project { unpack, build })
    }
}

/// The packed source of a crate, of the version this workspace has locked.
fn cached_crate(name: &str) -> Option<PathBuf> {
    let lock =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock")).ok()?;
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    let version = rest.split('"').next()?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let mirrors = fs::read_dir(home.join("registry/cache")).ok()?;
    let file = format!("{name}-{version}.crate");
    mirrors
        .flatten()
        .map(|m| m.path().join(&file))
        .find(|p| p.exists())
}
