//! The program `ipamctl`. Everything it does is in the library.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

fn main() -> ExitCode {
    let terminal = io::stdout().is_terminal();
    let mut console = ipamctl::Console { out: &mut io::stdout().lock(), err: &mut io::stderr().lock(), terminal };
    ipamctl::run(&mut console, std::env::args_os()).into()
}
