//! The session in `docs/LAB.md`, as a newcomer would repeat it.

use std::{env, path::Path, process::Command};

use lab::Programs;

/// A command of the page, and what the page says that it prints.
#[derive(Debug)]
struct Step {
    command: String,
    printed: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let session = page.split_once("## A session").expect("the page has a session").1;
    let mut steps: Vec<Step> = Vec::new();
    for line in session.lines() {
        // Between blocks of code there are words of explanation.
        let Some(line) = line.strip_prefix("    ") else { continue };
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), printed: Vec::new() }),
            (None, Some(step)) => step.printed.push(masked(line)),
            (None, None) => panic!("no command printed {line:?}"),
        }
    }
    steps
}

/// Without what differs each time: numbers, ids, and the width of columns.
fn masked(line: &str) -> String {
    let is_id = |run: &str| run.len() >= 4 || run.bytes().any(|byte| byte.is_ascii_digit());
    let mut text = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let run = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let (run, after) = rest.split_at(run);
        text.push_str(if is_id(run) { "#" } else { run });
        let other = after.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(after.len());
        text.push_str(&after[..other]);
        rest = &after[other..];
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Takes the lab down, also when a step went wrong.
struct Up;

impl Drop for Up {
    fn drop(&mut self) {
        run("lab down");
    }
}

/// What it prints: why it failed too, if it did.
fn run(command: &str) -> Vec<String> {
    let lab = Programs::beside_this_one().path("lab").expect("the lab is built");
    let folder = lab.parent().expect("it is in a folder").display();
    let path = format!("{folder}:{}", env::var("PATH").unwrap_or_default());
    let output = Command::new("bash").args(["-c", &format!("{command} 2>&1")]).env("PATH", path).output();
    let output = output.expect("bash runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| !line.trim().is_empty()).map(masked).collect()
}

#[test]
fn the_session_of_the_labs_page_can_be_repeated() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/LAB.md");
    let steps = steps(&std::fs::read_to_string(page).expect("the page"));
    assert!(steps.len() > 8 && steps[0].command.starts_with("lab up"), "{steps:#?}");
    let mut up = None;
    for Step { command, mut printed } in steps {
        let said = run(&command);
        up.get_or_insert_with(|| Up);
        printed.retain(|line| !line.is_empty());
        assert_eq!(said, printed, "{command}");
    }
}

#[test]
fn what_differs_each_time_is_masked() {
    let one = "eni-087b83854bfd4a4ae  i-0c5a device 1  10.0.0.14   8.142s  ClientToken=86631cb0";
    let other = "eni-abcd i-0d5a device 2 10.0.0.7 12.001s  ClientToken=7e";
    assert_eq!(masked(one), masked(other));
    assert_ne!(masked(one), masked("eni-087b83854bfd4a4ae  i-0c5a gadget 1  10.0.0.14   8.142s  ClientToken=86631cb0"));
}
