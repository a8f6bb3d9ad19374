//! The ringnfs command.

use std::process::ExitCode;

fn main() -> ExitCode {
    nfsd::cli::main()
}
