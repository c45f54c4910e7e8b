//! The file in which amazon-vpc-cni remembers its pods, read once: at the first start on a node where it ran.
//!
//! Owns the format and what of it the kernel bears out. A file that cannot be read is said and changes nothing: then the kernel alone
//! decides. Never writes one. (amazon-vpc-cni-k8s 1.23, `pkg/ipamd/datastore`.)

use std::{
    collections::BTreeSet,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use datapath::{names::Numbering, vpc_cni::Traces};
use pool::{FoundLease, LeaseKey, Origin, Pod};
use serde::Deserialize;
use tracing::{info, warn};

use crate::{convert, host::chain};

/// The only version there has been since 2020.
const VERSION: &str = "vpc-cni-ipam/1";
/// Of a pod without a name an entry has 200 bytes, of one with a long name 600; a node has at most a few hundred pods.
const LARGEST: u64 = 16 << 20;
/// The network name of entries that were taken over from the runtime before there was a file.
const MIGRATED: &str = "_migrated-from-cri";
/// The interface that those entries, which do not say, mean.
const USUAL_IFNAME: &str = "eth0";

/// A pod as a checkpoint remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    key: LeaseKey,
    pod: Pod,
    address: Ipv4Addr,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
enum CheckpointError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it has {0} bytes, more than {LARGEST}")]
    TooLong(u64),
    #[error("it is not a checkpoint")]
    Syntax(#[source] serde_json::Error),
    #[error("its version is {0:?}, not {VERSION:?}")]
    Version(String),
    #[error("entry {position}: {why}")]
    Entry { position: usize, why: String },
    #[error("entry {position}: {what} is in it twice")]
    Twice { position: usize, what: String },
}

#[derive(Deserialize)]
struct File {
    version: String,
    // Go writes an empty list as null.
    allocations: Option<Vec<Allocation>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Allocation {
    #[serde(default)]
    network_name: String,
    #[serde(rename = "containerID")]
    container_id: String,
    if_name: String,
    ipv4: Option<Ipv4Addr>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    k8s_pod_namespace: String,
    k8s_pod_name: String,
}

/// The leases of pods that amazon-vpc-cni wired and that still run: what its checkpoint and those beside it say, as far as the kernel
/// bears it out.
pub fn leases(checkpoint: &Path, traces: &Traces, numbering: &Numbering) -> Vec<FoundLease> {
    let mut leases = Vec::new();
    let mut held = BTreeSet::new();
    for path in files(checkpoint) {
        let entries = match read(&path) {
            Ok(Some(entries)) => entries,
            Ok(None) => continue,
            Err(error) => {
                let (file, error) = (path.display(), chain(&error));
                warn!(%file, %error, "could not use amazon-vpc-cni's checkpoint; the kernel alone says which addresses are in use");
                continue;
            }
        };
        let count = entries.len();
        let mut living: Vec<_> = entries.into_iter().filter_map(|entry| borne_out(entry, traces, numbering)).collect();
        // The interfaces of one sandbox on several network cards share a key; those beyond the first stay what the kernel says.
        living.retain(|lease| held.insert(lease.key.clone()));
        let dropped = count - living.len();
        info!(file = %path.display(), taken = living.len(), dropped, "read amazon-vpc-cni's checkpoint");
        leases.extend(living);
    }
    leases
}

/// The checkpoint of the first network card, and those of the others, which lie beside it.
fn files(checkpoint: &Path) -> Vec<PathBuf> {
    let of_a_card = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let card = name.and_then(|name| name.strip_prefix("ipam-nic-")?.strip_suffix(".json"));
        card.is_some_and(|card| card.parse::<u8>().is_ok())
    };
    let beside = checkpoint.parent().and_then(|directory| fs::read_dir(directory).ok());
    let mut cards: Vec<_> =
        beside.into_iter().flatten().flatten().map(|entry| entry.path()).filter(of_a_card).collect();
    cards.retain(|card| card != checkpoint);
    cards.sort();
    cards.insert(0, checkpoint.to_owned());
    cards
}

/// `None` when there is none.
fn read(path: &Path) -> Result<Option<Vec<Entry>>, CheckpointError> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(CheckpointError::Read)?,
    };
    // Opening a FIFO would wait for ever.
    if !found.is_file() {
        return Err(CheckpointError::NotAFile);
    }
    if found.len() > LARGEST {
        return Err(CheckpointError::TooLong(found.len()));
    }
    parse(&fs::read(path).map_err(CheckpointError::Read)?).map(Some)
}

