//! `berth-cni`: reads its environment and stdin, prints the CNI reply to stdout, exits.

use std::io::{self, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    let reply = cni_plugin::run(|name| std::env::var_os(name), io::stdin().lock());
    // There is nobody left to tell when these cannot be written.
    let _ = io::stdout().lock().write_all(reply.stdout.as_bytes());
    let _ = io::stderr().lock().write_all(reply.stderr.as_bytes());
    ExitCode::from(reply.exit)
}
