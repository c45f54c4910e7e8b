//! The checkout as facts: its crates from `cargo metadata`, its files from the disk.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// One crate of the workspace and what its manifest names.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub name: String,
    /// Where its manifest is.
    pub dir: PathBuf,
    pub needs: Vec<Need>,
}

/// One line of `[dependencies]`, `[dev-dependencies]` or `[build-dependencies]`.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    pub name: String,
    /// Only its tests or its build script.
    pub dev: bool,
    /// Of this workspace.
    pub ours: bool,
}

/// A text file of the checkout.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Relative to the checkout.
    pub path: String,
    pub text: String,
}

impl Source {
    /// It is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }
}

/// The top of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates are one below the top")
}

/// Every crate. Reads manifests only: no network, no lock.
pub(crate) fn members() -> Vec<Member> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata answers");
    let dir =
        |manifest: &cargo_metadata::camino::Utf8Path| manifest.parent().expect("a manifest is in a directory").into();
    let member = |package: &cargo_metadata::Package| Member {
        name: package.name.to_string(),
        dir: dir(&package.manifest_path),
        needs: package
            .dependencies
            .iter()
            .map(|need| Need {
                name: need.name.clone(),
                dev: need.kind != DependencyKind::Normal,
                ours: need.path.is_some(),
            })
            .collect(),
    };
    metadata.packages.iter().map(member).collect()
}

/// Every crate that a program is linked from, by name, with the features that this program alone asks for (the graph of
/// `cargo metadata` has those of all programs at once).
pub(crate) fn linked_into(program: &str) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", program, "--edges", "normal", "--target", "x86_64-unknown-linux-musl"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8_lossy(&tree.stdout);
    lines
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// The Rust files of the checkout, generated code left out.
pub(crate) fn rust() -> Vec<Source> {
    let mut files = texts();
    files.retain(|file| file.is_rust() && !file.path.contains("/src/gen/"));
    files
}

/// Every text file of the checkout.
pub(crate) fn texts() -> Vec<Source> {
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(dir: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).expect("a readable directory") {
        let entry = entry.expect("a readable entry");
        let name = entry.file_name();
        let kind = entry.file_type().expect("a file type");
        let skipped = ["target", ".git", ".venv", "__pycache__", "proptest-regressions"];
        if kind.is_dir() && !skipped.iter().any(|skip| name == *skip) {
            walk(&entry.path(), found);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            let path = entry.path().strip_prefix(root()).expect("below the top").to_string_lossy().into_owned();
            found.push(Source { path, text });
        }
    }
}
