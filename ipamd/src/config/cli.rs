//! The command line: one flag per variable, and it goes before the environment.
//!
//! Owns flags only. Never parses a value: a flag's value takes the way of its variable's.

use std::{collections::BTreeMap, ffi::OsString};

use clap::{Arg, ArgAction, Command};

use super::{VARIABLES, Variable};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// `--check-config`: print the effective configuration and end.
    pub check_config: bool,
    /// Values given by flags, by the variable's name.
    pub given: BTreeMap<&'static str, String>,
}

impl Invocation {
    /// The value of a variable: the flag's, or the environment's.
    pub fn lookup(&self, variable: &str) -> Option<String> {
        self.given.get(variable).cloned().or_else(|| std::env::var(variable).ok())
    }
}

/// Reads the command line; the error says what to print, `--help` and `--version` included.
pub fn invocation(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let command = Command::new("ipamd")
        .version(crate::VERSION)
        .about("Gives every pod of this node an address of the VPC. Flags and environment variables mean the same; a flag goes first.")
        .arg(
            Arg::new("check-config")
                .long("check-config")
                .action(ArgAction::SetTrue)
                .help("print the effective configuration and end; exit 64 when it is wrong"),
        )
        .args(VARIABLES.iter().map(flag));
    let matches = command.try_get_matches_from(arguments)?;
    let given = VARIABLES
        .iter()
        .filter_map(|variable| Some((variable.name, matches.get_one::<String>(variable.name)?.clone())))
        .collect();
    Ok(Invocation { check_config: matches.get_flag("check-config"), given })
}

fn flag(variable: &Variable) -> Arg {
    Arg::new(variable.name)
        .long(variable.flag())
        .value_name("VALUE")
        .allow_hyphen_values(true)
        .help(format!("{} ({})", variable.meaning, variable.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Invocation, clap::Error> {
        invocation(arguments.iter().map(OsString::from))
    }

    #[test]
    fn a_flag_means_what_its_variable_means() {
        let said = read(&["ipamd", "--warm-ip-target", "-3", "--berth-run-dir=/run/other"]).expect("flags");
        assert_eq!(said.lookup("WARM_IP_TARGET").as_deref(), Some("-3"));
        assert_eq!(said.lookup("BERTH_RUN_DIR").as_deref(), Some("/run/other"));
        assert!(!said.check_config);
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        assert_eq!(
            read(&["ipamd", "--warm-ips", "3"]).map_err(|e| e.kind()),
            Err(clap::error::ErrorKind::UnknownArgument)
        );
    }

    #[test]
    fn every_variable_has_a_flag_of_its_own() {
        let mut flags: Vec<_> = VARIABLES.iter().map(Variable::flag).collect();
        flags.sort();
        flags.dedup();
        assert_eq!(flags.len(), VARIABLES.len());
    }
}
