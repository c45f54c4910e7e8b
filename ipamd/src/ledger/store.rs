//! One table of text in a redb file.
//!
//! Owns every call into redb, and sorts what it says into a file that is no good and a disk that does not take it. Never knows what the
//! rows mean.

use std::{collections::BTreeMap, io, panic::AssertUnwindSafe, path::Path};

use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition, TableError,
};

use super::backend::Unsynced;

const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");
/// Enough for a full node (15 ENIs of 50 addresses are 200 KiB), and little beside the daemon's own memory.
const CACHE: usize = 4 << 20;

/// Key to value, both as the file has them.
pub(super) type Rows = BTreeMap<String, Vec<u8>>;

/// Keys and their new values; without one, the row goes.
pub(super) type Changes = BTreeMap<String, Option<Vec<u8>>>;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// What was written there cannot be read.
    #[error("{0}")]
    Damaged(String),
    /// The disk does not take or give it: full, read-only, broken.
    #[error("{0}")]
    Disk(String),
}

/// An open store. After an error it is of no use any more: redb refuses everything from then on.
pub(super) struct Store(Database);

impl Store {
    /// Opens the file, or makes an empty one.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Self::on(Unsynced::open(path).map_err(|error| StoreError::Disk(error.to_string()))?)
    }

    pub(super) fn on(file: impl StorageBackend) -> Result<Self, StoreError> {
        caught(|| {
            let opened = Database::builder()
                .set_cache_size(CACHE)
                // The whole file is small, and a plain open may panic on one that was altered.
                .set_check_integrity_on_open(true)
                .create_with_backend(file);
            Ok(Self(opened?))
        })
    }

    /// Nothing was ever written to it: whoever made it was stopped right then.
    pub(super) fn is_blank(&self) -> Result<bool, StoreError> {
        caught(|| Ok(self.0.begin_read()?.list_tables()?.next().is_none()))
    }

    /// All rows; none in a file that was just made.
    pub(super) fn rows(&self) -> Result<Rows, StoreError> {
        caught(|| {
            let table = match self.0.begin_read()?.open_table(TABLE) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Rows::new()),
                Err(error) => return Err(error.into()),
            };
            let mut rows = Rows::new();
            for row in table.iter()? {
                let (key, value) = row?;
                rows.insert(key.value().to_owned(), value.value().to_vec());
            }
            Ok(rows)
        })
    }

    /// Writes all of it or nothing.
    pub(super) fn write(&self, changes: &Changes) -> Result<(), StoreError> {
        caught(|| {
            let mut transaction = self.0.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            {
                let mut table = transaction.open_table(TABLE)?;
                for (key, value) in changes {
                    match value {
                        Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
                        None => drop(table.remove(key.as_str())?),
                    }
                }
            }
            Ok(transaction.commit()?)
        })
    }
}

/// What turns `from` into `to`.
pub(super) fn difference(from: &Rows, to: &Rows) -> Changes {
    let gone = from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), None));
    let new = to.iter().filter(|(key, value)| from.get(*key) != Some(value));
    gone.chain(new.map(|(key, value)| (key.clone(), Some(value.clone())))).collect()
}

/// redb may panic on a file that something else has written; such a file is damaged.
fn caught<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(sorted),
        Err(_) => Err(StoreError::Damaged("it makes its reader panic".to_owned())),
    }
}

fn sorted(error: redb::Error) -> StoreError {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match &error {
        // The last one is what the backend makes of a read that failed.
        redb::Error::Io(io) if matches!(io.kind(), UnexpectedEof | InvalidInput | InvalidData) => {
            StoreError::Damaged(error.to_string())
        }
        redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            StoreError::Disk(error.to_string())
        }
        _ => StoreError::Damaged(error.to_string()),
    }
}
