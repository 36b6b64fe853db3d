//! Which limits count for some purses, and what of all that was ever posted to them lies outside of each.
//!
//! One statement, and so one look at the database: a limit that is set at run time, a purse and what was posted to it are all of
//! one moment, whether or not the purses are locked.

use forebay_domain::{
    ledger::{BudgetRule, Enforcement, Facts, Head, Purse, Window},
    money::{Usd, UsdRate},
};
use sqlx::{Postgres, Row, Transaction};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use super::rows::{self, purse_name};
use crate::{
    StoreError,
    row::known,
    sql::{Both, Pools, row_on_both},
    together::List,
};

/// What is asked for, as lists; each database has its own way to make rows of them.
const SQLITE: &str = "WITH purses (name, own, tenant, scope, id) AS \
     (SELECT n.value, $2 ->> n.key, $3 ->> n.key, $4 ->> n.key, $5 ->> n.key FROM json_each($1) AS n), \
     configured (name, minutes) AS (SELECT n.value, $7 ->> n.key FROM json_each($6) AS n), ";
const POSTGRES: &str = "WITH purses (name, own, tenant, scope, id) AS \
     (SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])), \
     configured (name, minutes) AS (SELECT * FROM UNNEST($6::text[], $7::bigint[])), ";
/// A window ends now, or when last something happened to the tenant, where that is later.
const WINDOWS: &str = "asked (name, own, minutes, limit_usd, enforcement) AS ( \
     SELECT p.name, p.own, c.minutes, CAST(NULL AS BIGINT), CAST(NULL AS TEXT) \
     FROM purses AS p JOIN configured AS c ON c.name = p.name \
     UNION ALL SELECT p.name, p.own, b.minutes, b.limit_usd, b.enforcement \
     FROM purses AS p JOIN budget AS b ON b.tenant = p.tenant AND b.scope = p.scope AND b.id IN ('', p.id)), \
     begun (name, minutes, limit_usd, enforcement, begin_ms) AS ( \
     SELECT a.name, a.minutes, a.limit_usd, a.enforcement, \
     CASE WHEN t.last_at_ms > CAST($8 AS BIGINT) THEN t.last_at_ms ELSE CAST($8 AS BIGINT) END - a.minutes * 60000 \
     FROM asked AS a LEFT JOIN purse AS t ON t.name = a.own) \
     SELECT b.name, b.minutes, b.limit_usd, b.enforcement, \
     COALESCE((SELECT p.cumulative FROM purse_posted AS p WHERE p.purse = b.name AND p.at_ms <= b.begin_ms \
     ORDER BY p.at_ms DESC LIMIT 1), 0) AS earlier, \
     COALESCE((SELECT CAST(SUM(r.amount) AS BIGINT) FROM purse_refund AS r WHERE r.purse = b.name \
     AND r.original_at_ms > b.begin_ms), 0) AS given_back, \
     COALESCE(h.held, 0) AS held, COALESCE(h.burn, 0) AS burn, COALESCE(h.posted, 0) AS posted, \
     COALESCE(h.last_at_ms, 0) AS last_at_ms \
     FROM begun AS b LEFT JOIN purse AS h ON h.name = b.name";

pub(super) static ON_SQLITE: LazyLock<String> = LazyLock::new(|| format!("{SQLITE}{WINDOWS}"));
static ON_POSTGRES: LazyLock<String> = LazyLock::new(|| format!("{POSTGRES}{WINDOWS}"));

/// A query with what is asked for, for whichever database reads it.
macro_rules! bind_look {
    ($query:expr, $look:expr) => {
        $query
            .bind(List(&$look.names))
            .bind(List(&$look.owns))
            .bind(List(&$look.tenants))
            .bind(List(&$look.scopes))
            .bind(List(&$look.ids))
            .bind(List(&$look.configured_names))
            .bind(List(&$look.configured_minutes))
            .bind($look.now_ms)
    };
}

pub(super) use bind_look;

/// What is to be known of some purses.
#[derive(Default)]
pub(super) struct Look {
    pub(super) now_ms: i64,
    purses: BTreeMap<String, Purse>,
    pub(super) names: Vec<String>,
    /// The purse of the tenant that each belongs to.
    pub(super) owns: Vec<String>,
    pub(super) tenants: Vec<String>,
    pub(super) scopes: Vec<String>,
    pub(super) ids: Vec<String>,
    configured: Vec<(Purse, Window)>,
    pub(super) configured_names: Vec<String>,
    pub(super) configured_minutes: Vec<i64>,
}