fn parse(text: &[u8]) -> Result<Vec<Entry>, CheckpointError> {
    let file: File = serde_json::from_slice(text).map_err(CheckpointError::Syntax)?;
    if file.version != VERSION {
        return Err(CheckpointError::Version(file.version));
    }
    let mut entries = Vec::new();
    let (mut keys, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for (position, allocation) in file.allocations.unwrap_or_default().into_iter().enumerate() {
        let entry = entry(allocation).map_err(|why| CheckpointError::Entry { position, why: why.to_string() })?;
        // Pods with an IPv6 address only are not ours to lease.
        let Some(entry) = entry else { continue };
        let twice = |what: String| CheckpointError::Twice { position, what };
        if !keys.insert(entry.key.clone()) {
            return Err(twice(entry.key.to_string()));
        }
        if !addresses.insert(entry.address) {
            return Err(twice(entry.address.to_string()));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(allocation: Allocation) -> Result<Option<Entry>, convert::Malformed> {
    let Allocation { network_name, container_id, if_name, ipv4, metadata } = allocation;
    let ifname = if network_name == MIGRATED { USUAL_IFNAME.to_owned() } else { if_name };
    let key = convert::key(Some(proto::v1::LeaseKey { container_id, ifname }))?;
    let pod = convert::pod(Some(proto::v1::Pod {
        namespace: metadata.k8s_pod_namespace,
        name: metadata.k8s_pod_name,
        uid: String::new(),
    }))?;
    Ok(ipv4.map(|address| Entry { key, pod, address }))
}

/// A lease, if a host route leads to the address by the link that the pod's name gives; the names of some pods are not remembered.
fn borne_out(entry: Entry, traces: &Traces, numbering: &Numbering) -> Option<FoundLease> {
    let Entry { key, pod, address } = entry;
    let link = if pod.name.is_empty() {
        let by = traces.links_to(address).find(|link| link.name.starts_with(numbering.veth_prefix()));
        by.map(|link| link.name.clone())?
    } else {
        Some(numbering.link_name(&pod.namespace, &pod.name)).filter(|link| traces.leads_to(address, link))?
    };
    Some(FoundLease { key, pod, link, address, origin: Origin::Imported })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pods as the file has them.
    fn whole() -> String {
        let entry = |id: &str, name: &str, address: &str| {
            format!(
                r#"{{"networkName":"aws-cni","containerID":"{id}","ifName":"eth0","ipv4":"{address}","allocationTimestamp":1712345678901234567,"metadata":{{"k8sPodNamespace":"default","k8sPodName":"{name}","interfacesCount":1}}}}"#
            )
        };
        format!(
            r#"{{"version":"vpc-cni-ipam/1","allocations":[{},{}]}}"#,
            entry("c1", "one", "10.0.1.7"),
            entry("c2", "two", "10.0.1.8")
        )
    }

    fn refused(text: &str) -> String {
        chain(&parse(text.as_bytes()).expect_err("refused"))
    }

    #[test]
    fn a_checkpoint_is_read_as_amazon_vpc_cni_writes_it() {
        let entries = parse(whole().as_bytes()).expect("a checkpoint");
        let key = |id: &str| LeaseKey { container: id.to_owned(), ifname: "eth0".to_owned() };
        assert_eq!(entries.iter().map(|entry| &entry.key).collect::<Vec<_>>(), [&key("c1"), &key("c2")]);
        assert_eq!((entries[0].address, entries[0].pod.name.as_str()), ([10, 0, 1, 7].into(), "one"));
        // What a later version adds, what an empty node has, what came from the runtime, and an IPv6 pod.
        assert!(parse(whole().replace("networkName", "new\":[],\"networkName").as_bytes()).is_ok());
        assert!(parse(br#"{"version":"vpc-cni-ipam/1","allocations":null}"#).expect("empty").is_empty());
        let old = r#"{"version":"vpc-cni-ipam/1","allocations":[
            {"networkName":"_migrated-from-cri","containerID":"c1","ifName":"unknown","ipv4":"10.0.1.7"},
            {"networkName":"aws-cni","containerID":"c2","ifName":"eth0","ipv6":"2001:db8::7","metadata":{}}]}"#;
        let entries = parse(old.as_bytes()).expect("a checkpoint");
        assert_eq!(entries.iter().map(|entry| &entry.key).collect::<Vec<_>>(), [&key("c1")]);
    }

    #[test]
    fn what_is_wrong_with_a_checkpoint_is_said() {
        for cut in [0, 1, 20, 60, 200, whole().len() - 1] {
            assert!(refused(&whole()[..cut]).starts_with("it is not a checkpoint: "), "{cut}");
        }
        assert!(refused("[1, 2]").starts_with("it is not a checkpoint: "));
        assert_eq!(
            refused(&whole().replace("ipam/1", "ipam/2")),
            r#"its version is "vpc-cni-ipam/2", not "vpc-cni-ipam/1""#
        );
        assert_eq!(refused(&whole().replace("10.0.1.8", "10.0.1.7")), "entry 1: 10.0.1.7 is in it twice");
        assert_eq!(refused(&whole().replace("c2", "c1")), "entry 1: c1/eth0 is in it twice");
        assert!(refused(&whole().replace("10.0.1.8", "10.0.1")).starts_with("it is not a checkpoint: "));
        assert!(refused(&whole().replace("c2", "../c2")).starts_with("entry 1: container id "));
        assert!(refused(&whole().replace("eth0", "a/b")).starts_with("entry 0: interface name "));
        assert!(refused(&whole().replace("two", "a b")).starts_with("entry 1: pod name "));
    }

    #[test]
    fn what_cannot_be_a_checkpoint_is_not_opened_and_what_is_missing_is_no_mistake() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ipam.json");
        assert!(matches!(read(&path), Ok(None)));
        fs::create_dir(&path).expect("made");
        assert!(matches!(read(&path), Err(CheckpointError::NotAFile)));
        fs::remove_dir(&path).expect("removed");
        fs::File::create(&path).and_then(|file| file.set_len(LARGEST + 1)).expect("written");
        assert!(matches!(read(&path), Err(CheckpointError::TooLong(_))));
    }

    #[test]
    fn the_other_cards_checkpoints_lie_beside_the_first() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["ipam-nic-2.json", "ipam-nic-1.json", "ipam-nic-x.json", "ipam.json.tmp1", "ipam-nic-1.json.tmp"] {
            fs::write(dir.path().join(name), "").expect("written");
        }
        let first = dir.path().join("ipam.json");
        let found = files(&first);
        assert_eq!(found, [first, dir.path().join("ipam-nic-1.json"), dir.path().join("ipam-nic-2.json")]);
        assert_eq!(files(Path::new("/nowhere/ipam.json")), [PathBuf::from("/nowhere/ipam.json")]);
    }
}
