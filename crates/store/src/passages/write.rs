//! Puts files into an index and takes them out.

use std::fmt::Write;

use super::{
    FILE_BYTES_MAX, FILE_PASSAGES_MAX, INDEX_BITS, INDEX_PASSAGES_MAX, NAME_BYTES_MAX, PASSAGE_BYTES_MAX,
    PATH_BYTES_MAX, PLACE_BITS, Passage, Passages, Replaced, first_id, name_within, words::words,
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
     ON CONFLICT (name) DO UPDATE SET changes = passage_index.changes + 1 RETURNING id, passages, changes";
const INDEX_CHANGED: &str =
    "UPDATE passage_index SET changes = changes + 1 WHERE name = $1 RETURNING id, passages, changes";
const INDEX_SIZE: &str = "UPDATE passage_index SET passages = passages + $2 WHERE id = $1";
const FILE: &str = "INSERT INTO passage_file (index_id, path, fingerprint) VALUES ($1, $2, $3) \
     ON CONFLICT (index_id, path) DO UPDATE SET fingerprint = excluded.fingerprint RETURNING id";
const COUNT: &str = "SELECT COUNT(*) FROM passage AS p JOIN passage_file AS f ON f.id = p.file_id \
     WHERE f.index_id = $1 AND f.path = $2";
const EMPTY: &str = "DELETE FROM passage WHERE file_id = $1";
const PASSAGE: &str = "INSERT INTO passage (id, index_id, file_id, ordinal, start_line, heading, text) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)";
const WORDS_SQLITE: &str = "INSERT INTO passage_words (rowid, heading, words) VALUES ($1, $2, $3)";
const WORDS_POSTGRES: &str = "INSERT INTO passage_words (passage_id, words) VALUES ($1, $2::tsvector)";
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
    let Changing { index, held, change } = begin(tx, &file.index).await?;
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
    let ids = ids(index, change, file.passages.len())?;
    for (passage_id, passage) in ids.zip(&file.passages) {
        insert(tx, (passage_id, index, id), passage).await?;
    }
    resize(tx, index, more).await?;
    Ok(Replaced::Kept)
}

/// An index that is being changed.
struct Changing {
    index: i64,
    held: i64,
    change: i64,
}

/// Notes that an index changes, and makes it where there is none. One that is there is found first: PostgreSQL uses up a
/// number for each row that it tries to insert.
async fn begin(tx: &mut Tx, name: &str) -> Result<Changing, StoreError> {
    let row = match change(tx, name).await? {
        Some(row) => row,
        None => on_both!(tx, |tx| sqlx::query_as(INDEX).bind(name).fetch_one(&mut **tx).await)?,
    };
    let (index, held, change) = row;
    Ok(Changing { index, held, change })
}

/// New ids for the passages of one change. Their places begin somewhere else with each change, so that the sixteenth part
/// of all that is a sample is no particular part of files.
fn ids(index: i64, change: i64, passages: usize) -> Result<impl Iterator<Item = i64>, StoreError> {
    let out_of_numbers = || StoreError::unavailable("an index has changed too often; make it anew");
    let first = first_id(index).ok_or_else(out_of_numbers)?;
    let fits = (0..1 << (INDEX_BITS - PLACE_BITS)).contains(&change);
    let first = fits
        .then_some(first + (change << PLACE_BITS))
        .ok_or_else(out_of_numbers)?;
    let begin = change.wrapping_mul(STEP);
    Ok((begin..begin + length(passages)).map(move |place| first + (place & ((1 << PLACE_BITS) - 1))))
}

/// Has no factor in common with sixteen.
const STEP: i64 = 7;

async fn insert(tx: &mut Tx, (id, index, file): (i64, i64, i64), passage: &Passage) -> Result<(), StoreError> {
    let heading = passage.heading.as_deref().map(without_nul);
    on_both!(&mut *tx, |tx| sqlx::query(PASSAGE)
        .bind(id)
        .bind(index)
        .bind(file)
        .bind(i64::from(passage.ordinal))
        .bind(i64::from(passage.start_line))
        .bind(&heading)
        .bind(without_nul(&passage.text))
        .execute(&mut **tx)
        .await
        .map(drop))?;
    let heading = words(heading.as_deref().unwrap_or_default());
    let text = words(&passage.text);
    match tx {
        Both::Sqlite(tx) => {
            sqlx::query(WORDS_SQLITE)
                .bind(id)
                .bind(heading.join(" "))
                .bind(text.join(" "))
                .execute(&mut **tx)
                .await?;
        }
        Both::Postgres(tx) => {
            sqlx::query(WORDS_POSTGRES)
                .bind(id)
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
    let row = change(tx, name).await?;
    Ok(row.map(|(index, _, _)| index))
}

async fn change(tx: &mut Tx, name: &str) -> Result<Option<(i64, i64, i64)>, StoreError> {
    let row = on_both!(tx, |tx| sqlx::query_as(INDEX_CHANGED)
        .bind(name)
        .fetch_optional(&mut **tx)
        .await)?;
    Ok(row)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_stay_within_their_change() {
        let max = (1 << (INDEX_BITS - PLACE_BITS)) - 1;
        for (index, change) in [(1, 1), (1, 585), (7, max), ((1 << (63 - INDEX_BITS)) - 1, max)] {
            let first = (index << INDEX_BITS) + (change << PLACE_BITS);
            let all: HashSet<i64> = ids(index, change, FILE_PASSAGES_MAX).unwrap().collect();
            assert_eq!(all.len(), FILE_PASSAGES_MAX);
            assert!(
                all.iter().all(|id| (first..=first | 0xfff).contains(id)),
                "{index} {change}"
            );
        }
        assert!(ids(1, max + 1, 1).is_err(), "numbers have run out");
        assert!(ids(1 << (63 - INDEX_BITS), 1, 1).is_err());
    }

    #[test]
    fn files_of_one_passage_are_sampled_as_others_are() {
        let sampled = (1..=1_600).filter(|change| ids(1, *change, 1).unwrap().any(|id| id % 16 == 0));
        assert_eq!(sampled.count(), 100);
    }
}
