//! How one text of SQL serves two databases, and where it must not.
//!
//! [`Both`] is one value a database, [`on_both!`] writes a body once and compiles it for each driver, and
//! [`row_on_both!`] does the same for reading a row. There is no third driver and no trait over the two.
//!
//! # Rules of this house's SQL
//!
//! * **Placeholders** are `$1`, `$2`, … in order of `bind`; `RETURNING` and `ON CONFLICT` work on both.
//! * **Types**: BIGINT for numbers and for times (epoch milliseconds), TEXT for ids, BLOB or BYTEA for hashes, BOOLEAN
//!   for flags. INT4 and SMALLINT do not decode as `i64` in PostgreSQL, where SQLite does not care.
//! * **`SUM(BIGINT)` is NUMERIC** in PostgreSQL: write `CAST(SUM(x) AS BIGINT)`. `COUNT(*)` is BIGINT on both.
//! * **A placeholder that is only tested** (`$1 IS NULL`) has no type in PostgreSQL: write `CAST($1 AS TEXT) IS NULL`,
//!   or better, leave the condition out of the text when there is nothing to compare.
//! * **`LIKE`** ignores the case of ASCII letters in SQLite and heeds it in PostgreSQL: compare with `=` or `lower()`.
//! * **NULLs sort first** in SQLite and last in PostgreSQL: never order by a column that may be NULL without
//!   `NULLS LAST`.
//! * **Collation**: text sorts by bytes in SQLite and by the cluster's locale in PostgreSQL; columns that are ordered or
//!   paged by are declared `COLLATE "C"` there.
//! * **NUL characters** are refused in PostgreSQL's TEXT and accepted in SQLite's: they are replaced before they get here.
//! * **Numbers above `i64::MAX`** fit neither: they are clamped before they get here.
//! * **Sequence numbers** are handed out before the commit in PostgreSQL: a row with a smaller number may appear later.
//!   Read by `(xid, seq)` and only up to `pg_snapshot_xmin`.
//! * **Locks**: SQLite has one writer, so `BEGIN IMMEDIATE` is the lock. PostgreSQL needs `FOR UPDATE` or an advisory
//!   lock wherever a unit reads before it writes. Such statements stand side by side.
//! * **A failed statement** dooms the whole transaction in PostgreSQL and nothing in SQLite: a unit that meets an error
//!   returns it and does not go on; "insert unless it is there" is `ON CONFLICT DO NOTHING`.
//! * **`begin()` inside a unit** is refused by this list: the writer keeps its own savepoints.

use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction, pool::PoolConnection};

/// One thing a database.
#[derive(Debug, Clone)]
pub(crate) enum Both<S, P> {
    Sqlite(S),
    Postgres(P),
}

/// Where reads go.
pub(crate) type Pools = Both<SqlitePool, PgPool>;

/// The transaction that a unit of writing runs in: on SQLite the writer's, which it keeps itself.
pub(crate) type Tx = Both<PoolConnection<Sqlite>, Transaction<'static, Postgres>>;

/// Compiles `body` once for each driver: sqlx's query types carry the driver, the text of the SQL does not.
macro_rules! on_both {
    ($on:expr, |$executor:ident| $body:expr) => {
        match $on {
            $crate::sql::Both::Sqlite($executor) => $body,
            $crate::sql::Both::Postgres($executor) => $body,
        }
    };
}

/// Reads a row type from the rows of both drivers.
macro_rules! row_on_both {
    ($type:ty, |$row:ident| $body:expr) => {
        row_on_both!(@one sqlx::sqlite::SqliteRow, $type, |$row| $body);
        row_on_both!(@one sqlx::postgres::PgRow, $type, |$row| $body);
    };
    (@one $driver:ty, $type:ty, |$row:ident| $body:expr) => {
        impl<'r> sqlx::FromRow<'r, $driver> for $type {
            fn from_row($row: &'r $driver) -> Result<Self, sqlx::Error> {
                $body
            }
        }
    };
}

pub(crate) use {on_both, row_on_both};
