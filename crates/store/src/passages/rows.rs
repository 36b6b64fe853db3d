//! Rows of the tables of passages, not yet believed.

use sqlx::{FromRow, Row};

use super::{IndexedFile, PassageId, StoredPassage};
use crate::{StoreError, sql::row_on_both};

pub(super) struct FileRow {
    path: String,
    fingerprint: String,
}

row_on_both!(FileRow, |row| Ok(Self {
    path: row.try_get("path")?,
    fingerprint: row.try_get("fingerprint")?,
}));

impl From<FileRow> for IndexedFile {
    fn from(row: FileRow) -> Self {
        Self {
            path: row.path,
            fingerprint: row.fingerprint,
        }
    }
}

pub(super) struct PassageRow {
    id: i64,
    path: String,
    ordinal: i64,
    heading: Option<String>,
    start_line: i64,
    text: String,
}

row_on_both!(PassageRow, |row| Ok(Self {
    id: row.try_get("id")?,
    path: row.try_get("path")?,
    ordinal: row.try_get("ordinal")?,
    heading: row.try_get("heading")?,
    start_line: row.try_get("start_line")?,
    text: row.try_get("text")?,
}));

impl TryFrom<PassageRow> for StoredPassage {
    type Error = StoreError;
    fn try_from(row: PassageRow) -> Result<Self, StoreError> {
        let small = |number: i64| u32::try_from(number).map_err(|_| StoreError::corrupt("the place of a passage"));
        Ok(Self {
            id: PassageId(row.id),
            path: row.path,
            ordinal: small(row.ordinal)?,
            heading: row.heading,
            start_line: small(row.start_line)?,
            text: row.text,
        })
    }
}

/// A passage with how well it answers.
pub(super) struct FoundRow {
    pub passage: PassageRow,
    pub rank: f64,
}

macro_rules! found {
    ($($driver:ty),*) => {$(
        impl<'r> FromRow<'r, $driver> for FoundRow {
            fn from_row(row: &'r $driver) -> Result<Self, sqlx::Error> {
                Ok(Self {
                    passage: PassageRow::from_row(row)?,
                    rank: row.try_get("rank")?,
                })
            }
        }
    )*};
}

found!(sqlx::sqlite::SqliteRow, sqlx::postgres::PgRow);

pub(super) struct VectorRow {
    pub id: i64,
    pub vector: Vec<u8>,
}

row_on_both!(VectorRow, |row| Ok(Self {
    id: row.try_get("id")?,
    vector: row.try_get("vector")?,
}));

/// A number of rows.
pub(super) fn count(rows: i64) -> Result<u64, StoreError> {
    u64::try_from(rows).map_err(|_| StoreError::corrupt("a number of rows"))
}
