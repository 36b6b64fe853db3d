//! Texts cut into passages, which are found by their words, and kept beside what they mean as vectors.
//!
//! An index is a name that somebody chose; its files are whatever has a path and a fingerprint, and each file's passages
//! are replaced all at once. Both databases index the same folded words ([`words`]), and rank by how many of a question's
//! words a passage has, how often, and (where the engine counts that) how rare they are. Whose an index is, and how texts
//! are cut, is for others to say. What is in here is bounded: an index, a file, a passage, a question, a vector.

mod common;
mod rows;
mod search;
mod vectors;
mod words;
mod write;

use std::{fmt, sync::Arc};
use tokio::sync::Semaphore;

use crate::{
    StoreError,
    db::{Db, WriteUnit},
    row::within,
    sql::on_both,
};
use common::Common;
use rows::{FileRow, PassageRow};

/// Most passages of one index.
pub const INDEX_PASSAGES_MAX: u64 = 200_000;

/// Most passages of one file; they fit into the places of one change.
pub const FILE_PASSAGES_MAX: usize = 4_000;

/// Most text of one file, in bytes: all of it is written by one unit, for which others wait.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest text or heading of one passage, in bytes.
pub const PASSAGE_BYTES_MAX: usize = 64 * 1024;

/// Longest name of an index, of a model, or fingerprint, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;

/// Most passages that one question gets.
pub const FOUND_MAX: u32 = 1_000;

/// Longest question that is looked at whole, in bytes.
pub const QUESTION_BYTES_MAX: usize = 64 * 1024;

/// Most numbers of a vector.
pub const DIMENSIONS_MAX: usize = 8_192;

/// Most numbers, four bytes each, of all vectors of an index that are read at once.
pub const INDEX_NUMBERS_MAX: usize = 64 * 1024 * 1024;

/// Changes at a time. Those of one index wait for one another, and whoever waits in the database holds a connection.
const WRITERS_MAX: usize = 4;

/// Rows that one statement reads or removes at most.
const PAGE_ROWS: u32 = 1_000;

/// What the tables know a passage by. It is never given away again.
///
/// From above: the number of its index, how many changes there were of that, a place among those of the change. The first
/// leaves room for half a million indexes, and the second for four thousand million changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PassageId(i64);

/// Bits of an id below the number of changes, and below that of the index.
const PLACE_BITS: u32 = 12;
const INDEX_BITS: u32 = 44;

/// Before all ids of an index, and so after all those of the index before. `None` where numbers have run out.
fn first_id(index: i64) -> Option<i64> {
    let fits = (0..1 << (63 - INDEX_BITS)).contains(&index);
    fits.then_some(index << INDEX_BITS)
}

impl fmt::Display for PassageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A passage to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Its place in its file; no other has it.
    pub ordinal: u32,
    pub text: String,
    /// The heading that it stands under. Its words count double.
    pub heading: Option<String>,
    pub start_line: u32,
}

/// A file of an index, as it was when its passages were kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedFile {
    pub path: String,
    /// Whatever tells one content of the file from another.
    pub fingerprint: String,
}

/// A passage that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPassage {
    pub id: PassageId,
    pub path: String,
    pub ordinal: u32,
    pub heading: Option<String>,
    pub start_line: u32,
    pub text: String,
}

/// A passage that answers a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub passage: StoredPassage,
    /// Larger is better; comparable within one answer alone.
    pub rank: f64,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    Kept,
    /// The index would have more than [`INDEX_PASSAGES_MAX`]; nothing was changed.
    Full,
}

/// How large an index is, and a number that grows with whatever is done to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    pub passages: u64,
    pub changes: u64,
}

/// The indexes of a store. Cheap to clone; all clones remember the same common words.
#[derive(Clone)]
pub struct Passages {
    db: Db,
    common: Common,
    writers: Arc<Semaphore>,
}

