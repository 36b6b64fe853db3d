//! Reads what some requests need to know, and keeps it from changing until they are done.
//!
//! In PostgreSQL each statement is a way there and back for which the whole tenant waits, so there are few of them: first the
//! purses are locked, and whatever is read after that is of the time since.

use forebay_domain::{
    id::{HoldId, TenantId},
    ledger::{BudgetRule, Facts, HoldRecord, Keyed, Payer, Post, Purse, Request},
    money::{Usd, UsdRate},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    heads,
    rows::{HoldRow, purse_name, tenant_purse_name},
    windows::Look,
};
use crate::{
    StoreError,
    row::known,
    sql::{Both, Tx, on_both},
    together::List,
};

/// Posts of one hold that are read at once.
const POSTS_PAGE: usize = 1_000;

/// A statement for both databases, which have their own words for "is in a list".
macro_rules! in_list {
    ($select:literal) => {
        (
            concat!($select, " IN (SELECT value FROM json_each($1))"),
            concat!($select, " = ANY($1)"),
        )
    };
}

const HOLDS: (&str, &str) = in_list!(
    "SELECT id, state, tenant, project, key_id, session, subject, purpose_kind, purpose, trace, \
     amount, rate, posted, started_at_ms, lapses_at_ms FROM ledger_hold WHERE id"
);
const KEYED: (&str, &str) = in_list!("SELECT once_key, hold_id, held, rate, posted FROM ledger_txn WHERE once_key");
const POSTS: &str = "SELECT at_ms, CAST(SUM(posted) AS BIGINT) FROM ledger_txn \
     WHERE hold_id = $1 AND posted > 0 AND at_ms < $2 GROUP BY at_ms ORDER BY at_ms DESC LIMIT $3";
const TAKEN: &str = "SELECT original_at_ms, CAST(SUM(amount) AS BIGINT) FROM purse_refund \
     WHERE hold_id = $1 AND purse = $2 GROUP BY original_at_ms";

/// What is asked of the ledger at once.
pub(super) struct Asked<'a> {
    pub now_ms: i64,
    /// The limits of the configuration.
    pub rules: &'a [BudgetRule],
    pub requests: &'a [Request],
}

pub(super) async fn facts(tx: &mut Tx, asked: &Asked<'_>) -> Result<Facts, StoreError> {
    let mut facts = Facts {
        now_ms: asked.now_ms,
        ..Facts::default()
    };
    let stated = asked.requests.iter().filter_map(Request::payer);
    let stated: BTreeMap<String, Purse> = stated.flat_map(Payer::purses).map(named).collect();
    let ids: BTreeSet<&HoldId> = asked.requests.iter().filter_map(Request::hold).collect();
    let heads = heads::read(tx, stated.keys().cloned().collect(), &texts(&ids)).await?;

    let keys: Vec<String> = asked.requests.iter().filter_map(Request::key).collect();
    facts.keyed = keyed(tx, &keys).await?;
    let earlier = facts.keyed.values().filter_map(|keyed| keyed.hold.as_ref());
    let ids: BTreeSet<&HoldId> = ids.into_iter().chain(earlier).collect();
    for record in holds(tx, &texts(&ids)).await? {
        // A hold that was made since the purses were locked is nobody's yet: who made it was not told of it.
        if heads.contains_key(&tenant_purse_name(&record.payer.tenant)) {
            facts.holds.insert(record.id.clone(), record);
        }
    }
    let purses = facts.holds.values().flat_map(|record| record.payer.purses());
    for (name, purse) in purses.map(named).chain(stated) {
        facts.heads.extend(heads.get(&name).map(|head| (purse, *head)));
    }

    let judged = asked.requests.iter().filter(|request| request.is_judged());
    let judged = judged.filter_map(|request| match request.payer() {
        Some(payer) => Some(payer),
        None => Some(&facts.holds.get(request.hold()?)?.payer),
    });
    let judged: BTreeSet<Purse> = judged.flat_map(Payer::purses).collect();
    if !judged.is_empty() {
        Look::new(judged, asked.rules, asked.now_ms)
            .within(tx, &mut facts)
            .await?;
    }
    posts(tx, &mut facts, asked.requests).await?;
    Ok(facts)
}

