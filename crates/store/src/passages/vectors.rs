//! What passages mean, as vectors, each by the model that said so.

use super::{
    DIMENSIONS_MAX, INDEX_NUMBERS_MAX, NAME_BYTES_MAX, PAGE_ROWS, PassageId, Passages, StoredPassage,
    rows::{PassageRow, VectorRow},
    search::PASSAGES,
    write::changed,
};
use crate::{
    StoreError,
    row::within,
    sql::{Tx, on_both},
};

const UPSERT: &str = "INSERT INTO passage_vector (passage_id, model, vector) \
     SELECT id, $2, $3 FROM passage WHERE id = $1 AND index_id = $4 \
     ON CONFLICT (passage_id, model) DO UPDATE SET vector = excluded.vector";
const VECTORS: &str = "SELECT p.id, v.vector FROM passage AS p JOIN passage_vector AS v ON v.passage_id = p.id \
     WHERE p.index_id = $1 AND v.model = $2 AND p.id > $3 ORDER BY p.id LIMIT $4";

type Vectors = Vec<(PassageId, Vec<f32>)>;

impl Passages {
    /// Keeps what a model says about passages, in place of what it said before. Passages that are not in the index, or not
    /// any more, are left out. Says how many were kept.
    pub async fn set_vectors(&self, index: &str, vectors: Vectors, model: &str) -> Result<u64, StoreError> {
        within("the name of a model", model.len(), NAME_BYTES_MAX)?;
        for (_, vector) in &vectors {
            within("a vector", vector.len() * 4, DIMENSIONS_MAX * 4)?;
        }
        let mut kept = 0;
        for part in vectors.chunks(VECTORS_AT_ONCE) {
            let input = (index.to_owned(), model.to_owned(), part.to_vec());
            kept += self
                .write(input, |tx, (index, model, vectors)| {
                    Box::pin(upsert(tx, index, model, vectors))
                })
                .await?;
        }
        Ok(kept)
    }

    /// All vectors of an index by one model, by id.
    pub async fn vectors(&self, index: &str, model: &str) -> Result<Vectors, StoreError> {
        let Some(index) = self.number(index).await? else {
            return Ok(Vec::new());
        };
        let (mut vectors, mut numbers): (Vectors, usize) = (Vec::new(), 0);
        loop {
            let after = vectors.last().map_or(0, |(id, _)| id.0);
            let page: Vec<VectorRow> = self
                .db
                .read(async {
                    on_both!(self.db.pools(), |pool| sqlx::query_as(VECTORS)
                        .bind(index)
                        .bind(model)
                        .bind(after)
                        .bind(i64::from(PAGE_ROWS))
                        .fetch_all(pool)
                        .await)
                })
                .await?;
            let full = u32::try_from(page.len()).is_ok_and(|rows| rows == PAGE_ROWS);
            for row in page {
                numbers += row.vector.len() / 4;
                within("the vectors of an index", numbers * 4, INDEX_NUMBERS_MAX * 4)?;
                vectors.push((PassageId(row.id), floats(&row.vector)?));
            }
            if !full {
                return Ok(vectors);
            }
        }
    }

    /// Passages behind `after` that the model has not said anything about, at most `limit`, oldest first.
    pub async fn without_vectors(
        &self,
        index: &str,
        model: &str,
        after: Option<PassageId>,
        limit: u32,
    ) -> Result<Vec<StoredPassage>, StoreError> {
        let Some(index) = self.number(index).await? else {
            return Ok(Vec::new());
        };
        let rows: Vec<PassageRow> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| {
                    let mut query = sqlx::QueryBuilder::new(PASSAGES);
                    query.push(" WHERE p.index_id = ").push_bind(index);
                    query.push(
                        " AND NOT EXISTS (SELECT 1 FROM passage_vector AS v WHERE v.passage_id = p.id AND v.model = ",
                    );
                    query.push_bind(model);
                    query.push(") AND p.id > ").push_bind(after.map_or(0, |id| id.0));
                    query
                        .push(" ORDER BY p.id LIMIT ")
                        .push_bind(i64::from(limit.min(PAGE_ROWS)));
                    query.build_query_as().fetch_all(pool).await
                })
            })
            .await?;
        rows.into_iter().map(StoredPassage::try_from).collect()
    }
}

/// Vectors that one unit writes at most.
const VECTORS_AT_ONCE: usize = 256;

async fn upsert(tx: &mut Tx, index: &str, model: &str, vectors: &Vectors) -> Result<u64, StoreError> {
    let Some(index) = changed(tx, index).await? else {
        return Ok(0);
    };
    let mut kept = 0;
    for (id, vector) in vectors {
        let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        kept += on_both!(&mut *tx, |tx| sqlx::query(UPSERT)
            .bind(id.0)
            .bind(model)
            .bind(bytes)
            .bind(index)
            .execute(&mut **tx)
            .await
            .map(|done| done.rows_affected()))?;
    }
    Ok(kept)
}

fn floats(bytes: &[u8]) -> Result<Vec<f32>, StoreError> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(StoreError::corrupt("the vector of a passage"));
    }
    Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}
