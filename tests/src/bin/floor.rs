//! `floor`: the least that the plugin could do, for measuring the plugin against it.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use tests::floor::Floor;

fn main() -> ExitCode {
    let Some(floor) = Floor::from_arguments(std::env::args_os().skip(1)) else {
        eprintln!("usage: floor tonic|raw SOCKET NUMBER [NETNS]; run by the benchmark");
        return ExitCode::from(64);
    };
    match floor.run().and_then(|result| io::stdout().write_all(result.as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}
