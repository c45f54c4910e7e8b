//! `ipamd`: the per-node daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    ipamd::run::main()
}
