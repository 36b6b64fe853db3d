//! All that a group needs to know, as SQLite tells it at once.
//!
//! SQLite has a thread of its own: each way there and back costs more than what it does there. So one text has all the
//! statements, and a list that is empty asks for nothing.

use forebay_domain::ledger::{Head, HoldRecord, Keyed};
use sqlx::{Column, FromRow, Row, Sqlite, pool::PoolConnection, sqlite::SqliteRow};
use std::{collections::HashMap, sync::LazyLock};

use super::{
    heads,
    load::{self, KeyedRow},
    rows::HoldRow,
    windows::{self, Look, WindowRow, bind_look},
};
use crate::{StoreError, together::List};

/// The first eight numbers are those of a [`Look`]; then come purses, holds and idempotency keys.
static ALL: LazyLock<String> = LazyLock::new(|| {
    let (windows, heads) = (windows::ON_SQLITE.as_str(), heads::SQLITE);
    format!(
        "{windows}; {heads}; {}; {}",
        load::HOLDS_ON_SQLITE,
        load::KEYED_ON_SQLITE
    )
});

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub look: &'a Look,
    pub purses: &'a [String],
    pub holds: &'a [String],
    pub keys: &'a [String],
}

#[derive(Default)]
pub(super) struct Glance {
    pub windows: Vec<WindowRow>,
    pub heads: HashMap<String, Head>,
    pub holds: Vec<HoldRecord>,
    pub keyed: HashMap<String, Keyed>,
}

pub(super) async fn glance(tx: &mut PoolConnection<Sqlite>, wanted: &Wanted<'_>) -> Result<Glance, StoreError> {
    let rows = bind_look!(sqlx::query(ALL.as_str()), wanted.look)
        .bind(List(wanted.purses))
        .bind(List(wanted.holds))
        .bind(List(wanted.keys));
    let (mut glance, mut heads) = (Glance::default(), Vec::new());
    for row in rows.fetch_all(&mut **tx).await? {
        glance.take(&row, &mut heads)?;
    }
    glance.heads = heads::heads(heads);
    Ok(glance)
}

impl Glance {
    /// The first column tells which statement a row is of.
    fn take(&mut self, row: &SqliteRow, heads: &mut Vec<heads::HeadRow>) -> Result<(), StoreError> {
        match row.column(0).name() {
            "name" => self.windows.push(WindowRow::from_row(row)?),
            "purse" => heads.push(FromRow::from_row(row)?),
            "id" => self.holds.push(HoldRow::from_row(row)?.try_into()?),
            _ => {
                let (key, keyed) = load::keyed_of(KeyedRow::from_row(row)?)?;
                self.keyed.insert(key, keyed);
            }
        }
        Ok(())
    }
}
