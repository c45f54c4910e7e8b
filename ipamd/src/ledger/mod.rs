//! What must survive the daemon, in redb under the run directory.
//!
//! Owns the store and its form: one table from [`pool::Key`] as text to [`pool::Entry`] as JSON, and a header with the schema and the
//! boot it belongs to. A store of an older schema is migrated. One of another boot, of a newer schema, or that cannot be read is set
//! aside under a name that says why, and never guessed from.

mod aside;
mod backend;
mod lock;
mod migrate;
mod store;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use node::{Ledger, LedgerError};
use pool::{Entry, FoundLease, Key, Record};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use store::{Changes, Rows, Store, StoreError, difference};

pub use lock::{LockError, RunLock};

/// The form of the entries: counted up when an older daemon could not read them, or a newer one needs a step in `migrate`.
pub const SCHEMA: u32 = 2;

/// Sorts before every key of an entry, and is none.
const HEADER: &str = "!header";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    schema: u32,
    boot: String,
    /// Begun anew, and perhaps still without leases of pods that run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unfinished: bool,
}

/// The ledger of this boot.
pub struct RedbLedger {
    path: PathBuf,
    header: Header,
    /// What the file has, by the last commit that succeeded. Going back to it needs no disk, so a broken one never ends the daemon.
    rows: Rows,
    /// Closed after a failed write.
    store: Option<Store>,
}

impl fmt::Debug for RedbLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbLedger").field("path", &self.path).field("header", &self.header).finish_non_exhaustive()
    }
}

/// What was found where the ledger should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// A ledger of this boot.
    Kept,
    /// A ledger of this boot that was begun anew by an earlier start, which did not live to see all running pods in it.
    Unfinished,
    /// Nothing.
    Missing,
    /// Something that cannot be used, which is now at this path.
    SetAside {
        /// Why.
        why: Unusable,
        /// Where it is now.
        at: PathBuf,
    },
}

/// Why a store cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// The machine has booted since: the leases ended with it.
    OtherBoot,
    /// A newer daemon's form, or none that there ever was.
    OtherSchema(u32),
    /// Truncated, overwritten, or something else altogether.
    Unreadable(String),
}

impl Unusable {
    const WORDS: [&'static str; 3] = ["other-boot", "other-schema", "unreadable"];

    /// The part of the file's name that says why.
    fn word(&self) -> &'static str {
        match self {
            Self::OtherBoot => Self::WORDS[0],
            Self::OtherSchema(_) => Self::WORDS[1],
            Self::Unreadable(_) => Self::WORDS[2],
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherBoot => f.write_str("it belongs to an earlier boot"),
            Self::OtherSchema(schema) => write!(f, "it has schema {schema} and this daemon knows {SCHEMA}"),
            Self::Unreadable(why) => write!(f, "it cannot be read: {why}"),
        }
    }
}

/// Why a file does not become the ledger.
enum Rejected {
    Unusable(Unusable),
    Disk(String),
}

impl From<StoreError> for Rejected {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(why) => unreadable(why),
            StoreError::Disk(why) => Self::Disk(why),
        }
    }
}

fn unreadable(why: impl Into<String>) -> Rejected {
    Rejected::Unusable(Unusable::Unreadable(why.into()))
}

impl RedbLedger {
    /// Opens the ledger of this boot in the run directory, whose lock is held. An error means that the disk does not take it now, and
    /// that what is there is as it was.
    pub fn open(_held: &RunLock, run_dir: &Path, boot: &str) -> Result<(Self, Opened), LedgerError> {
        let path = run_dir.join("ledger.redb");
        let failed = |operation, message| LedgerError { operation, message };
        let opened = match path.metadata() {
            Ok(found) if !found.is_file() => Err(unreadable("it is not a file")),
            Ok(found) if found.len() > 0 => examine(&path, boot),
            _ => Ok(None),
        };
        let opened = match opened {
            Ok(Some((header, rows, store))) => {
                let opened = if header.unfinished { Opened::Unfinished } else { Opened::Kept };
                return Ok((Self { path, header, rows, store: Some(store) }, opened));
            }
            Ok(None) => Opened::Missing,
            Err(Rejected::Disk(why)) => return Err(failed("opening", why)),
            Err(Rejected::Unusable(why)) => {
                let at = aside::set_aside(&path, &why).map_err(|error| failed("setting aside", error.to_string()))?;
                Opened::SetAside { why, at }
            }
        };
        let header = Header { schema: SCHEMA, boot: boot.to_owned(), unfinished: true };
        let mut ledger = Self { path, header, rows: Rows::new(), store: None };
        ledger.write(Changes::new()).map_err(|message| failed("creating", message))?;
        Ok((ledger, opened))
    }

    /// Says which pods run, by the kernel. Once each of them is in here, the next start need not look for them again; until then, EC2
    /// could show their addresses to a start that takes them for free.
    pub fn settle(&mut self, running: &[FoundLease]) -> Result<(), LedgerError> {
        let has = |key: Key| self.rows.contains_key(&key.to_string());
        let missing = |lease: &FoundLease| !has(Key::Lease(lease.key.clone())) && !has(Key::Found(lease.address));
        if !self.header.unfinished || running.iter().any(missing) {
            return Ok(());
        }
        self.header.unfinished = false;
        self.write(Changes::new()).map_err(|message| {
            self.header.unfinished = true;
            LedgerError { operation: "writing", message }
        })
    }

