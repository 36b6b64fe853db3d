//! What somebody else's table looks like, as far as passages of text can be found in it.

use std::time::Duration;

use super::{Foreign, ForeignRow, Param, ROWS_MAX, fault};
use crate::StoreError;

/// The columns that the user may read, with how each is named in a statement.
const COLUMNS: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS name, format('%I', a.attname) AS column, \
     t.typcategory = 'S' AS is_text, t.typname AS type, format('%I', tn.nspname) AS type_schema, \
     a.atttypmod AS modifier, array_position(i.indkey::int2[], a.attnum) AS key_place \
     FROM pg_catalog.pg_class AS c \
     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid \
     JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.typnamespace \
     LEFT JOIN pg_catalog.pg_index AS i ON i.indrelid = c.oid AND i.indisprimary \
     WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
     AND has_column_privilege(c.oid, a.attnum, 'SELECT') ORDER BY a.attnum";

/// A table, view or foreign table. Names are quoted as a statement needs them, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// With its schema.
    pub name: String,
    pub text_columns: Vec<String>,
    /// The columns of the primary key in their order; none for a view.
    pub key: Vec<String>,
    pub vectors: Vec<VectorColumn>,
}

/// A column of pgvector's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorColumn {
    pub name: String,
    /// Its type: `vector` or `halfvec`.
    pub kind: &'static str,
    /// Where that type and its operators are, which need be nowhere that statements look by themselves.
    pub schema: String,
    /// `None` where it takes vectors of any length.
    pub dimensions: Option<u32>,
}

impl Foreign {
    /// Looks at a table, named as a statement would (`docs`, `"Docs"`, `kb.docs`).
    pub async fn table(&self, name: &str, timeout: Duration) -> Result<Table, StoreError> {
        let answer = self
            .rows(COLUMNS, &[Param::Text(name.to_owned())], ROWS_MAX, timeout)
            .await?;
        let Some(first) = answer.rows.first() else {
            let what = format!("there is no table `{name}` with columns that may be read");
            return Err(fault::refused(&self.name, &what));
        };
        let mut key: Vec<(i64, String)> = answer.rows.iter().filter_map(key_column).collect();
        key.sort();
        let text_columns = answer.rows.iter().filter(|row| row.get("is_text") == Some("true"));
        Ok(Table {
            name: first.get("name").unwrap_or_default().to_owned(),
            text_columns: text_columns.map(column).collect(),
            key: key.into_iter().map(|(_, column)| column).collect(),
            vectors: answer.rows.iter().filter_map(vector_column).collect(),
        })
    }
}

fn column(row: &ForeignRow) -> String {
    row.get("column").unwrap_or_default().to_owned()
}

fn key_column(row: &ForeignRow) -> Option<(i64, String)> {
    let place = row.get("key_place")?.parse().ok()?;
    Some((place, column(row)))
}

fn vector_column(row: &ForeignRow) -> Option<VectorColumn> {
    let kind = match row.get("type") {
        Some("vector") => "vector",
        Some("halfvec") => "halfvec",
        _ => return None,
    };
    Some(VectorColumn {
        name: column(row),
        kind,
        schema: row.get("type_schema")?.to_owned(),
        dimensions: row.get("modifier")?.parse().ok().filter(|dimensions| *dimensions > 0),
    })
}
