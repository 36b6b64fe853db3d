//! Puts files into an index and takes them out.

use std::fmt::Write;

use super::{
    FILE_BYTES_MAX, FILE_PASSAGES_MAX, INDEX_PASSAGES_MAX, NAME_BYTES_MAX, PASSAGE_BYTES_MAX, PATH_BYTES_MAX, Passage,
    Passages, Replaced, name_within, words::words,
};
use crate::{
    StoreError,
    row::within,
    sql::{Both, Tx, on_both},
};

/// Files that one unit removes at most, and passages that one unit removes of them.
const REMOVED_FILES_MAX: usize = 64;

/// Makes the index where there is none, and keeps others from changing it meanwhile.
const INDEX: &str = "INSERT INTO passage_index (name, passages, changes) VALUES ($1, 0, 1) \
     ON CONFLICT (name) DO UPDATE SET changes = passage_index.changes + 1 RETURNING id, passages";
const INDEX_CHANGED: &str = "UPDATE passage_index SET changes = changes + 1 WHERE name = $1 RETURNING id";
const INDEX_SIZE: &str = "UPDATE passage_index SET passages = passages + $2 WHERE id = $1";
const FILE: &str = "INSERT INTO passage_file (index_id, path, fingerprint) VALUES ($1, $2, $3) \
     ON CONFLICT (index_id, path) DO UPDATE SET fingerprint = excluded.fingerprint RETURNING id";
const COUNT: &str = "SELECT COUNT(*) FROM passage AS p JOIN passage_file AS f ON f.id = p.file_id \
     WHERE f.index_id = $1 AND f.path = $2";
const EMPTY: &str = "DELETE FROM passage WHERE file_id = $1";
const PASSAGE: &str = "INSERT INTO passage (index_id, file_id, ordinal, start_line, heading, text) \
     VALUES ($1, $2, $3, $4, $5, $6) RETURNING id";
const WORDS_SQLITE: &str = "INSERT INTO passage_words (rowid, shelf, heading, words) VALUES ($1, $2, $3, $4)";
const WORDS_POSTGRES: &str = "INSERT INTO passage_words (passage_id, index_id, words) VALUES ($1, $2, $3::tsvector)";
const REMOVE: &str = "DELETE FROM passage_file WHERE index_id = $1 AND path = $2";
const SOME_PATHS: &str = "SELECT path FROM passage_file WHERE index_id = $1 ORDER BY path LIMIT $2";
const REMOVE_INDEX: &str = "DELETE FROM passage_index WHERE id = $1";

/// A file to be written.
struct File {
    index: String,
    path: String,
    fingerprint: String,
    passages: Vec<Passage>,
}

impl Passages {
    /// Puts a file into an index, which is made where there is none. The passages that it had before are gone with the
    /// same stroke; whoever searches finds either those or these.
    pub async fn replace_file(
        &self,
        index: &str,
        path: &str,
        fingerprint: &str,
        passages: &[Passage],
    ) -> Result<Replaced, StoreError> {
        name_within(index)?;
        within("a path", path.len(), PATH_BYTES_MAX)?;
        within("a fingerprint", fingerprint.len(), NAME_BYTES_MAX)?;
        let mut total = 0;
        for passage in passages {
            let heading = passage.heading.as_ref().map_or(0, String::len);
            within("a passage", passage.text.len().max(heading), PASSAGE_BYTES_MAX)?;
            total += passage.text.len() + heading;
        }
        within("a file in passages", total, FILE_BYTES_MAX)?;
        if passages.len() > FILE_PASSAGES_MAX {
            return Ok(Replaced::Full);
        }
        let file = File {
            index: index.to_owned(),
            path: without_nul(path),
            fingerprint: without_nul(fingerprint),
            passages: passages.to_vec(),
        };
        self.write(file, |tx, file| Box::pin(replace(tx, file))).await
    }

    /// Takes files out of an index, and says how many of them were in it.
    pub async fn remove_files(&self, index: &str, paths: &[String]) -> Result<u64, StoreError> {
        let mut gone = 0;
        for part in paths.chunks(REMOVED_FILES_MAX) {
            let input = (index.to_owned(), part.to_vec());
            gone += self
                .write(input, |tx, (index, paths)| {
                    Box::pin(async move {
                        match changed(tx, index).await? {
                            Some(index) => remove(tx, index, paths).await,
                            None => Ok(0),
                        }
                    })
                })
                .await?;
        }
        Ok(gone)
    }

    /// Takes an index away with all that is in it; whether there was one. In portions, because others wait.
    pub async fn remove_index(&self, index: &str) -> Result<bool, StoreError> {
        let mut known = false;
        loop {
            let left = self
                .write(index.to_owned(), |tx, index| Box::pin(remove_some(tx, index)))
                .await?;
            match left {
                Left::None => return Ok(known),
                Left::Nothing => return Ok(true),
                Left::Some => known = true,
            }
        }
    }
}

