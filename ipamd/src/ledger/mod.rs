//! What must survive the daemon, in redb under the run directory.
//!
//! Owns the store and its form: one table from [`pool::Key`] as text to [`pool::Entry`] as JSON, and a header with the schema and the
//! boot it belongs to. A store of another boot, of another schema, or one that cannot be read is set aside under a name that says why;
//! it is never deleted and never guessed from.

mod backend;
mod lock;

use std::{
    fmt,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use node::{Ledger, LedgerError};
use pool::{Entry, Record};
use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};
use serde::{Deserialize, Serialize};

pub use lock::{LockError, RunLock};

/// The form of the entries: counted up when an older daemon could not read them.
pub const SCHEMA: u32 = 1;

const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");
/// Sorts before every key of an entry, and is none.
const HEADER: &str = "!header";
/// Enough for a full node (15 ENIs of 50 addresses are 200 KiB), and little beside the daemon's own memory.
const CACHE: usize = 4 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    schema: u32,
    boot: String,
}

/// The ledger of this boot.
pub struct RedbLedger {
    path: PathBuf,
    /// Closed after a failed write: redb refuses everything from then on, and opening anew goes back to the last commit.
    store: Option<Database>,
    boot: String,
}

impl fmt::Debug for RedbLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbLedger").field("path", &self.path).field("boot", &self.boot).finish_non_exhaustive()
    }
}

/// What was found where the ledger should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// A ledger of this boot.
    Kept,
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
    /// Another daemon's form.
    OtherSchema(u32),
    /// Truncated, overwritten, or something else altogether.
    Unreadable(String),
}

