//! Reads what some requests need to know, and keeps it from changing until they are done.
//!
//! In PostgreSQL each statement is a way there and back for which the whole tenant waits, so there are few of them: first the
//! purses are locked, and whatever is read after that is of the time since.

use forebay_domain::{
    id::{HoldId, TenantId},
    ledger::{BudgetRule, Facts, Head, HoldRecord, Keyed, Payer, Post, Purse, Request},
    money::{Usd, UsdRate},
};
use sqlx::{Postgres, Sqlite, Transaction, pool::PoolConnection};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    glance::{Wanted, glance},
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

macro_rules! holds {
    ($list:literal) => {
        concat!(
            "SELECT id, state, tenant, project, key_id, session, subject, purpose_kind, purpose, trace, \
             amount, rate, posted, started_at_ms, lapses_at_ms FROM ledger_hold WHERE id ",
            $list
        )
    };
}

macro_rules! keyed {
    ($list:literal) => {
        concat!(
            "SELECT once_key, hold_id, held, rate, posted FROM ledger_txn WHERE once_key ",
            $list
        )
    };
}

const HOLDS: &str = holds!("= ANY($1)");
const KEYED: &str = keyed!("= ANY($1)");
/// The numbers are those of [`super::glance`].
pub(super) const HOLDS_ON_SQLITE: &str = holds!("IN (SELECT value FROM json_each($10))");
pub(super) const KEYED_ON_SQLITE: &str = keyed!("IN (SELECT value FROM json_each($11))");
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
    let names: Vec<String> = stated.keys().cloned().collect();
    let heads = match tx {
        Both::Sqlite(tx) => read_sqlite(tx, asked, &names, &mut facts).await?,
        Both::Postgres(tx) => read_postgres(tx, asked, &names, &mut facts).await?,
    };
    let purses = facts.holds.values().flat_map(|record| record.payer.purses());
    for (name, purse) in purses.map(named).chain(stated) {
        facts.heads.extend(heads.get(&name).map(|head| (purse, *head)));
    }
    posts(tx, &mut facts, asked.requests).await?;
    Ok(facts)
}

type Heads = HashMap<String, Head>;

/// All that the requests name, at once; what only that leads to is seldom, and asked for after it.
async fn read_sqlite(
    tx: &mut PoolConnection<Sqlite>,
    asked: &Asked<'_>,
    names: &[String],
    facts: &mut Facts,
) -> Result<Heads, StoreError> {
    let stated = judged(asked, |request| request.payer());
    let look = Look::new(stated.clone(), asked.rules, asked.now_ms);
    let (ids, keys) = (ids(asked), keys(asked));
    let wanted = Wanted {
        look: &look,
        purses: names,
        holds: &texts(&ids),
        keys: &keys,
    };
    let first = glance(tx, &wanted).await?;
    look.tell(first.windows, facts)?;
    facts.keyed = first.keyed;
    facts.holds = known_of(first.holds);
    let mut heads = first.heads;

    let earlier = facts.keyed.values().filter_map(|keyed| keyed.hold.as_ref());
    let earlier: BTreeSet<&HoldId> = earlier.filter(|id| !ids.contains(id)).collect();
    let led_to = judged(asked, |request| Some(&facts.holds.get(request.hold()?)?.payer));
    let look = Look::new(led_to.difference(&stated).cloned().collect(), asked.rules, asked.now_ms);
    if !earlier.is_empty() || !look.is_empty() {
        let wanted = Wanted {
            look: &look,
            purses: &[],
            holds: &texts(&earlier),
            keys: &[],
        };
        let second = glance(tx, &wanted).await?;
        look.tell(second.windows, facts)?;
        facts.holds.extend(known_of(second.holds));
        heads.extend(second.heads);
    }
    Ok(heads)
}

async fn read_postgres(
    tx: &mut Transaction<'static, Postgres>,
    asked: &Asked<'_>,
    names: &[String],
    facts: &mut Facts,
) -> Result<Heads, StoreError> {
    let (ids, keys) = (ids(asked), keys(asked));
    let heads = heads::lock(tx, names, &texts(&ids)).await?;
    facts.keyed = keyed(tx, &keys).await?;
    let earlier = facts.keyed.values().filter_map(|keyed| keyed.hold.as_ref());
    let ids: BTreeSet<&HoldId> = ids.into_iter().chain(earlier).collect();
    let records = holds(tx, &texts(&ids)).await?;
    // A hold that was made since the purses were locked is nobody's yet: who made it was not told of it.
    let records = records.into_iter();
    let locked = records.filter(|record| heads.contains_key(&tenant_purse_name(&record.payer.tenant)));
    facts.holds = known_of(locked.collect());
    let judged = judged(asked, |request| match request.payer() {
        Some(payer) => Some(payer),
        None => Some(&facts.holds.get(request.hold()?)?.payer),
    });
    let look = Look::new(judged, asked.rules, asked.now_ms);
    look.within(tx, facts).await?;
    Ok(heads)
}

fn ids<'a>(asked: &Asked<'a>) -> BTreeSet<&'a HoldId> {
    asked.requests.iter().filter_map(Request::hold).collect()
}

fn keys(asked: &Asked<'_>) -> Vec<String> {
    asked.requests.iter().filter_map(Request::key).collect()
}

/// The purses by whose limits something is judged, of those who pay for it as far as that is known.
fn judged<'a>(asked: &Asked<'a>, payer: impl Fn(&'a Request) -> Option<&'a Payer>) -> BTreeSet<Purse> {
    let judged = asked.requests.iter().filter(|request| request.is_judged());
    judged.filter_map(payer).flat_map(Payer::purses).collect()
}

fn known_of(records: Vec<HoldRecord>) -> HashMap<HoldId, HoldRecord> {
    records.into_iter().map(|record| (record.id.clone(), record)).collect()
}

fn named(purse: Purse) -> (String, Purse) {
    (purse_name(&purse), purse)
}

fn texts(ids: &BTreeSet<&HoldId>) -> Vec<String> {
    ids.iter().map(|id| id.as_str().to_owned()).collect()
}

async fn holds(tx: &mut Transaction<'static, Postgres>, ids: &[String]) -> Result<Vec<HoldRecord>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<HoldRow> = sqlx::query_as(HOLDS).bind(List(ids)).fetch_all(&mut **tx).await?;
    rows.into_iter().map(HoldRecord::try_from).collect()
}

/// A movement that has an idempotency key.
pub(super) type KeyedRow = (String, Option<String>, i64, i64, i64);

async fn keyed(tx: &mut Transaction<'static, Postgres>, keys: &[String]) -> Result<HashMap<String, Keyed>, StoreError> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<KeyedRow> = sqlx::query_as(KEYED).bind(List(keys)).fetch_all(&mut **tx).await?;
    rows.into_iter().map(keyed_of).collect()
}

pub(super) fn keyed_of((once, hold, set_aside, rate, posted): KeyedRow) -> Result<(String, Keyed), StoreError> {
    let keyed = Keyed {
        hold: known("hold", hold.map(HoldId::try_from).transpose())?,
        held: Usd::from_micros(set_aside),
        rate: UsdRate::from_nanos_per_hour(rate),
        posted: Usd::from_micros(posted),
    };
    Ok((once, keyed))
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
