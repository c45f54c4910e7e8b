//! The make targets, as far as they can be tried without building anything.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates are one below the top")
}

fn make(words: &[&str]) -> Output {
    // What an outer make passed on is not what is tried here.
    let settings = [
        "BACKEND",
        "RUNTIME",
        "CLUSTER",
        "NODES",
        "PODS",
        "ONLY",
        "KILLS",
        "SEED",
        "SEEDS",
        "FROM",
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
    ];
    let mut make = Command::new("make");
    for setting in settings {
        make.env_remove(setting);
    }
    make.args(words).current_dir(root()).output().expect("make starts")
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn what_is_promised_for_later_says_not_yet_and_fails() {
    for words in
        [&["demo", "RUNTIME=containerd"][..], &["demo", "CLUSTER=kubernetes", "NODES=3"], &["fuzz"], &["image"]]
    {
        let output = make(words);
        assert!(!output.status.success() && says(&output).contains("not yet"), "{words:?}: {}", says(&output));
    }
}

#[test]
fn a_setting_that_cannot_be_is_refused_by_name_before_anything_is_built() {
    for (setting, allowed) in [
        ("BACKEND=aws", "embedded and localstack"),
        ("RUNTIME=docker", "netns and containerd"),
        ("CLUSTER=yes", "none and kubernetes"),
        ("NODES=1", "2 to 20"),
        ("NODES=21", "2 to 20"),
        ("PODS=many", "20 to 54"),
        ("PODS=4", "20 to 54"),
    ] {
        let output = make(&["demo", setting]);
        let said = says(&output);
        assert!(!output.status.success() && said.contains(setting) && said.contains(allowed), "{setting}: {said}");
    }
    for (target, settings) in [
        ("soak", ["KILLS=0", "KILLS=many", "SEED=-1", "SEED=x"]),
        ("sim", ["SEEDS=0", "SEEDS=many", "FROM=-1", "SEED=x"]),
    ] {
        for setting in settings {
            let output = make(&[target, setting]);
            let said = says(&output);
            assert!(
                !output.status.success() && said.contains(setting) && said.contains("a number"),
                "{setting}: {said}"
            );
        }
    }
}

#[test]
fn without_a_target_the_targets_are_named() {
    let output = make(&[]);
    for target in ["demo", "test", "bench", "soak", "sim", "mutants", "lint", "clean"] {
        assert!(output.status.success() && says(&output).contains(&format!("make {target}")), "{}", says(&output));
    }
}

#[test]
fn without_root_the_setup_says_what_it_needs_and_installs_nothing() {
    // Where nobody may read the checkout, nobody may still read a copy.
    let copy = tempfile::tempdir().expect("directory");
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).expect("open directory");
    fs::create_dir(copy.path().join("scripts")).expect("directory");
    for file in ["scripts/setup", "scripts/lib.sh", "rust-toolchain.toml"] {
        fs::copy(root().join(file), copy.path().join(file)).expect("copied");
    }
    let mut setup = Command::new("bash");
    setup.arg("scripts/setup").current_dir(copy.path()).env("HOME", copy.path()).uid(65_534).gid(65_534);
    let output = setup.output().expect("bash starts");
    assert_eq!(output.status.code(), Some(1), "{}", says(&output));
    assert!(says(&output).contains("needs root"), "{}", says(&output));
}

#[test]
fn what_is_left_on_the_machine_is_seen() {
    let state = || says(&Command::new(root().join("scripts/state")).output().expect("bash starts"));
    let name = format!("berth-left-{}", std::process::id());
    let ip = |verb: &str| Command::new("ip").args(["netns", verb, &name]).status().expect("ip starts").success();
    let line = format!("namespace {name}\n");
    assert!(!state().contains(&line));
    assert!(ip("add"));
    let seen = state();
    assert!(ip("del"));
    assert!(seen.contains(&line), "{seen}");
    assert!(!state().contains(&line));
}