fn named(purse: Purse) -> (String, Purse) {
    (purse_name(&purse), purse)
}

fn texts(ids: &BTreeSet<&HoldId>) -> Vec<String> {
    ids.iter().map(|id| id.as_str().to_owned()).collect()
}

fn statement(tx: &Tx, (sqlite, postgres): (&'static str, &'static str)) -> &'static str {
    match tx {
        Both::Sqlite(_) => sqlite,
        Both::Postgres(_) => postgres,
    }
}

async fn holds(tx: &mut Tx, ids: &[String]) -> Result<Vec<HoldRecord>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = statement(tx, HOLDS);
    let rows: Vec<HoldRow> = on_both!(tx, |tx| sqlx::query_as(sql).bind(List(ids)).fetch_all(&mut **tx).await)?;
    rows.into_iter().map(HoldRecord::try_from).collect()
}

async fn keyed(tx: &mut Tx, keys: &[String]) -> Result<HashMap<String, Keyed>, StoreError> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = statement(tx, KEYED);
    let rows: Vec<(String, Option<String>, i64, i64, i64)> =
        on_both!(tx, |tx| sqlx::query_as(sql).bind(List(keys)).fetch_all(&mut **tx).await)?;
    let mut found = HashMap::with_capacity(rows.len());
    for (key, hold, held, rate, posted) in rows {
        let keyed = Keyed {
            hold: known("hold", hold.map(HoldId::try_from).transpose())?,
            held: Usd::from_micros(held),
            rate: UsdRate::from_nanos_per_hour(rate),
            posted: Usd::from_micros(posted),
        };
        found.insert(key, keyed);
    }
    Ok(found)
}

/// What was posted of those holds of which something may have to be taken off.
async fn posts(tx: &mut Tx, facts: &mut Facts, requests: &[Request]) -> Result<(), StoreError> {
    let mut wanted: BTreeMap<&HoldId, Usd> = BTreeMap::new();
    for request in requests {
        if let Some(record) = request.hold().and_then(|hold| facts.holds.get(hold)) {
            let sum = wanted.entry(&record.id).or_default();
            *sum = sum.saturating_add(request.takes_off(record));
        }
    }
    let mut found = HashMap::new();
    for (hold, amount) in wanted {
        if let Some(record) = facts.holds.get(hold).filter(|_| amount > Usd::ZERO) {
            let posts = posts_of(tx, hold, &record.payer.tenant, amount).await?;
            found.insert(hold.clone(), posts);
        }
    }
    facts.posts.extend(found);
    Ok(())
}

async fn posts_of(tx: &mut Tx, hold: &HoldId, tenant: &TenantId, amount: Usd) -> Result<Vec<Post>, StoreError> {
    let purse = tenant_purse_name(tenant);
    let taken: Vec<(i64, i64)> = on_both!(&mut *tx, |tx| sqlx::query_as(TAKEN)
        .bind(hold.as_str())
        .bind(&purse)
        .fetch_all(&mut **tx)
        .await)?;
    let taken: HashMap<i64, i64> = taken.into_iter().collect();
    let (mut posts, mut sum, mut before_ms) = (Vec::new(), Usd::ZERO, i64::MAX);
    while sum < amount {
        let page: Vec<(i64, i64)> = on_both!(&mut *tx, |tx| sqlx::query_as(POSTS)
            .bind(hold.as_str())
            .bind(before_ms)
            .bind(i64::try_from(POSTS_PAGE).unwrap_or(i64::MAX))
            .fetch_all(&mut **tx)
            .await)?;
        for (at_ms, micros) in &page {
            let left = micros.saturating_sub(taken.get(at_ms).copied().unwrap_or_default());
            let left = Usd::from_micros(left).max(Usd::ZERO);
            posts.push(Post { at_ms: *at_ms, left });
            sum = sum.saturating_add(left);
            before_ms = *at_ms;
        }
        if page.len() < POSTS_PAGE {
            break;
        }
    }
    Ok(posts)
}
