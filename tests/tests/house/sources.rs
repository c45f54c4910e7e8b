//! How sources look.

use crate::{
    exactly, none,
    workspace::{self, Member, Need, Source},
};

/// Longer than this, a file holds more than one thing.
const LINES: usize = 450;

/// `(file, why it is longer)`.
const LONGER: &[(&str, &str)] = &[];

/// A program starts its library and nothing else.
const MAIN_LINES: usize = 25;

/// A crate with less code than this says nothing.
const SHELL_LINES: usize = 30;

/// `(word, what to do instead)`, in every Rust file. Written in two halves, so that this file may name them.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("todo", "!("), "write it, or leave it out"),
    (concat!("unimplemented", "!("), "write it, or refuse it by name"),
    (concat!("dbg", "!("), "use tracing"),
    (concat!("#[ig", "nore"), "a test runs or does not exist"),
    (concat!("thread::", "sleep"), "wait for a condition with a bound"),
];

/// `(file, word, why)`.
const ALLOWED: &[(&str, &str, &str)] =
    &[("lab/src/wait.rs", concat!("thread::", "sleep"), "the one place that waits: for a condition, with a bound")];

/// What the pure core never names.
const IMPURE: &[&str] = &[
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::sync",
    "async fn",
    "static mut",
    "thread_local",
    "RefCell",
];

/// Places of the machine on which a file was written. In two halves, so that this file may name them.
const PLACES: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];

fn length(files: &[Source], longer: &[(&str, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        let (lines, excused) = (file.text.lines().count(), longer.iter().any(|(path, _)| *path == file.path));
        if lines > LINES && !excused {
            complaints.push(format!("{} has {lines} lines: split it, or list it with a reason", file.path));
        }
        if lines <= LINES && excused {
            complaints.push(format!("{} is listed as long and has {lines} lines", file.path));
        }
        if (file.path.ends_with("/src/main.rs") || file.path.contains("/src/bin/")) && lines > MAIN_LINES {
            complaints.push(format!("{} has {lines} lines: a program starts its library", file.path));
        }
    }
    complaints
}

fn openings(files: &[Source]) -> Vec<String> {
    let closed = |file: &&Source| !file.text.starts_with("//!");
    files.iter().filter(closed).map(|file| format!("{} does not open with //!", file.path)).collect()
}

fn words(files: &[Source], allowed: &[(&str, &str, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        for (word, instead) in FORBIDDEN {
            if file.text.contains(word) && !allowed.iter().any(|(path, of, _)| *path == file.path && of == word) {
                complaints.push(format!("{} says {word}: {instead}", file.path));
            }
        }
    }
    complaints
}

fn purity(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("pool/src/")) {
        let code = file.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = code.collect::<Vec<_>>().join("\n");
        complaints
            .extend(IMPURE.iter().filter(|word| names(&code, word)).map(|word| format!("{} names {word}", file.path)));
    }
    complaints
}

fn places(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        let named = PLACES.iter().filter(|place| file.text.contains(*place));
        complaints.extend(named.map(|place| format!("{} names {place}", file.path)));
    }
    complaints
}

fn shells(members: &[Member], files: &[Source]) -> Vec<String> {
    let code = |member: &Member| -> usize {
        let own = files.iter().filter(|file| file.path.starts_with(&format!("{}/", member.name)));
        own.flat_map(|file| file.text.lines()).filter(|line| is_code(line)).count()
    };
    let counted = members.iter().map(|member| (member, code(member))).filter(|(_, lines)| *lines < SHELL_LINES);
    counted.map(|(member, lines)| format!("{} is a shell of {lines} lines", member.name)).collect()
}

fn unused(members: &[Member], files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for member in members {
        let own: Vec<&Source> =
            files.iter().filter(|file| file.path.starts_with(&format!("{}/", member.name))).collect();
        for need in &member.needs {
            let name = need.name.replace('-', "_");
            if !own.iter().any(|file| names(&file.text, &name)) {
                complaints.push(format!("{} depends on {} and never names it", member.name, need.name));
            }
        }
    }
    complaints
}

fn is_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("//")
}