    /// Writes the changes, and whatever else the file should have and has not.
    fn write(&mut self, mut changes: Changes) -> Result<(), String> {
        let header = serde_json::to_vec(&self.header).map_err(|error| error.to_string())?;
        if self.rows.get(HEADER) != Some(&header) {
            changes.insert(HEADER.to_owned(), Some(header));
        }
        if let Err(error) = self.attempt(&changes) {
            self.store = None;
            return Err(error.to_string());
        }
        for (key, value) in changes {
            match value {
                Some(value) => drop(self.rows.insert(key, value)),
                None => drop(self.rows.remove(&key)),
            }
        }
        Ok(())
    }

    fn attempt(&mut self, changes: &Changes) -> Result<(), StoreError> {
        if let Some(store) = &self.store {
            return store.write(changes);
        }
        let (store, mut all) = self.reopen()?;
        all.extend(changes.clone());
        store.write(&all)?;
        self.store = Some(store);
        Ok(())
    }

    /// Opens the file after a failure, and says what it lacks. One that was damaged under a running daemon, which knows what it held,
    /// is replaced.
    fn reopen(&self) -> Result<(Store, Changes), StoreError> {
        let open = || -> Result<(Store, Changes), StoreError> {
            let store = Store::open(&self.path)?;
            let lacks = difference(&store.rows()?, &self.rows);
            Ok((store, lacks))
        };
        match open() {
            Err(StoreError::Damaged(why)) => {
                let why = Unusable::Unreadable(why);
                let disk =
                    |error: std::io::Error| StoreError::Disk(format!("{why}, and setting it aside failed: {error}"));
                let at = aside::set_aside(&self.path, &why).map_err(disk)?;
                warn!(%why, at = %at.display(), "set the ledger aside and wrote it anew");
                open()
            }
            opened => opened,
        }
    }
}

impl Ledger for RedbLedger {
    fn load(&mut self) -> Result<Vec<Entry>, LedgerError> {
        entries(&self.rows).map_err(|message| LedgerError { operation: "reading", message })
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), LedgerError> {
        let written = records.iter().map(change).collect::<Result<Changes, String>>();
        written.and_then(|changes| self.write(changes)).map_err(|message| LedgerError { operation: "writing", message })
    }
}

fn change(record: &Record) -> Result<(String, Option<Vec<u8>>), String> {
    let key = record.key().to_string();
    match record {
        Record::Remove(_) => Ok((key, None)),
        Record::Put(entry) => match serde_json::to_vec(entry) {
            Ok(value) => Ok((key, Some(value))),
            Err(error) => Err(format!("{key} cannot be written as JSON: {error}")),
        },
    }
}

/// Opens what is there, reads all of it, and brings it into today's form.
fn examine(path: &Path, boot: &str) -> Result<Option<(Header, Rows, Store)>, Rejected> {
    let store = Store::open(path)?;
    if store.is_blank()? {
        return Ok(None);
    }
    let (header, rows) = adopt(&store, boot)?;
    Ok(Some((header, rows, store)))
}

fn adopt(store: &Store, boot: &str) -> Result<(Header, Rows), Rejected> {
    let mut rows = store.rows()?;
    let header = rows.get(HEADER).ok_or_else(|| unreadable("it has no header"))?;
    let mut header: Header =
        serde_json::from_slice(header).map_err(|error| unreadable(format!("its header: {error}")))?;
    if !migrate::knows(header.schema) {
        return Err(Rejected::Unusable(Unusable::OtherSchema(header.schema)));
    }
    if header.boot != boot {
        return Err(Rejected::Unusable(Unusable::OtherBoot));
    }
    let from = header.schema;
    if from < SCHEMA {
        header.schema = SCHEMA;
        let new = migrated(&rows, from, &header).map_err(unreadable)?;
        entries(&new).map_err(unreadable)?;
        store.write(&difference(&rows, &new))?;
        info!(from, to = SCHEMA, "migrated the ledger");
        rows = new;
    }
    entries(&rows).map_err(unreadable)?;
    Ok((header, rows))
}

fn migrated(rows: &Rows, from: u32, header: &Header) -> Result<Rows, String> {
    let old = rows.iter().filter(|(key, _)| *key != HEADER);
    let old = old.map(|(key, value)| match serde_json::from_slice(value) {
        Ok(value) => Ok((key.clone(), value)),
        Err(error) => Err(format!("{key}: {error}")),
    });
    let before: migrate::Entries = old.collect::<Result<_, String>>()?;
    let new = migrate::migrate(before.clone(), from)?;
    let mut all = Rows::from([(HEADER.to_owned(), serde_json::to_vec(header).map_err(|error| error.to_string())?)]);
    for (key, value) in new {
        let kept = before.get(&key).filter(|before| **before == value).and_then(|_| rows.get(&key));
        let text = match kept {
            Some(text) => text.clone(),
            None => serde_json::to_vec(&value).map_err(|error| error.to_string())?,
        };
        all.insert(key, text);
    }
    Ok(all)
}

fn entries(rows: &Rows) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    for (key, value) in rows.iter().filter(|(key, _)| *key != HEADER) {
        let entry: Entry = serde_json::from_slice(value).map_err(|error| format!("{key}: {error}"))?;
        if entry.key().to_string() != *key {
            return Err(format!("{key} holds the entry of {}", entry.key()));
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