async fn replace(tx: &mut Tx, file: &File) -> Result<Replaced, StoreError> {
    let (index, held): (i64, i64) = on_both!(&mut *tx, |tx| sqlx::query_as(INDEX)
        .bind(&file.index)
        .fetch_one(&mut **tx)
        .await)?;
    let (before,): (i64,) = on_both!(&mut *tx, |tx| sqlx::query_as(COUNT)
        .bind(index)
        .bind(&file.path)
        .fetch_one(&mut **tx)
        .await)?;
    let more = length(file.passages.len()) - before;
    if more > 0 && u64::try_from(held + more).unwrap_or(u64::MAX) > INDEX_PASSAGES_MAX {
        return Ok(Replaced::Full);
    }
    let (id,): (i64,) = on_both!(&mut *tx, |tx| sqlx::query_as(FILE)
        .bind(index)
        .bind(&file.path)
        .bind(&file.fingerprint)
        .fetch_one(&mut **tx)
        .await)?;
    on_both!(&mut *tx, |tx| sqlx::query(EMPTY)
        .bind(id)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    for passage in &file.passages {
        insert(tx, index, id, passage).await?;
    }
    resize(tx, index, more).await?;
    Ok(Replaced::Kept)
}

async fn insert(tx: &mut Tx, index: i64, file: i64, passage: &Passage) -> Result<(), StoreError> {
    let heading = passage.heading.as_deref().map(without_nul);
    let (id,): (i64,) = on_both!(&mut *tx, |tx| sqlx::query_as(PASSAGE)
        .bind(index)
        .bind(file)
        .bind(i64::from(passage.ordinal))
        .bind(i64::from(passage.start_line))
        .bind(&heading)
        .bind(without_nul(&passage.text))
        .fetch_one(&mut **tx)
        .await)?;
    let heading = words(heading.as_deref().unwrap_or_default());
    let text = words(&passage.text);
    match tx {
        Both::Sqlite(tx) => {
            sqlx::query(WORDS_SQLITE)
                .bind(id)
                .bind(index.to_string())
                .bind(heading.join(" "))
                .bind(text.join(" "))
                .execute(&mut **tx)
                .await?;
        }
        Both::Postgres(tx) => {
            sqlx::query(WORDS_POSTGRES)
                .bind(id)
                .bind(index)
                .bind(vector_text(&heading, &text))
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(())
}

/// A `tsvector` as PostgreSQL reads it: each word with its places, those of the heading with weight A.
fn vector_text(heading: &[String], text: &[String]) -> String {
    let heads = heading.iter().map(|word| (word, "A"));
    let all = heads.chain(text.iter().map(|word| (word, "")));
    let mut vector = String::new();
    for (place, (word, weight)) in (1..=PLACES_MAX).chain(std::iter::repeat(PLACES_MAX)).zip(all) {
        // Writing to a text cannot fail.
        write!(vector, "'{word}':{place}{weight} ").ok();
    }
    vector
}

/// PostgreSQL counts no places after this one.
const PLACES_MAX: u32 = 16_383;

async fn remove(tx: &mut Tx, index: i64, paths: &[String]) -> Result<u64, StoreError> {
    let (mut files, mut passages) = (0, 0);
    for path in paths {
        let (held,): (i64,) = on_both!(&mut *tx, |tx| sqlx::query_as(COUNT)
            .bind(index)
            .bind(path)
            .fetch_one(&mut **tx)
            .await)?;
        passages += held;
        files += on_both!(&mut *tx, |tx| sqlx::query(REMOVE)
            .bind(index)
            .bind(path)
            .execute(&mut **tx)
            .await
            .map(|done| done.rows_affected()))?;
    }
    resize(tx, index, -passages).await?;
    Ok(files)
}

/// What is left of an index that is being removed.
enum Left {
    /// There was no such index.
    None,
    /// It is gone now.
    Nothing,
    Some,
}

async fn remove_some(tx: &mut Tx, name: &str) -> Result<Left, StoreError> {
    let Some(index) = changed(tx, name).await? else {
        return Ok(Left::None);
    };
    let rows: Vec<(String,)> = on_both!(&mut *tx, |tx| sqlx::query_as(SOME_PATHS)
        .bind(index)
        .bind(length(REMOVED_FILES_MAX))
        .fetch_all(&mut **tx)
        .await)?;
    if rows.is_empty() {
        on_both!(tx, |tx| sqlx::query(REMOVE_INDEX)
            .bind(index)
            .execute(&mut **tx)
            .await
            .map(drop))?;
        return Ok(Left::Nothing);
    }
    let paths: Vec<String> = rows.into_iter().map(|(path,)| path).collect();
    remove(tx, index, &paths).await?;
    Ok(Left::Some)
}

/// Notes that an index changes, and keeps others from changing it meanwhile. Its number, if there is one.
pub(super) async fn changed(tx: &mut Tx, name: &str) -> Result<Option<i64>, StoreError> {
    let row: Option<(i64,)> = on_both!(tx, |tx| sqlx::query_as(INDEX_CHANGED)
        .bind(name)
        .fetch_optional(&mut **tx)
        .await)?;
    Ok(row.map(|(index,)| index))
}

async fn resize(tx: &mut Tx, index: i64, by: i64) -> Result<(), StoreError> {
    on_both!(tx, |tx| sqlx::query(INDEX_SIZE)
        .bind(index)
        .bind(by)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    Ok(())
}

/// PostgreSQL's texts have none.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn length(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