impl Unusable {
    /// The part of the file's name that says why.
    fn word(&self) -> &'static str {
        match self {
            Self::OtherBoot => "other-boot",
            Self::OtherSchema(_) => "other-schema",
            Self::Unreadable(_) => "unreadable",
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

impl RedbLedger {
    /// Opens the ledger of this boot in the run directory, whose lock is held.
    pub fn open(_held: &RunLock, run_dir: &Path, boot: &str) -> Result<(Self, Opened), LedgerError> {
        let path = run_dir.join("ledger.redb");
        let present = path.symlink_metadata().is_ok_and(|file| file.len() > 0);
        let mut ledger = Self { path, store: None, boot: boot.to_owned() };
        let mut opened = if present { Opened::Kept } else { Opened::Missing };
        if present && let Err(why) = ledger.examine() {
            let at = set_aside(&ledger.path, &why)?;
            opened = Opened::SetAside { why, at };
        }
        if opened != Opened::Kept {
            ledger.create()?;
        }
        Ok((ledger, opened))
    }

    /// Opens what is there and reads all of it, or says why it cannot be used.
    fn examine(&mut self) -> Result<(), Unusable> {
        let store = open(&self.path).map_err(Unusable::Unreadable)?;
        let header = caught(|| header(&store)).map_err(Unusable::Unreadable)?;
        if header.schema != SCHEMA {
            return Err(Unusable::OtherSchema(header.schema));
        }
        if header.boot != self.boot {
            return Err(Unusable::OtherBoot);
        }
        caught(|| entries(&store)).map_err(Unusable::Unreadable)?;
        self.store = Some(store);
        Ok(())
    }

    fn create(&mut self) -> Result<(), LedgerError> {
        let failed = |message| LedgerError { operation: "creating", message };
        let store = open(&self.path).map_err(failed)?;
        let header = Header { schema: SCHEMA, boot: self.boot.clone() };
        let header = serde_json::to_vec(&header).map_err(|error| failed(error.to_string()))?;
        write(&store, |table| table.insert(HEADER, header.as_slice()).map(drop)).map_err(failed)?;
        self.store = Some(store);
        Ok(())
    }

    fn store(&mut self) -> Result<&Database, String> {
        if self.store.is_none() {
            self.store = Some(open(&self.path)?);
        }
        Ok(self.store.as_ref().expect("opened above"))
    }
}

impl Ledger for RedbLedger {
    fn load(&mut self) -> Result<Vec<Entry>, LedgerError> {
        let loaded = self.store().and_then(|store| caught(|| entries(store)));
        if loaded.is_err() {
            self.store = None;
        }
        loaded.map_err(|message| LedgerError { operation: "reading", message })
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), LedgerError> {
        let written = self.store().and_then(|store| {
            write(store, |table| {
                for record in records {
                    match record {
                        Record::Put(entry) => {
                            let value = serde_json::to_vec(entry).map_err(|error| {
                                redb::StorageError::Corrupted(format!(
                                    "{} cannot be written as JSON: {error}",
                                    entry.key()
                                ))
                            })?;
                            table.insert(entry.key().to_string().as_str(), value.as_slice())?;
                        }
                        Record::Remove(key) => {
                            table.remove(key.to_string().as_str())?;
                        }
                    }
                }
                Ok(())
            })
        });
        if written.is_err() {
            self.store = None;
        }
        written.map_err(|message| LedgerError { operation: "writing", message })
    }
}

fn open(path: &Path) -> Result<Database, String> {
    let file = backend::Unsynced::open(path).map_err(|error| error.to_string())?;
    caught(|| {
        Database::builder()
            .set_cache_size(CACHE)
            // The whole file is small, and a plain open may panic on one that was altered.
            .set_check_integrity_on_open(true)
            .create_with_backend(file)
            .map_err(|error| error.to_string())
    })
}

fn write(
    store: &Database,
    change: impl FnOnce(&mut redb::Table<'_, &'static str, &'static [u8]>) -> Result<(), redb::StorageError>,
) -> Result<(), String> {
    let write = || -> Result<(), redb::Error> {
        let mut transaction = store.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        change(&mut transaction.open_table(TABLE)?)?;
        Ok(transaction.commit()?)
    };
    write().map_err(|error| error.to_string())
}

fn header(store: &Database) -> Result<Header, String> {
    let read = || -> Result<Option<Vec<u8>>, redb::Error> {
        let table = match store.begin_read()?.open_table(TABLE) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(table.get(HEADER)?.map(|value| value.value().to_vec()))
    };
    let bytes = read().map_err(|error| error.to_string())?.ok_or("it has no header")?;
    serde_json::from_slice(&bytes).map_err(|error| format!("its header: {error}"))
}

fn entries(store: &Database) -> Result<Vec<Entry>, String> {
    let text = |error: redb::Error| error.to_string();
    let table = store
        .begin_read()
        .map_err(|error| text(error.into()))?
        .open_table(TABLE)
        .map_err(|error| text(error.into()))?;
    let mut entries = Vec::new();
    for row in table.iter().map_err(|error| text(error.into()))? {
        let (key, value) = row.map_err(|error| text(error.into()))?;
        if key.value() == HEADER {
            continue;
        }
        let entry: Entry =
            serde_json::from_slice(value.value()).map_err(|error| format!("{}: {error}", key.value()))?;
        if entry.key().to_string() != key.value() {
            return Err(format!("{} holds the entry of {}", key.value(), entry.key()));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// redb may panic on a file that something else has written; such a file is as good as unreadable.
fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("the store is corrupt".to_owned()))
}

fn set_aside(path: &Path, why: &Unusable) -> Result<PathBuf, LedgerError> {
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let name = |count: u32| {
        let again = if count == 0 { String::new() } else { format!("-{count}") };
        path.with_file_name(format!("ledger.redb.{}-{stamp}{again}", why.word()))
    };
    let failed = |message: String| LedgerError { operation: "setting aside", message };
    let at = (0..1000).map(name).find(|free| free.symlink_metadata().is_err());
    let at = at.ok_or_else(|| failed("a thousand of this second are there already".to_owned()))?;
    std::fs::rename(path, &at).map_err(|error| failed(format!("{} cannot be renamed: {error}", path.display())))?;
    Ok(at)
}

#[cfg(test)]
mod tests;
