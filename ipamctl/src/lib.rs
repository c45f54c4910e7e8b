//! The operator's CLI: what the pool holds and why, asked of the daemon on this node.
//!
//! Owns the questions, the way the answers are shown, and the exit codes. Never changes anything: not the pool, not EC2, not
//! the kernel.

mod args;
mod ask;
mod convert;
mod view;

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context as _;

use crate::{
    args::{Args, Question},
    ask::{Daemon, Unasked},
    view::{Answer, Shape},
};

/// How the program ends. Scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: asked, and all is well.
    Fine,
    /// 1: asked, and the answer is bad news: the pool cannot be what it should be, or what was asked for does not exist.
    BadNews,
    /// 2: could not ask.
    Unasked,
    /// 64: the command line is wrong.
    Usage,
}

impl Exit {
    /// The process exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::BadNews => 1,
            Self::Unasked => 2,
            Self::Usage => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Where the program writes.
pub struct Console<'a> {
    /// Standard output: the answer and nothing else.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
    /// Standard output is a terminal, so that tables get lines.
    pub terminal: bool,
}

impl std::fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

/// Asks one question and shows the answer. `words` is the command line with the program's name first.
pub fn run(console: &mut Console<'_>, words: impl IntoIterator<Item = OsString>) -> Exit {
    let args = match Args::read(words) {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            say(console.err, &error.to_string());
            return Exit::Usage;
        }
        // --help and --version.
        Err(text) => {
            say(console.out, &text.to_string());
            return Exit::Fine;
        }
    };
    let shape = Shape { output: args.output, lines: console.terminal };
    match answer(args) {
        Ok(answer) => {
            let text = answer.render(shape);
            say(console.out, &text);
            if answer.is_bad_news() { Exit::BadNews } else { Exit::Fine }
        }
        Err(error) => {
            say(console.err, &format!("ipamctl: {error:#}\n"));
            match error.downcast_ref::<Unasked>() {
                Some(Unasked::NotFound(_)) => Exit::BadNews,
                _ => Exit::Unasked,
            }
        }
    }
}

fn answer(args: Args) -> anyhow::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let mut daemon = Daemon::connect(&args.run_dir, args.timeout).await?;
        Ok(match args.question {
            Question::Pool => Answer::Pool(Box::new(convert::pool(daemon.pool().await?))),
            Question::Leases { pod, address } => {
                let leases = daemon.leases(pod.as_ref(), address).await?;
                Answer::Leases { leases: convert::leases(leases), filtered: pod.is_some() || address.is_some() }
            }
            Question::Explain { pod } => {
                Answer::Explanation(Box::new(convert::explanation(daemon.explain(pod.as_ref()).await?)))
            }
        })
    })
}

/// Writes it all, and is content when the reader has gone (`ipamctl leases | head -1`): nobody is left to tell.
fn say(to: &mut dyn Write, text: &str) {
    let written = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    drop(written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }));
}