impl Look {
    pub(super) fn new(purses: BTreeSet<Purse>, rules: &[BudgetRule], now_ms: i64) -> Self {
        let mut look = Self {
            now_ms,
            ..Self::default()
        };
        for purse in purses {
            let name = purse_name(&purse);
            look.names.push(name.clone());
            look.owns.push(rows::tenant_purse_name(&purse.tenant));
            look.tenants.push(purse.tenant.as_str().to_owned());
            look.scopes.push(purse.scope.as_str().to_owned());
            look.ids.push(purse.id.clone());
            for rule in rules.iter().filter(|rule| rule.counts_for(&purse)) {
                look.configured_names.push(name.clone());
                look.configured_minutes.push(i64::from(rule.window.minutes));
                look.configured.push((purse.clone(), rule.window));
            }
            look.purses.insert(name, purse);
        }
        look
    }

    pub(super) fn is_empty(&self) -> bool {
        self.purses.is_empty()
    }

    /// Within the transaction that is to decide something.
    pub(super) async fn within(
        self,
        tx: &mut Transaction<'static, Postgres>,
        facts: &mut Facts,
    ) -> Result<(), StoreError> {
        if self.is_empty() {
            return Ok(());
        }
        let rows = bind_look!(sqlx::query_as(ON_POSTGRES.as_str()), self)
            .fetch_all(&mut **tx)
            .await?;
        self.tell(rows, facts)
    }

    /// By itself, and without a transaction.
    pub(super) async fn alone(self, pools: &Pools) -> Result<Facts, StoreError> {
        let rows = match pools {
            Both::Sqlite(pool) => {
                bind_look!(sqlx::query_as(ON_SQLITE.as_str()), self)
                    .fetch_all(pool)
                    .await?
            }
            Both::Postgres(pool) => {
                bind_look!(sqlx::query_as(ON_POSTGRES.as_str()), self)
                    .fetch_all(pool)
                    .await?
            }
        };
        let mut facts = Facts {
            now_ms: self.now_ms,
            ..Facts::default()
        };
        self.tell(rows, &mut facts)?;
        Ok(facts)
    }

    pub(super) fn tell(self, rows: Vec<WindowRow>, facts: &mut Facts) -> Result<(), StoreError> {
        for purse in self.purses.values() {
            facts.windows.entry(purse.clone()).or_default();
        }
        for (purse, window) in self.configured {
            facts.windows.entry(purse).or_default().push(window);
        }
        for row in rows {
            let purse = self.purses.get(&row.name);
            let purse = purse.ok_or_else(|| StoreError::corrupt("a window of a purse that nobody asked for"))?;
            let minutes = known("the length of a window", u32::try_from(row.minutes))?;
            let outside = Usd::from_micros(row.earlier).saturating_add(Usd::from_micros(row.given_back));
            facts.outside.insert((purse.clone(), minutes), outside);
            facts.heads.insert(purse.clone(), row.head);
            if let Some((limit, enforcement)) = row.stored {
                let enforcement: Enforcement = rows::enforced(&enforcement)?;
                let window = known("a window", Window::new(minutes, Usd::from_micros(limit), enforcement))?;
                facts.windows.entry(purse.clone()).or_default().push(window);
            }
        }
        Ok(())
    }
}

/// One window of one purse.
pub(super) struct WindowRow {
    name: String,
    minutes: i64,
    /// The limit and how it is enforced, of those that are set at run time.
    stored: Option<(i64, String)>,
    earlier: i64,
    given_back: i64,
    head: Head,
}

row_on_both!(WindowRow, |row| {
    let (limit, enforcement): (Option<i64>, Option<String>) = (row.try_get("limit_usd")?, row.try_get("enforcement")?);
    Ok(Self {
        name: row.try_get("name")?,
        minutes: row.try_get("minutes")?,
        stored: limit.zip(enforcement),
        earlier: row.try_get("earlier")?,
        given_back: row.try_get("given_back")?,
        head: Head {
            held: Usd::from_micros(row.try_get("held")?),
            burn: UsdRate::from_nanos_per_hour(row.try_get("burn")?),
            posted: Usd::from_micros(row.try_get("posted")?),
            last_at_ms: row.try_get("last_at_ms")?,
        },
    })
});
