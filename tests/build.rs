//! Builds the C oracle of the codec tests (`xdr/oracle.c`) with rpcgen, cc and libtirpc.
//!
//! Without those tools the build goes on and the tests say what is missing. Debian packages:
//! rpcsvc-proto, libtirpc-dev, gcc.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The .x files, and the stem of what rpcgen makes of each (`rpc.h` is the C library's).
const SPECS: [(&str, &str); 5] = [
    ("nfs3.x", "nfs3"),
    ("nfs4.x", "nfs4"),
    ("mount.x", "mount"),
    ("rpcbind.x", "rpcbind"),
    ("rpc.x", "rpc_msg"),
];

fn main() {
    println!("cargo::rerun-if-changed=xdr");
    println!("cargo::rerun-if-changed=build.rs");
    match oracle() {
        Ok(path) => println!("cargo::rustc-env=RINGNFS_XDR_ORACLE={}", path.display()),
        Err(why) => {
            println!(
                "cargo::warning=no C oracle for the codec tests (rpcsvc-proto, libtirpc-dev, gcc): {why}"
            );
            println!("cargo::rustc-env=RINGNFS_XDR_ORACLE_MISSING={why}");
        }
    }
}

fn oracle() -> Result<PathBuf, String> {
    let from = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .ok_or_else(|| format!("{name} is not set"))
    };
    let specs = from("CARGO_MANIFEST_DIR")?.join("xdr");
    let out = from("OUT_DIR")?;
    let mut sources = vec![specs.join("oracle.c")];
    for (spec, stem) in SPECS {
        let header = out.join(format!("{stem}.h"));
        let code = out.join(format!("{stem}_xdr.c"));
        // rpcgen puts the name it was given, directory and all, into an #include.
        let copy = out.join(format!("{stem}.x"));
        std::fs::copy(specs.join(spec), copy).map_err(|error| format!("{spec}: {error}"))?;
        rpcgen(&out, "-h", stem, &header)?;
        rpcgen(&out, "-c", stem, &code)?;
        sources.push(code);
    }
    let program = out.join("xdr-oracle");
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-w", "-I/usr/include/tirpc", "-I"])
        .arg(&out);
    cc.args(sources).arg("-o").arg(&program).arg("-ltirpc");
    run(cc)?;
    Ok(program)
}

fn rpcgen(directory: &Path, what: &str, stem: &str, output: &Path) -> Result<(), String> {
    // rpcgen does not write over a file.
    let _ = std::fs::remove_file(output);
    let mut rpcgen = Command::new("rpcgen");
    rpcgen
        .current_dir(directory)
        .args([what, "-o"])
        .arg(output)
        .arg(format!("{stem}.x"));
    run(rpcgen)
}

/// Runs a tool; the error is one line.
fn run(mut command: Command) -> Result<(), String> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{tool}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let first = errors
        .lines()
        .find(|line| line.contains("rror"))
        .or(errors.lines().next());
    Err(format!(
        "{tool}: {}",
        first.unwrap_or("failed without a word")
    ))
}
