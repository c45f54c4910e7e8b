//! Signs of life, and what is known of the node beside the pool.
//!
//! Owns `ready-once`, `alive` and the gRPC health status: of the whole, of the plugin's service, and of each EC2 action under IAM's name of it
//! (`ec2:CreateTags`), which is not serving while EC2 denies it. Never decides whether the node serves: it asks the pool.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use node::Handle;
use pool::{Action, EniId, Refusal};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{info, warn};

/// How often the file `alive` is touched.
const ALIVE: Duration = Duration::from_secs(20);
/// How often the pool is asked whether it serves, before the first time and after it.
const ASK_UNREADY: Duration = Duration::from_millis(50);
const ASK_READY: Duration = Duration::from_secs(1);

/// The names under which health is told: the whole, and the plugin's service.
const HEALTH: [&str; 2] = ["", "berth.v1.Ipam"];

/// Signs of life.
#[derive(Debug)]
pub struct Signs {
    run_dir: PathBuf,
    boot: String,
    ready_once: AtomicBool,
    instance_type: Mutex<String>,
    links: Mutex<BTreeMap<EniId, String>>,
}

impl Signs {
    /// Reads whether a daemon of this boot has been ready before.
    pub fn new(run_dir: &Path, boot: &str) -> Self {
        let ready_once = fs::read_to_string(run_dir.join("ready-once")).is_ok_and(|held| held.trim() == boot);
        Self {
            run_dir: run_dir.to_owned(),
            boot: boot.to_owned(),
            ready_once: AtomicBool::new(ready_once),
            instance_type: Mutex::default(),
            links: Mutex::default(),
        }
    }

    /// The daemon has been ready once since the node booted.
    pub fn ready_once(&self) -> bool {
        self.ready_once.load(Ordering::Relaxed)
    }

    /// Why no address can be handed out at all; `None` while the node serves.
    pub async fn held(&self, handle: &Handle) -> Option<Refusal> {
        let serving = handle
            .read(|state, _| state.serving().and_then(|()| state.facts().map(drop).ok_or(Refusal::WarmingUp)).err());
        serving.await.unwrap_or(Some(Refusal::Stopping))
    }

    /// What EC2 refuses the node until somebody changes something; it may serve all the same.
    pub async fn troubles(&self, handle: &Handle) -> Vec<Refusal> {
        handle.read(|state, _| state.troubles()).await.unwrap_or_default()
    }

    /// Tells health and touches the files, until it is dropped.
    pub async fn keep(self: Arc<Self>, handle: Handle, health: HealthReporter) {
        let mut told: Option<bool> = None;
        let mut denied = BTreeSet::new();
        for action in Action::ALL {
            health.set_service_status(permission(action.name()), ServingStatus::Serving).await;
        }
        let mut touched: Option<Instant> = None;
        loop {
            let held = self.held(&handle).await;
            let serves = held.is_none();
            if told != Some(serves) {
                let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
                for name in HEALTH {
                    health.set_service_status(name, status).await;
                }
                match held {
                    None => info!("serving"),
                    Some(why) => info!(reason = why.name(), detail = %why, "not serving"),
                }
                told = Some(serves);
            }
            let now = denials(&self.troubles(&handle).await);
            for action in now.difference(&denied) {
                warn!(action, "EC2 denies the node an action");
                health.set_service_status(permission(action), ServingStatus::NotServing).await;
            }
            for action in denied.difference(&now) {
                info!(action, "EC2 grants the node an action that it had denied");
                health.set_service_status(permission(action), ServingStatus::Serving).await;
            }
            denied = now;
            if serves && !self.ready_once.swap(true, Ordering::Relaxed) {
                self.report("writing", "ready-once", replace(&self.run_dir.join("ready-once"), &self.boot));
            }
            if touched.is_none_or(|at| at.elapsed() >= ALIVE) {
                self.report("touching", "alive", touch(&self.run_dir.join("alive")));
                touched = Some(Instant::now());
            }
            tokio::time::sleep(if serves { ASK_READY } else { ASK_UNREADY }).await;
        }
    }

    fn report(&self, doing: &'static str, name: &'static str, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            warn!(%error, doing, file = %self.run_dir.join(name).display(), "could not leave a sign of life");
        }
    }

    /// The instance's type, once known.
    pub fn instance_type(&self) -> String {
        self.instance_type.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Metadata told the instance's type.
    pub fn set_instance_type(&self, instance_type: &str) {
        instance_type.clone_into(&mut self.instance_type.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The name of an ENI's link; empty while the node has none.
    pub fn link_of(&self, eni: &EniId) -> String {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).get(eni).cloned().unwrap_or_default()
    }

    /// The links of all ENIs that the node has one of.
    pub fn set_links(&self, links: BTreeMap<EniId, String>) {
        *self.links.lock().unwrap_or_else(PoisonError::into_inner) = links;
    }
}

/// IAM's name of an EC2 action.
fn permission(action: &str) -> String {
    format!("ec2:{action}")
}

/// The actions that EC2 denies.
fn denials(troubles: &[Refusal]) -> BTreeSet<String> {
    let denied = troubles.iter().filter_map(|trouble| match trouble {
        Refusal::Denied { action } => Some(action.clone()),
        _ => None,
    });
    denied.collect()
}

fn touch(path: &Path) -> io::Result<()> {
    File::options().create(true).append(true).open(path)?.set_modified(SystemTime::now())
}

/// Readers see the old content or the new one.
pub(crate) fn replace(path: &Path, content: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, content)?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_counts_for_this_boot_only() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(!Signs::new(dir.path(), "boot-1").ready_once());
        replace(&dir.path().join("ready-once"), "boot-1").expect("the file");
        assert!(Signs::new(dir.path(), "boot-1").ready_once());
        assert!(!Signs::new(dir.path(), "boot-2").ready_once());
    }

    #[test]
    fn alive_is_made_and_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let alive = dir.path().join("alive");
        touch(&alive).expect("made");
        File::options()
            .append(true)
            .open(&alive)
            .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH))
            .expect("old");
        touch(&alive).expect("touched");
        let age = alive.metadata().and_then(|file| file.modified()).expect("a time").elapsed().expect("the past");
        assert!(age < Duration::from_secs(60), "{age:?}");
    }
}
