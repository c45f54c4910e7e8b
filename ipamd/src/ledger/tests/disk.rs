//! Disks that are full or read-only: an error with the reason, nothing lost, and on it goes once there is room.

use std::fs;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use super::*;

/// A disk of four megabytes: a ledger begins with one, and doubles.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Self {
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), c"size=4m").expect("root may mount");
        Self(at)
    }

    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let full = fs::write(&filler, vec![1; 5 << 20]).expect_err("it is small");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        filler
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).expect("it is mounted");
    }
}

/// Commits until one fails; how many did not.
fn write_until_full(ledger: &mut RedbLedger) -> (usize, LedgerError) {
    let tombstone = |n| Record::Put(Entry::Tombstone(key(&format!("c{n}")), BootTime::default()));
    let tried = (0..10_000).find_map(|n| Some((n, ledger.commit(&[tombstone(n)]).err()?)));
    tried.expect("no room for 10000 entries")
}

#[test]
fn a_full_disk_is_an_error_until_there_is_room_again_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = SmallDisk::mount(dir.path());
    let lock = RunLock::take(dir.path()).expect("the lock");
    let (mut ledger, _) = RedbLedger::open(&lock, dir.path(), "boot-1").expect("a ledger");
    let filler = disk.fill();
    let (written, refused) = write_until_full(&mut ledger);
    assert_eq!(refused.operation, "writing");
    assert!(refused.message.contains("No space left on device"), "{refused}");
    assert_eq!(ledger.load().expect("what was written").len(), written);
    ledger.commit(&[put(1)]).expect_err("still full");
    fs::remove_file(filler).expect("room");
    ledger.commit(&[put(1)]).expect("a commit");
    drop(ledger);
    let (mut ledger, _) = RedbLedger::open(&lock, dir.path(), "boot-1").expect("a ledger");
    assert_eq!(ledger.load().expect("entries").len(), written + 1);
}

#[test]
fn a_killed_daemons_ledger_opens_on_a_full_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = SmallDisk::mount(dir.path());
    let lock = RunLock::take(dir.path()).expect("the lock");
    let (mut ledger, _) = RedbLedger::open(&lock, dir.path(), "boot-1").expect("a ledger");
    let filler = disk.fill();
    let (written, _) = write_until_full(&mut ledger);
    // As after SIGKILL: nothing is closed.
    std::mem::forget(ledger);
    let (mut ledger, opened) = RedbLedger::open(&lock, dir.path(), "boot-1").expect("a ledger");
    assert_eq!(opened, Opened::Unfinished, "neither new nor set aside");
    assert_eq!(ledger.load().expect("entries").len(), written);
    fs::remove_file(filler).expect("room");
    ledger.commit(&[put(1)]).expect("a commit");
}

#[test]
fn without_room_for_a_new_ledger_nothing_is_left_lying_about() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = SmallDisk::mount(dir.path());
    let lock = RunLock::take(dir.path()).expect("the lock");
    let filler = disk.fill();
    for _ in 0..5 {
        let refused = RedbLedger::open(&lock, dir.path(), "boot-1").expect_err("no room");
        assert_eq!(refused.operation, "creating");
        assert!(refused.message.contains("No space left on device"), "{refused}");
    }
    // Now with room for a part of it.
    for room in (0..1200 << 10).step_by(16 << 10) {
        let file = fs::File::options().write(true).open(&filler).expect("the filler");
        file.set_len((4 << 20) - room).expect("shorter");
        if let Ok((_, opened)) = RedbLedger::open(&lock, dir.path(), "boot-1") {
            assert_eq!(opened, Opened::Missing, "with {room} bytes");
            fs::remove_file(dir.path().join("ledger.redb")).expect("there is one now");
        }
        let names: Vec<_> = fs::read_dir(dir.path()).expect("the directory").flatten().collect();
        assert!(names.len() <= 3, "lock, filler and perhaps a ledger: {names:?}");
    }
    fs::remove_file(filler).expect("room");
    let (_, opened) = RedbLedger::open(&lock, dir.path(), "boot-1").expect("a ledger");
    assert_eq!(opened, Opened::Missing);
}

#[test]
fn a_ledger_that_cannot_be_written_is_an_error_and_stays_as_it_is() {
    let place = Place::new();
    let entries = filled(&place);
    mount_bind(place.file(), place.file()).expect("root may mount");
    mount_remount(place.file(), MountFlags::BIND | MountFlags::RDONLY, c"").expect("read-only");
    let refused = RedbLedger::open(&place.lock, place.dir.path(), "boot-1");
    unmount(place.file(), UnmountFlags::DETACH).expect("it is mounted");
    let refused = refused.expect_err("it is read-only");
    assert_eq!(refused.operation, "opening");
    assert!(refused.message.contains("Read-only file system"), "{refused}");
    let (mut ledger, opened) = place.open("boot-1");
    assert_eq!((opened, ledger.load().expect("entries")), (Opened::Kept, entries));
}

#[test]
fn a_run_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    mount("tmpfs", dir.path(), "tmpfs", MountFlags::RDONLY, c"size=4m").expect("root may mount");
    let refused = RunLock::take(dir.path());
    unmount(dir.path(), UnmountFlags::DETACH).expect("it is mounted");
    let refused = refused.expect_err("it is read-only");
    assert!(matches!(refused, LockError::Unusable { .. }), "{refused}");
    assert!(refused.to_string().contains("ipamd.lock"), "{refused}");
}

#[test]
fn the_lock_can_be_taken_on_a_full_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = SmallDisk::mount(dir.path());
    disk.fill();
    let _lock = RunLock::take(dir.path()).expect("who holds it can be said another time");
    assert!(matches!(RunLock::take(dir.path()), Err(LockError::Held { .. })));
}
