//! The store: restarts, kills, other boots; below, damage, schemas, disks.

mod damage;
mod disk;
mod form;
mod schema;
mod torn;

use std::{net::Ipv4Addr, time::Duration};

use pool::{Address, BootTime, EniId, LeaseKey, Origin, Pod};

use super::*;

struct Place {
    dir: tempfile::TempDir,
    lock: RunLock,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = RunLock::take(dir.path()).expect("the lock");
        Self { dir, lock }
    }

    fn open(&self, boot: &str) -> (RedbLedger, Opened) {
        RedbLedger::open(&self.lock, self.dir.path(), boot).expect("a ledger")
    }

    /// Opens what cannot be used: why, and where it is now.
    #[track_caller]
    fn set_aside(&self, boot: &str) -> (Unusable, PathBuf) {
        let (mut ledger, opened) = self.open(boot);
        let Opened::SetAside { why, at } = opened else { panic!("it was used: {opened:?}") };
        assert_eq!(ledger.load().expect("a new ledger"), [], "nothing is guessed");
        ledger.commit(&[put(200)]).expect("it can be written");
        (why, at)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ledger.redb")
    }

    /// Changes the file as it is, without the daemon.
    fn write(&self, changes: &[(&str, &str)]) {
        let changes = changes.iter().map(|(key, value)| ((*key).to_owned(), Some(value.as_bytes().to_vec())));
        Store::open(&self.file()).expect("the store").write(&changes.collect()).expect("a write");
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.dir.path())
            .expect("the directory")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| name != "ipamd.lock")
            .collect();
        names.sort();
        names
    }
}

fn put(last: u8) -> Record {
    let free = Address::Free { since: BootTime(Duration::from_millis(last.into())) };
    Record::Put(Entry::Address(EniId::from("eni-1"), Ipv4Addr::new(10, 0, 0, last), free))
}

fn filled(place: &Place) -> Vec<Entry> {
    let (mut ledger, opened) = place.open("boot-1");
    assert_eq!(opened, Opened::Missing);
    for last in 1..=60 {
        ledger.commit(&[put(last), Record::Put(Entry::Serial(last.into()))]).expect("a commit");
    }
    ledger.settle(&[]).expect("no pod runs");
    ledger.load().expect("what was written")
}

fn key(container: &str) -> LeaseKey {
    LeaseKey { container: container.to_owned(), ifname: "eth0".to_owned() }
}

#[test]
fn what_was_committed_is_there_after_a_restart_and_what_was_removed_is_not() {
    let place = Place::new();
    {
        let (mut ledger, _) = place.open("boot-1");
        ledger.settle(&[]).expect("no pod runs");
        ledger.commit(&[put(1), put(2), Record::Put(Entry::Serial(7))]).expect("a commit");
        let tombstone = Entry::Tombstone(key("c1"), BootTime(Duration::from_nanos(1)));
        ledger
            .commit(&[Record::Put(tombstone), Record::Remove(Key::Address("eni-1".into(), [10, 0, 0, 1].into()))])
            .expect("a commit");
    }
    let (mut ledger, opened) = place.open("boot-1");
    assert_eq!(opened, Opened::Kept);
    let keys: Vec<_> = ledger.load().expect("entries").iter().map(|entry| entry.key().to_string()).collect();
    assert_eq!(keys, ["address/eni-1/10.0.0.2", "serial", "tombstone/c1/eth0"]);
}

#[test]
fn a_ledger_of_another_boot_is_set_aside_and_kept() {
    let place = Place::new();
    filled(&place);
    let rows = |path: &Path| Store::open(path).expect("a store").rows().expect("rows");
    let before = rows(&place.file());
    let (why, at) = place.set_aside("boot-2");
    assert_eq!(why, Unusable::OtherBoot);
    assert_eq!(rows(&at), before);
    assert_eq!(place.names().len(), 2, "{:?}", place.names());
    assert!(place.names()[1].starts_with("ledger.redb.other-boot-"), "{:?}", place.names());
}

#[test]
fn a_killed_daemons_commits_are_all_there() {
    let place = Place::new();
    let (mut ledger, _) = place.open("boot-1");
    for last in 1..=20 {
        ledger.commit(&[put(last)]).expect("a commit");
    }
    // As after SIGKILL: nothing is closed. The copy is what the page cache holds at this moment.
    let copy = Place::new();
    std::fs::copy(place.file(), copy.file()).expect("a copy");
    let (mut after, _) = copy.open("boot-1");
    assert_eq!(after.load().expect("entries").len(), 20);
}

fn running(container: &str) -> FoundLease {
    let pod = Pod::default();
    FoundLease { key: key(container), pod, link: String::new(), address: [10, 0, 0, 1].into(), origin: Origin::Found }
}

fn leased(container: &str) -> Record {
    Record::Put(Entry::Lease(pool::Lease {
        key: key(container),
        generation: pool::Generation(1),
        pod: Pod::default(),
        origin: Origin::Found,
        started: BootTime::default(),
        made: BootTime::default(),
        netns: String::new(),
        attachments: Vec::new(),
    }))
}

#[test]
fn until_every_running_pod_is_in_a_new_ledger_each_start_looks_for_them_again() {
    let place = Place::new();
    let pods = [running("c1"), running("c2")];
    let (mut ledger, opened) = place.open("boot-1");
    assert_eq!(opened, Opened::Missing);
    ledger.settle(&pods).expect("it can be written");
    // One lease was there when EC2 had answered, of the other pod it was written down that it runs.
    for record in [leased("c1"), Record::Put(Entry::Found(running("c2")))] {
        // Killed before EC2 answered, and with one of two.
        drop(ledger);
        let opened;
        (ledger, opened) = place.open("boot-1");
        assert_eq!(opened, Opened::Unfinished);
        ledger.settle(&pods).expect("it can be written");
        ledger.commit(&[record]).expect("a commit");
    }
    ledger.settle(&pods).expect("it can be written");
    drop(ledger);
    assert_eq!(place.open("boot-1").1, Opened::Kept);
}
