//! A daemon that is killed between any two writes of its file.

use std::{
    fs, io,
    sync::{Arc, Mutex},
};

use redb::StorageBackend;

use super::*;
use crate::ledger::backend::Unsynced;

/// What a file was told.
#[derive(Debug, Clone)]
enum Told {
    Length(u64),
    Write(u64, Vec<u8>),
}

/// The file, and all that it was told.
#[derive(Debug)]
pub(super) struct Recorded(Unsynced, Log);

type Log = Arc<Mutex<Vec<Told>>>;

impl StorageBackend for Recorded {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.lock().expect("not poisoned").push(Told::Length(len));
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.1.lock().expect("not poisoned").push(Told::Write(offset, data.to_vec()));
        self.0.write(offset, data)
    }
}

/// A store whose every write is kept.
pub(super) struct Recording {
    before: Vec<u8>,
    log: Log,
}

impl Recording {
    pub(super) fn of(path: &Path) -> (Store, Self) {
        let log = Log::default();
        let before = fs::read(path).unwrap_or_default();
        let file = Unsynced::open(path).expect("the file");
        (Store::on(Recorded(file, Arc::clone(&log))).expect("a store"), Self { before, log })
    }

    pub(super) fn writes(&self) -> usize {
        self.log.lock().expect("not poisoned").len()
    }

    /// The file after each write, with how many they were: all of the last one, or its first half.
    pub(super) fn kills(&self) -> impl Iterator<Item = (usize, Vec<u8>)> {
        let told = self.log.lock().expect("not poisoned").clone();
        let mut file = self.before.clone();
        let mut kills = vec![(0, file.clone())];
        for (at, told) in told.into_iter().enumerate() {
            match told {
                Told::Length(length) => file.resize(usize::try_from(length).expect("a small file"), 0),
                Told::Write(offset, data) => {
                    let offset = usize::try_from(offset).expect("a small file");
                    let half = data.len() / 2;
                    file[offset..][..half].copy_from_slice(&data[..half]);
                    kills.push((at, file.clone()));
                    file[offset..][..data.len()].copy_from_slice(&data);
                }
            }
            kills.push((at + 1, file.clone()));
        }
        kills.into_iter()
    }
}

#[test]
fn a_daemon_killed_at_any_write_has_every_commit_that_it_made_and_none_in_half() {
    let place = Place::new();
    filled(&place);
    let mut states = vec![place.open("boot-1").0.rows];
    let (store, recording) = Recording::of(&place.file());
    let mut done = vec![recording.writes()];
    for round in 0..8_u8 {
        // Three rows of one transaction: an address, the lease on it, the number.
        let records = [put(round), leased(&format!("c{round}")), Record::Put(Entry::Serial(1000 + u64::from(round)))];
        let changes: Changes = records.iter().map(|record| change(record).expect("JSON")).collect();
        store.write(&changes).expect("a commit");
        done.push(recording.writes());
        let mut rows = states.last().expect("the first").clone();
        rows.extend(changes.into_iter().map(|(key, value)| (key, value.expect("put"))));
        states.push(rows);
    }
    drop(store);
    let after = Place::new();
    for (writes, file) in recording.kills() {
        fs::write(after.file(), file).expect("the file");
        let (ledger, opened) = after.open("boot-1");
        assert_eq!(opened, Opened::Kept, "after {writes} writes");
        // Of commits that were answered for, all; the one under way, all or nothing.
        let acknowledged = done.iter().filter(|done| **done <= writes).count().max(1) - 1;
        let possible = &states[acknowledged..states.len().min(acknowledged + 2)];
        assert!(possible.contains(&ledger.rows), "after {writes} writes, {acknowledged} commits");
    }
}
