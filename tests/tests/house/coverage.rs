//! `COVERAGE.md` and `docs/FROM-VPC-CNI.md`: every promise names a test, and every named test exists.

use crate::{
    exactly, none,
    workspace::{self, Source},
};

/// Sections that must have a row each: what was promised.
const SECTIONS: &[&str] = &[
    "The house",
    "EC2 on one machine",
    "`cloud` and `cloud-aws`",
    "`pool` and `node`",
    "`ipamd`",
    "`berth-cni`",
    "The datapath",
    "`ipamctl`",
    "`make demo` and `make test`",
    "Bad input and faults",
];

/// One row: `| promise | crate | test |`.
#[derive(Debug)]
struct Promise {
    line: usize,
    section: String,
    text: String,
    /// The crate's directory, or a directory below it.
    home: String,
    /// `module::name` in Rust, `file.py::name` in Python.
    test: String,
}

/// Its rows, or what is wrong with a line that looks like one.
fn read(text: &str) -> Result<Vec<Promise>, Vec<String>> {
    let (mut promises, mut complaints, mut section) = (Vec::new(), Vec::new(), String::new());
    for (at, line) in text.lines().enumerate() {
        if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut section);
        }
        let Some(row) = line.trim().strip_prefix('|') else { continue };
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        match cells[..] {
            ["promise", ..] => {}
            [first, ..] if first.starts_with("--") => {}
            [text, home, test] if ![text, home, test].contains(&"") => promises.push(Promise {
                line: at + 1,
                section: section.clone(),
                text: text.to_owned(),
                home: home.to_owned(),
                test: test.to_owned(),
            }),
            _ => complaints.push(format!("line {}: a row is | promise | crate | test |", at + 1)),
        }
    }
    if complaints.is_empty() { Ok(promises) } else { Err(complaints) }
}

fn check(text: &str, files: &[Source], sections: &[&str]) -> Vec<String> {
    let promises = match read(text) {
        Ok(promises) => promises,
        Err(complaints) => return complaints,
    };
    let mut complaints = Vec::new();
    for section in sections {
        if !promises.iter().any(|promise| promise.section == *section) {
            complaints.push(format!("## {section}: no promise of it has a test"));
        }
    }
    for (at, promise) in promises.iter().enumerate() {
        if !exists(promise, files) {
            complaints.push(format!("line {}: {} has no test {}", promise.line, promise.home, promise.test));
        }
        if promises[..at].iter().any(|other| other.text == promise.text && other.test == promise.test) {
            complaints.push(format!("line {}: said twice: {}", promise.line, promise.text));
        }
    }
    complaints
}

fn exists(promise: &Promise, files: &[Source]) -> bool {
    let home = format!("{}/", promise.home);
    let mut own = files.iter().filter(|file| file.path.starts_with(&home));
    if let Some((python, name)) = promise.test.split_once(".py::") {
        let path = format!("{home}{python}.py");
        let forms = [format!("def {name}("), format!("\"{name}\""), format!("'{name}'")];
        return own.any(|file| file.path == path && forms.iter().any(|form| file.text.contains(form.as_str())));
    }
    let (modules, name) = promise.test.rsplit_once("::").unwrap_or(("", &promise.test));
    let modules: Vec<&str> = modules.split("::").filter(|module| !module.is_empty()).collect();
    own.filter(|file| file.is_rust())
        .any(|file| is_test(&file.text, name) && modules.iter().all(|module| is_in(file, module)))
}

/// A function of this name with a test attribute above it.
fn is_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let line = line.trim_start_matches("async ");
        let named =
            line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('));
        let attributes = lines[..at].iter().rev().take_while(|above| above.starts_with('#') || above.starts_with("//"));
        named && { attributes }.any(|above| above.starts_with("#[test]") || above.starts_with("#[tokio::test"))
    })
}

/// The file is the module, is below it, or has it inside.
fn is_in(file: &Source, module: &str) -> bool {
    let path = file.path.strip_suffix(".rs").unwrap_or(&file.path);
    path.split('/').any(|part| part == module) || file.text.contains(&format!("mod {module} {{"))
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let files = workspace::texts();
    let own = files.iter().find(|file| file.path == "tests/COVERAGE.md").expect("tests/COVERAGE.md is there");
    none(&check(&own.text, &files, SECTIONS));
}

