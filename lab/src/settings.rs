//! What a lab is made of.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

use crate::{
    backend::Backend,
    trouble::{Latency, Trouble},
    world,
};

/// Everything about a lab that can be chosen. The default is a VPC with two m5.large nodes, `a` and `b`.
#[derive(Debug, Clone)]
pub struct LabSettings {
    /// What every namespace's name begins with. Two labs with different prefixes run side by side.
    pub prefix: String,
    /// The VPC's CIDR.
    pub vpc: Ipv4Net,
    /// The CIDR of the nodes' subnet.
    pub subnet: Ipv4Net,
    /// The nodes, by name.
    pub nodes: Vec<NodeSettings>,
    /// Which EC2.
    pub backend: Backend,
    /// EC2: how long its transitions take.
    pub world: world::Settings,
    /// What goes wrong from the start, and how long calls take.
    pub trouble: Trouble,
    /// Where Berth's programs are.
    pub programs: Programs,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// Part of the namespace's name.
    pub name: String,
    /// `m5.large`
    pub instance_type: String,
}

/// The folder with Berth's built programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    folder: PathBuf,
}

impl LabSettings {
    /// The default under another prefix.
    pub fn with_prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// The same with so many nodes, `a`, `b`, `c`, ...
    #[must_use]
    pub fn with_nodes(self, instance_types: &[&str]) -> Self {
        let name = |index: usize| char::from_digit(u32::try_from(index).unwrap_or(u32::MAX).saturating_add(10), 36);
        let nodes = instance_types.iter().enumerate().map(|(index, instance_type)| NodeSettings {
            name: name(index).map_or_else(|| format!("n{index}"), String::from),
            instance_type: (*instance_type).to_owned(),
        });
        Self { nodes: nodes.collect(), ..self }
    }

    /// The folder of this lab's files: one folder per node, with its run directory and the daemon's log.
    pub fn directory(&self) -> PathBuf {
        directory_of(&self.prefix)
    }

    /// Letters, digits and hyphens.
    pub(crate) fn is_plain(name: &str) -> bool {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    }

    /// Prefixes name folders, namespaces and, in part, processes: keep them plain.
    pub(crate) fn check(&self) -> Result<()> {
        if !Self::is_plain(&self.prefix) || self.prefix.len() < 4 {
            bail!("the prefix {:?} is not made of at least four letters, digits and hyphens", self.prefix);
        }
        for node in &self.nodes {
            if !Self::is_plain(&node.name) || ["vpc", "inet", "onprem"].contains(&node.name.as_str()) {
                bail!("a node cannot be called {:?}", node.name);
            }
        }
        Ok(())
    }
}

impl Default for LabSettings {
    fn default() -> Self {
        let mut world = world::Settings::default();
        // A node is there when the lab is.
        world.ec2.times.start = Duration::ZERO;
        Self {
            prefix: "berth-lab".to_owned(),
            vpc: "10.0.0.0/16".parse().expect("a CIDR"),
            subnet: "10.0.0.0/20".parse().expect("a CIDR"),
            nodes: Vec::new(),
            backend: Backend::Embedded,
            world,
            trouble: Trouble { latency: Latency::fixed(Duration::from_millis(50)), ..Trouble::default() },
            programs: Programs::beside_this_one(),
        }
        .with_nodes(&["m5.large", "m5.large"])
    }
}

impl Programs {
    /// Programs in this folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// `BERTH_BIN_DIR`, or the folder of the running program; for a test binary, the folder above its `deps`.
    pub fn beside_this_one() -> Self {
        if let Some(folder) = env::var_os("BERTH_BIN_DIR") {
            return Self::in_folder(folder);
        }
        let folder =
            env::current_exe().ok().and_then(|program| program.parent().map(Path::to_path_buf)).unwrap_or_default();
        match folder.file_name() {
            Some(name) if name == "deps" || name == "examples" => Self::in_folder(folder.parent().unwrap_or(&folder)),
            _ => Self { folder },
        }
    }

    /// The path of a program, which must exist.
    pub fn path(&self, program: &str) -> Result<PathBuf> {
        let path = self.folder.join(program);
        if !path.is_file() {
            bail!("{} is not built (BERTH_BIN_DIR says where the programs are)", path.display());
        }
        path.canonicalize().with_context(|| format!("finding {}", path.display()))
    }

    /// Is there such a program?
    pub fn has(&self, program: &str) -> bool {
        self.path(program).is_ok()
    }
}

/// Where a lab of this prefix keeps its files.
pub(crate) fn directory_of(prefix: &str) -> PathBuf {
    Path::new("/run").join(prefix)
}

/// Where one of its nodes keeps them: the daemon's run directory and log.
pub(crate) fn node_directory(prefix: &str, node: &str) -> PathBuf {
    directory_of(prefix).join(node)
}
