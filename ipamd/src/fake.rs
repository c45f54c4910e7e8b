//! A node without a cloud, a disk and a kernel, for tests.
//!
//! Owns an instance with one ENI of two addresses. Never in the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{Arc, OnceLock},
};

use cloud::{Answer, Call, Cloud};
use node::{Handle, Host, Ledger, LedgerError};
use pool::{
    AttachmentId, Block, DeviceIndex, Entry, Event, InterfaceKind, Limits, Mac, NodeFacts, Policy, Record,
    SeenAttachment, SeenEni, WantedEni,
};
use tokio::task::JoinHandle;

use crate::clock::NodeClock;

#[derive(Default)]
struct Memory(BTreeMap<String, Entry>);

impl Ledger for Memory {
    fn load(&mut self) -> Result<Vec<Entry>, LedgerError> {
        Ok(self.0.values().cloned().collect())
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), LedgerError> {
        for record in records {
            match record {
                Record::Put(entry) => drop(self.0.insert(entry.key().to_string(), entry.clone())),
                Record::Remove(key) => drop(self.0.remove(&key.to_string())),
            }
        }
        Ok(())
    }
}

/// An instance with one ENI of two addresses; whatever else it is asked never comes back.
struct OneEni;

impl Cloud for OneEni {
    async fn call(&self, call: Call) -> Result<Answer, cloud::Error> {
        let Call::Discover { instance } = call else { return pending().await };
        Ok(Answer::Discovered(vec![SeenEni {
            id: "eni-1".into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            subnet: "subnet-1".into(),
            primary: [10, 0, 0, 10].into(),
            secondary: vec![[10, 0, 0, 11].into(), [10, 0, 0, 12].into()],
            prefixes: Vec::new(),
            description: String::new(),
            tags: BTreeMap::new(),
            groups: BTreeSet::new(),
            kind: InterfaceKind::Interface,
            attachment: Some(SeenAttachment {
                id: AttachmentId::from("eni-attach-1"),
                instance: Some(instance),
                device: DeviceIndex(0),
                card: 0,
                attached: true,
                delete_on_termination: true,
            }),
        }]))
    }
}

/// A kernel that carries everything at once.
struct Carries(Arc<OnceLock<Handle>>);

impl Host for Carries {
    fn withdraw(&mut self, _: &[Block]) {}

    fn reconcile(&mut self, wanted: Vec<WantedEni>) {
        for eni in wanted {
            self.0.get().expect("set before the node runs").send(Event::LinkReady(eni.eni));
        }
    }
}

/// Starts a node that knows nothing yet.
pub(crate) fn node() -> (Handle, JoinHandle<Result<(), LedgerError>>) {
    let known = Arc::new(OnceLock::new());
    let host = Carries(Arc::clone(&known));
    let (handle, node) =
        node::start(Arc::new(OneEni), Memory::default(), host, NodeClock, Policy::default()).expect("an empty ledger");
    known.set(handle.clone()).expect("once");
    (handle, tokio::spawn(node.run()))
}

/// What the node is.
pub(crate) fn facts() -> Event {
    Event::Facts(NodeFacts {
        instance: "i-1".into(),
        primary: "eni-1".into(),
        address: [10, 0, 0, 10].into(),
        subnet: "subnet-1".into(),
        vpc: "vpc-1".into(),
        zone: "eu-central-1a".to_owned(),
        groups: vec!["sg-1".into()],
        limits: Some(Limits { enis: 1, addresses_per_eni: 3 }),
    })
}