/// The text has this word with no letter of a name right before or after it.
fn names(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part) && !text[at + word.len()..].chars().next().is_some_and(part)
    })
}

#[test]
fn files_are_short() {
    none(&length(&workspace::rust(), LONGER));
}

#[test]
fn every_module_says_what_it_owns() {
    none(&openings(&workspace::rust()));
}

#[test]
fn no_file_says_a_forbidden_word() {
    none(&words(&workspace::rust(), ALLOWED));
}

#[test]
fn the_core_is_pure() {
    none(&purity(&workspace::rust()));
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    none(&places(&workspace::texts()));
}

#[test]
fn no_crate_is_an_empty_shell() {
    none(&shells(&workspace::members(), &workspace::texts()));
}

#[test]
fn every_dependency_is_used() {
    let files: Vec<Source> = workspace::texts().into_iter().filter(Source::is_rust).collect();
    none(&unused(&workspace::members(), &files));
}

fn file(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

fn member(name: &str, needs: &[&str]) -> Member {
    let need = |name: &&str| Need { name: (*name).to_owned(), dev: false, ours: false };
    Member { name: name.to_owned(), dir: name.into(), needs: needs.iter().map(need).collect() }
}

#[test]
fn a_long_file_is_seen_and_so_is_a_stale_excuse() {
    let (long, short) = (file("pool/src/a.rs", &"x\n".repeat(LINES + 1)), file("pool/src/b.rs", "x\n"));
    exactly(&length(&[long.clone(), short.clone()], &[]), &["pool/src/a.rs has 451"]);
    exactly(
        &length(&[long, short], &[("pool/src/a.rs", "why"), ("pool/src/b.rs", "why")]),
        &["b.rs is listed as long"],
    );
}

#[test]
fn a_program_that_does_work_in_main_is_seen() {
    let text = "x\n".repeat(MAIN_LINES + 1);
    exactly(
        &length(&[file("ipamd/src/main.rs", &text), file("ipamd/src/bin/install.rs", &text)], &[]),
        &["main.rs", "install.rs"],
    );
}

#[test]
fn a_module_without_its_opening_is_seen() {
    exactly(&openings(&[file("a.rs", "use std::fs;\n"), file("b.rs", "//! Owns b.\n")]), &["a.rs"]);
}

#[test]
fn each_forbidden_word_is_seen_unless_excused() {
    for (word, _) in FORBIDDEN {
        let files = [file("lab/src/a.rs", &format!("fn f() {{ {word} }}"))];
        exactly(&words(&files, &[]), &[word]);
        exactly(&words(&files, &[("lab/src/a.rs", word, "why")]), &[]);
        exactly(&words(&files, &[("lab/src/b.rs", word, "why")]), &[word]);
    }
}

#[test]
fn an_impure_core_is_seen() {
    exactly(&purity(&[file("pool/src/a.rs", "use std::collections::HashMap;\n")]), &["HashMap"]);
    exactly(&purity(&[file("pool/src/a.rs", "let now = Instant::now();\n")]), &["Instant"]);
    exactly(
        &purity(&[file("pool/src/a.rs", "// no HashMap\nstruct Instance;\n"), file("node/src/a.rs", "HashMap")]),
        &[],
    );
}

#[test]
fn a_place_is_seen() {
    for place in PLACES {
        exactly(&places(&[file("README.md", &format!("see {place}x"))]), &[place]);
    }
}

#[test]
fn a_shell_is_seen() {
    let code = file("pool/src/lib.rs", &"let x = 1;\n".repeat(SHELL_LINES));
    let comments = file("cloud/src/lib.rs", &"// soon\n\n".repeat(SHELL_LINES));
    exactly(&shells(&[member("pool", &[]), member("cloud", &[])], &[code, comments]), &["cloud is a shell of 0"]);
}

#[test]
fn an_unused_dependency_is_seen() {
    let files = [file("cloud/src/lib.rs", "use serde_json::Value;\n"), file("pool/src/lib.rs", "rand::random()")];
    exactly(&unused(&[member("cloud", &["serde", "serde-json", "rand"])], &files), &["on serde and", "on rand and"]);
}
