//! The store: restarts, kills, cuts, other boots, full disks.

use std::{net::Ipv4Addr, time::Duration};

use pool::{Address, BootTime, EniId, Key, LeaseKey};

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

    fn file(&self) -> PathBuf {
        self.dir.path().join("ledger.redb")
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
    ledger.load().expect("what was written")
}

#[test]
fn what_was_committed_is_there_after_a_restart_and_what_was_removed_is_not() {
    let place = Place::new();
    let key = LeaseKey { container: "c1".into(), ifname: "eth0".into() };
    {
        let (mut ledger, _) = place.open("boot-1");
        ledger.commit(&[put(1), put(2), Record::Put(Entry::Serial(7))]).expect("a commit");
        let tombstone = Entry::Tombstone(key.clone(), BootTime(Duration::from_nanos(1)));
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
    let (mut ledger, opened) = place.open("boot-2");
    assert!(matches!(&opened, Opened::SetAside { why: Unusable::OtherBoot, at } if at.exists()), "{opened:?}");
    assert_eq!(ledger.load().expect("nothing"), []);
    assert_eq!(place.names().len(), 2, "{:?}", place.names());
    assert!(place.names()[1].starts_with("ledger.redb.other-boot-"), "{:?}", place.names());
}

#[test]
fn a_ledger_of_another_schema_is_set_aside() {
    let place = Place::new();
    filled(&place);
    {
        let store = open(&place.file()).expect("the store");
        write(&store, |table| table.insert(HEADER, br#"{"schema":2,"boot":"boot-1"}"#.as_slice()).map(drop))
            .expect("a newer header");
    }
    let (_, opened) = place.open("boot-1");
    assert!(matches!(opened, Opened::SetAside { why: Unusable::OtherSchema(2), .. }), "{opened:?}");
}

#[test]
fn an_entry_that_does_not_parse_makes_the_ledger_unreadable() {
    let place = Place::new();
    filled(&place);
    {
        let store = open(&place.file()).expect("the store");
        write(&store, |table| table.insert("serial", b"{}".as_slice()).map(drop)).expect("a wrong entry");
    }
    let (_, opened) = place.open("boot-1");
    assert!(matches!(opened, Opened::SetAside { why: Unusable::Unreadable(_), .. }), "{opened:?}");
}

#[test]
fn a_ledger_cut_anywhere_is_set_aside_or_complete() {
    let place = Place::new();
    let entries = filled(&place);
    let whole = std::fs::read(place.file()).expect("the file");
    let mut aside = 0;
    for length in (512..whole.len()).step_by(512) {
        std::fs::write(place.file(), &whole[..length]).expect("a shorter file");
        let (mut ledger, opened) = place.open("boot-1");
        match opened {
            Opened::Kept => assert_eq!(ledger.load().expect("entries"), entries, "cut at {length}"),
            Opened::SetAside { at, why } => {
                assert!(matches!(why, Unusable::Unreadable(_)), "cut at {length}: {why}");
                assert_eq!(ledger.load().expect("a new ledger"), [], "cut at {length}");
                assert_eq!(std::fs::metadata(&at).map(|file| file.len()).ok(), Some(length as u64));
                std::fs::remove_file(at).expect("room for the next");
                aside += 1;
            }
            Opened::Missing => panic!("cut at {length}: it was there"),
        }
    }
    assert!(aside > 10, "only {aside} cuts were noticed");
}

#[test]
fn garbage_is_set_aside() {
    let place = Place::new();
    for garbage in [vec![b'x'], vec![0; 4096], vec![b'x'; 100_000], b"redb\x1a\x0a\xa9\x0d\x0a".repeat(1000)] {
        std::fs::write(place.file(), &garbage).expect("garbage");
        let (_, opened) = place.open("boot-1");
        assert!(matches!(opened, Opened::SetAside { why: Unusable::Unreadable(_), .. }), "{opened:?}");
    }
    assert_eq!(place.names().iter().filter(|name| name.starts_with("ledger.redb.unreadable-")).count(), 4);
}

#[test]
fn a_changed_byte_never_gives_other_entries() {
    let place = Place::new();
    let entries = filled(&place);
    let whole = std::fs::read(place.file()).expect("the file");
    // Everywhere, and above all inside values, where another digit is as good JSON as the one before.
    let inside = whole.windows(7).enumerate().filter(|(_, bytes)| bytes == b"\"nanos\"").map(|(at, _)| at + 8);
    let mut aside = 0;
    for at in (0..whole.len()).step_by(4093).chain(inside) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(place.file(), &changed).expect("a changed file");
        let (mut ledger, opened) = place.open("boot-1");
        if let Opened::SetAside { at, .. } = opened {
            std::fs::remove_file(at).expect("room for the next");
            aside += 1;
        } else {
            assert_eq!(ledger.load().expect("entries"), entries, "changed at {at}");
        }
    }
    assert!(aside >= 60, "only {aside} changes were noticed");
}

#[test]
fn a_directory_where_the_ledger_should_be_is_an_error_or_set_aside() {
    let place = Place::new();
    std::fs::create_dir(place.file()).expect("a directory");
    let (_, opened) = place.open("boot-1");
    assert!(matches!(opened, Opened::SetAside { why: Unusable::Unreadable(_), .. }), "{opened:?}");
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
    let (mut after, opened) = copy.open("boot-1");
    assert_eq!(opened, Opened::Kept);
    assert_eq!(after.load().expect("entries").len(), 20);
}

/// A disk of one and a half megabytes.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Self {
        let size = c"size=1536k";
        rustix::mount::mount("tmpfs", at, "tmpfs", rustix::mount::MountFlags::empty(), size).expect("root may mount");
        Self(at)
    }

    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let full = std::fs::write(&filler, vec![1; 2 << 20]).expect_err("it is small");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        filler
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH).expect("it is mounted");
    }
}

#[test]
fn a_full_disk_is_an_error_until_there_is_room_again_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = SmallDisk::mount(dir.path());
    let lock = RunLock::take(dir.path()).expect("the lock");
    let (mut ledger, _) = RedbLedger::open(&lock, dir.path(), "boot-1").expect("a ledger");
    let mut written = Vec::new();
    let filler = disk.fill();
    let refused = (1..=250).find_map(|last| match ledger.commit(&[put(last)]) {
        Ok(()) => {
            written.push(last);
            None
        }
        Err(refused) => Some(refused),
    });
    assert_eq!(refused.expect("no room for 250 commits").operation, "writing");
    std::fs::remove_file(filler).expect("room");
    assert_eq!(ledger.load().expect("what was written").len(), written.len());
    ledger.commit(&[put(251)]).expect("a commit");
    drop(ledger);
    let (mut ledger, opened) = RedbLedger::open(&lock, dir.path(), "boot-1").expect("a ledger");
    assert_eq!(opened, Opened::Kept);
    assert_eq!(ledger.load().expect("entries").len(), written.len() + 1);
}
