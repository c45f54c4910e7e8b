//! The command line.
//!
//! Owns its grammar: everything typed is parsed here once, into types that cannot be wrong. Never asks anything.

use std::{ffi::OsString, fmt, net::IpAddr, path::Path, path::PathBuf, str::FromStr, time::Duration};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

/// What the pool of this node holds and why.
#[derive(Debug, Parser)]
#[command(name = "ipamctl", version, after_help = "Exit: 0 fine, 1 the answer is bad news, 2 could not ask, 64 usage.")]
pub(crate) struct Args {
    /// Run directory of the daemon; its socket is in it
    #[arg(long, env = "BERTH_RUN_DIR", default_value = "/run/berth", global = true, value_name = "DIR")]
    pub run_dir: PathBuf,
    /// How to show the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table, global = true)]
    pub output: Output,
    /// How long the daemon may take
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s", global = true, value_name = "TIME")]
    pub timeout: Duration,
    /// What to ask.
    #[command(subcommand)]
    pub question: Question,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Question {
    /// One screen: ENIs, addresses by state, targets, demand, what happens next and why
    Pool,
    /// Who holds which address
    Leases {
        /// Only this pod's
        #[arg(long, value_name = "NAMESPACE/NAME")]
        pod: Option<PodName>,
        /// Only this address
        #[arg(long, value_name = "ADDRESS")]
        address: Option<IpAddr>,
    },
    /// Why the pool is what it is, or why a pod has no address
    Explain {
        /// The pod
        #[arg(value_name = "NAMESPACE/NAME")]
        pod: Option<PodName>,
    },
}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Tables: with lines on a terminal, plain columns in a pipe
    Table,
    /// Tables with every column and every address
    Wide,
    /// One JSON document
    Json,
}

/// A pod's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodName {
    namespace: String,
    name: String,
}

impl FromStr for PodName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("a pod is written namespace/name, for example default/web-0"),
        }
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Args {
    /// Reads a command line with the program's name first. Named `kubectl-berth`, it calls itself `kubectl berth`.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        let as_plugin =
            words.first().and_then(|word| Path::new(word).file_name()).is_some_and(|name| name == "kubectl-berth");
        let command = if as_plugin { Self::command().bin_name("kubectl berth") } else { Self::command() };
        Self::from_arg_matches(&command.try_get_matches_from(words)?)
    }
}