const STATE: &str = "SELECT passages, changes FROM passage_index WHERE name = $1";
const NAMES: &str = "SELECT name FROM passage_index WHERE name > $1 ORDER BY name LIMIT $2";
const FILES: &str = "SELECT f.path, f.fingerprint FROM passage_file AS f JOIN passage_index AS i ON i.id = f.index_id \
     WHERE i.name = $1 AND f.path > $2 ORDER BY f.path LIMIT $3";

impl Passages {
    pub(crate) fn new(db: Db) -> Self {
        let common = Common::new(db.clone());
        let writers = Arc::new(Semaphore::new(WRITERS_MAX));
        Self { db, common, writers }
    }

    /// The names of all indexes.
    pub async fn names(&self) -> Result<Vec<String>, StoreError> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let after = names.last().map_or("", String::as_str);
            let page: Vec<(String,)> = self
                .db
                .read(async {
                    on_both!(self.db.pools(), |pool| sqlx::query_as(NAMES)
                        .bind(after)
                        .bind(i64::from(PAGE_ROWS))
                        .fetch_all(pool)
                        .await)
                })
                .await?;
            let full = u32::try_from(page.len()).is_ok_and(|rows| rows == PAGE_ROWS);
            names.extend(page.into_iter().map(|(name,)| name));
            if !full {
                return Ok(names);
            }
        }
    }

    /// Nothing, where there is no such index.
    pub async fn state(&self, index: &str) -> Result<State, StoreError> {
        let row: Option<(i64, i64)> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| sqlx::query_as(STATE)
                    .bind(index)
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        let Some((passages, changes)) = row else {
            return Ok(State::default());
        };
        Ok(State {
            passages: rows::count(passages)?,
            changes: rows::count(changes)?,
        })
    }

    /// All files of an index, by path.
    pub async fn files(&self, index: &str) -> Result<Vec<IndexedFile>, StoreError> {
        let mut files: Vec<IndexedFile> = Vec::new();
        loop {
            let after = files.last().map_or("", |file| file.path.as_str());
            let page: Vec<FileRow> = self
                .db
                .read(async {
                    on_both!(self.db.pools(), |pool| sqlx::query_as(FILES)
                        .bind(index)
                        .bind(after)
                        .bind(i64::from(PAGE_ROWS))
                        .fetch_all(pool)
                        .await)
                })
                .await?;
            let full = u32::try_from(page.len()).is_ok_and(|rows| rows == PAGE_ROWS);
            files.extend(page.into_iter().map(IndexedFile::from));
            if !full {
                return Ok(files);
            }
        }
    }

    /// The passages of these ids that are in the index, best known first: in the order of the ids.
    pub async fn get(&self, index: &str, ids: &[PassageId]) -> Result<Vec<StoredPassage>, StoreError> {
        let mut kept = Vec::with_capacity(ids.len());
        for part in ids.chunks(PAGE_ROWS as usize) {
            let rows: Vec<PassageRow> = self
                .db
                .read(async {
                    on_both!(self.db.pools(), |pool| {
                        let mut query = sqlx::QueryBuilder::new(search::PASSAGES);
                        query.push(" JOIN passage_index AS i ON i.id = p.index_id WHERE i.name = ");
                        query.push_bind(index).push(" AND p.id IN (");
                        let mut list = query.separated(", ");
                        for id in part {
                            list.push_bind(id.0);
                        }
                        query.push(")");
                        query.build_query_as().persistent(false).fetch_all(pool).await
                    })
                })
                .await?;
            for row in rows {
                kept.push(StoredPassage::try_from(row)?);
            }
        }
        let place = |id: PassageId| ids.iter().position(|one| *one == id);
        kept.sort_by_key(|passage| place(passage.id));
        Ok(kept)
    }
}

impl Passages {
    async fn write<I, T>(&self, input: I, unit: WriteUnit<I, T>) -> Result<T, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
    {
        let turn = self.writers.acquire().await;
        let _turn = turn.map_err(|_| StoreError::unavailable("it is closing"))?;
        self.db.write(input, unit).await
    }
}

fn name_within(name: &str) -> Result<(), StoreError> {
    within("the name of an index", name.len(), NAME_BYTES_MAX)
}