/// The rows of the page for users of amazon-vpc-cni: lines of the form "- `crate` `test`" below the title of what was reported.
fn reported(text: &str) -> (Vec<String>, Vec<Promise>) {
    let (mut titles, mut promises) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        if let Some(title) = line.strip_prefix("## ") {
            titles.push(title.to_owned());
        }
        let Some(row) = line.strip_prefix("- `") else { continue };
        let (home, test) = row.trim_end_matches('`').split_once("` `").unwrap_or((row, ""));
        let section = titles.last().cloned().unwrap_or_default();
        let (home, test) = (home.to_owned(), test.to_owned());
        promises.push(Promise { line: at + 1, text: section.clone(), section, home, test });
    }
    (titles, promises)
}

fn check_reported(text: &str, files: &[Source]) -> Vec<String> {
    let (titles, promises) = reported(text);
    let bare = titles.iter().filter(|title| !promises.iter().any(|promise| promise.section == **title));
    let mut complaints: Vec<_> = bare.map(|title| format!("## {title}: no test holds it")).collect();
    for promise in promises.iter().filter(|promise| !exists(promise, files)) {
        complaints.push(format!("line {}: {} has no test {}", promise.line, promise.home, promise.test));
    }
    complaints
}

#[test]
fn every_failure_that_users_reported_names_tests_that_exist() {
    let files = workspace::texts();
    let page = files.iter().find(|file| file.path == "docs/FROM-VPC-CNI.md").expect("docs/FROM-VPC-CNI.md is there");
    let (titles, promises) = reported(&page.text);
    assert!(titles.len() == 13 && promises.len() >= 50, "{} findings, {} tests", titles.len(), promises.len());
    none(&check_reported(&page.text, &files));
}

#[test]
fn a_reported_failure_without_a_test_is_seen() {
    let page = "## 1. One\n\nSaid.\n\n- `pool` `plan::it_grows`\n- `pool` `plan::it_shrinks`\n\n## 2. Two\n\nSaid.\n";
    exactly(&check_reported(page, &crates()), &["## 2. Two: no test", "line 6: pool has no test plan::it_shrinks"]);
}

const HEAD: &str = "## One\n\n| promise | crate | test |\n|---|---|---|\n";

fn crates() -> [Source; 3] {
    let file = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    [
        file(
            "pool/src/plan.rs",
            "mod tests {\n    /// Why.\n    #[test]\n    fn it_grows() {}\n    fn helper() {}\n}\n",
        ),
        file("lab/tests/fabric.rs", "#[tokio::test(flavor = \"x\")]\n#[expect(dead_code)]\nasync fn it_drops() {}\n"),
        file("tests/ec2_checks/test_ec2.py", "def test_assign(ec2):\n    pass\nCASES = [\"attach-twice\"]\n"),
    ]
}

#[test]
fn named_tests_are_found() {
    let rows = "| a | pool | `plan::tests::it_grows` |\n| b | pool | it_grows |\n| c | `lab` | fabric::it_drops |\n\
        | d | tests/ec2_checks | test_ec2.py::test_assign |\n| e | tests/ec2_checks | test_ec2.py::attach-twice |\n";
    exactly(&check(&format!("{HEAD}{rows}"), &crates(), &["One"]), &[]);
}

#[test]
fn a_test_that_does_not_exist_is_seen() {
    for row in [
        "| a | pool | plan::it_shrinks |",
        "| a | pool | plan::it_gro |",
        "| a | pool | plan::helper |",
        "| a | pool | other::it_grows |",
        "| a | cloud | plan::it_grows |",
        "| a | tests/ec2_checks | test_ec2.py::test_detach |",
        "| a | tests/ec2_checks | other.py::test_assign |",
    ] {
        exactly(&check(&format!("{HEAD}{row}\n"), &crates(), &[]), &["line 5"]);
    }
}

#[test]
fn a_broken_row_an_empty_section_and_a_repetition_are_seen() {
    exactly(&check(&format!("{HEAD}| a | pool |\n"), &crates(), &[]), &["line 5: a row is"]);
    exactly(&check(&format!("{HEAD}| a | pool | |\n"), &crates(), &[]), &["line 5: a row is"]);
    exactly(&check(HEAD, &crates(), &["One"]), &["## One"]);
    let twice = "| a | pool | it_grows |\n| a | pool | it_grows |\n";
    exactly(&check(&format!("{HEAD}{twice}"), &crates(), &["One"]), &["line 6: said twice"]);
}
