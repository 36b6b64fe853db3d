//! Reads what some requests need to know, and keeps it from changing until they are done.

use forebay_domain::{
    id::{HoldId, TenantId},
    ledger::{BudgetRule, Facts, Head, HoldRecord, Keyed, Payer, Post, Purse, Request, Scope},
    money::{Usd, UsdRate},
};
use sqlx::AssertSqlSafe;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::rows::{BudgetRow, HoldRow, purse_name};
use crate::{
    StoreError,
    many::{lists, placeholder, placeholders},
    row::known,
    sql::{Both, Tx, on_both},
};

/// Posts of one hold that are read at once.
const POSTS_PAGE: usize = 1_000;

const HOLDS: &str = "SELECT id, state, tenant, project, key_id, session, subject, purpose_kind, purpose, trace, \
     amount, rate, posted, started_at_ms, lapses_at_ms FROM ledger_hold WHERE id IN ";
const HEADS: &str = "SELECT name, held, burn, posted, last_at_ms FROM purse WHERE name IN ";
const ADD_HEADS: &str = "INSERT INTO purse (name, held, burn, posted, last_at_ms) VALUES ($1, 0, 0, 0, 0) \
     ON CONFLICT DO NOTHING";
const KEYED: &str = "SELECT once_key, hold_id, held, rate, posted FROM ledger_txn WHERE once_key IN ";
const BUDGETS: &str = "SELECT tenant, scope, id, minutes, limit_usd, enforcement FROM budget WHERE tenant IN ";
/// What was posted to a purse until a time, and what was given back of what came later.
const OUTSIDE: &str = "SELECT a.purse, a.at_ms, \
     COALESCE((SELECT p.cumulative FROM purse_posted AS p WHERE p.purse = a.purse AND p.at_ms <= a.at_ms \
     ORDER BY p.at_ms DESC LIMIT 1), 0), \
     COALESCE((SELECT CAST(SUM(r.amount) AS BIGINT) FROM purse_refund AS r WHERE r.purse = a.purse \
     AND r.original_at_ms > a.at_ms), 0) FROM asked AS a";
const POSTS: &str = "SELECT at_ms, CAST(SUM(posted) AS BIGINT) FROM ledger_txn \
     WHERE hold_id = $1 AND posted > 0 AND at_ms < $2 GROUP BY at_ms ORDER BY at_ms DESC LIMIT $3";
const TAKEN: &str = "SELECT original_at_ms, CAST(SUM(amount) AS BIGINT) FROM purse_refund \
     WHERE hold_id = $1 AND purse = $2 GROUP BY original_at_ms";

/// Whether what is read must stay as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    Held,
    Free,
}

/// What is asked of the ledger at once.
pub(super) struct Asked<'a> {
    pub now_ms: i64,
    /// The limits of the configuration.
    pub rules: &'a [BudgetRule],
    pub requests: &'a [Request],
    /// Who wants to know how its limits stand.
    pub curious: &'a [Payer],
}

pub(super) async fn facts(tx: &mut Tx, asked: &Asked<'_>, lock: Lock) -> Result<Facts, StoreError> {
    let mut facts = Facts {
        now_ms: asked.now_ms,
        ..Facts::default()
    };
    let ids: BTreeSet<&HoldId> = asked.requests.iter().filter_map(Request::hold).collect();
    // Who pays for a hold never changes, so what is locked for that stays locked for all else about it.
    let open = holds(tx, &ids).await?;
    let payers: Vec<Payer> = open.into_iter().map(|record| record.payer).collect();
    let stated = asked.requests.iter().filter_map(Request::payer).chain(asked.curious);
    let purses: BTreeSet<Purse> = stated.chain(&payers).flat_map(Payer::purses).collect();
    facts.heads = heads(tx, &purses, lock).await?;

    let keys: Vec<String> = asked.requests.iter().filter_map(Request::key).collect();
    facts.keyed = keyed(tx, &keys).await?;
    let earlier = facts.keyed.values().filter_map(|keyed| keyed.hold.as_ref());
    let ids: BTreeSet<&HoldId> = ids.into_iter().chain(earlier).collect();
    for record in holds(tx, &ids).await? {
        facts.holds.insert(record.id.clone(), record);
    }

    let judged = asked.requests.iter().filter(|request| request.is_judged());
    let judged = judged.filter_map(|request| match request.payer() {
        Some(payer) => Some(payer),
        None => Some(&facts.holds.get(request.hold()?)?.payer),
    });
    let judged: BTreeSet<Purse> = judged.chain(asked.curious).flat_map(Payer::purses).collect();
    let stored = budgets(tx, &judged).await?;
    for purse in judged {
        let counts = asked.rules.iter().chain(&stored).filter(|rule| rule.counts_for(&purse));
        let windows = counts.map(|rule| rule.window).collect();
        facts.windows.insert(purse, windows);
    }
    outside(tx, &mut facts).await?;
    posts(tx, &mut facts, asked.requests).await?;
    Ok(facts)
}

async fn holds(tx: &mut Tx, ids: &BTreeSet<&HoldId>) -> Result<Vec<HoldRecord>, StoreError> {
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let mut found = Vec::new();
    for list in lists(&ids) {
        let sql = AssertSqlSafe(format!("{HOLDS}({})", placeholders(tx, 1, list.len())));
        let rows: Vec<HoldRow> = on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query_as(sql);
            for id in list {
                query = query.bind(id);
            }
            query.fetch_all(&mut **tx).await
        })?;
        for row in rows {
            found.push(row.try_into()?);
        }
    }
    Ok(found)
}

type HeadRow = (String, i64, i64, i64, i64);

/// PostgreSQL's lock is on the rows, and SQLite's is its only writer. A tenant's own purse is in every set that has one of
/// its others, and comes first: whoever has that one has them all.
async fn heads(tx: &mut Tx, purses: &BTreeSet<Purse>, lock: Lock) -> Result<HashMap<Purse, Head>, StoreError> {
    let mut left: BTreeMap<String, &Purse> = purses.iter().map(|purse| (purse_name(purse), purse)).collect();
    let mut found = HashMap::with_capacity(left.len());
    let locks = lock == Lock::Held && matches!(tx, Both::Postgres(_));
    for is_added in [false, true] {
        let names: Vec<String> = left.keys().cloned().collect();
        if is_added {
            for name in &names {
                on_both!(&mut *tx, |tx| sqlx::query(ADD_HEADS)
                    .bind(name)
                    .execute(&mut **tx)
                    .await
                    .map(drop))?;
            }
        }
        for (name, held, burn, posted, last_at_ms) in head_rows(tx, &names, locks).await? {
            if let Some(purse) = left.remove(&name) {
                let head = Head {
                    held: Usd::from_micros(held),
                    burn: UsdRate::from_nanos_per_hour(burn),
                    posted: Usd::from_micros(posted),
                    last_at_ms,
                };
                found.insert(purse.clone(), head);
            }
        }
        // Only what is there can be locked.
        if left.is_empty() || !locks {
            break;
        }
    }
    Ok(found)
}

async fn head_rows(tx: &mut Tx, names: &[String], locks: bool) -> Result<Vec<HeadRow>, StoreError> {
    let mut rows = Vec::new();
    for list in lists(names) {
        let end = if locks { ") ORDER BY name FOR UPDATE" } else { ")" };
        let sql = AssertSqlSafe(format!("{HEADS}({}{end}", placeholders(tx, 1, list.len())));
        let more: Vec<HeadRow> = on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query_as(sql);
            for name in &list {
                query = query.bind(name);
            }
            query.fetch_all(&mut **tx).await
        })?;
        rows.extend(more);
    }
    Ok(rows)
}

async fn keyed(tx: &mut Tx, keys: &[String]) -> Result<HashMap<String, Keyed>, StoreError> {
    let mut found = HashMap::new();
    for list in lists(keys) {
        let sql = AssertSqlSafe(format!("{KEYED}({})", placeholders(tx, 1, list.len())));
        let rows: Vec<(String, Option<String>, i64, i64, i64)> = on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query_as(sql);
            for key in &list {
                query = query.bind(key);
            }
            query.fetch_all(&mut **tx).await
        })?;
        for (key, hold, held, rate, posted) in rows {
            let keyed = Keyed {
                hold: known("hold", hold.map(HoldId::try_from).transpose())?,
                held: Usd::from_micros(held),
                rate: UsdRate::from_nanos_per_hour(rate),
                posted: Usd::from_micros(posted),
            };
            found.insert(key, keyed);
        }
    }
    Ok(found)
}

/// Those that were set at run time and may count for one of these purses.
async fn budgets(tx: &mut Tx, purses: &BTreeSet<Purse>) -> Result<Vec<BudgetRule>, StoreError> {
    let tenants: BTreeSet<&str> = purses.iter().map(|purse| purse.tenant.as_str()).collect();
    let tenants: Vec<&str> = tenants.into_iter().collect();
    let ids: BTreeSet<&str> = purses.iter().map(|purse| purse.id.as_str()).chain([""]).collect();
    let ids: Vec<&str> = ids.into_iter().collect();
    let mut rules = Vec::new();
    for tenants in lists(&tenants) {
        for ids in lists(&ids) {
            let (one, other) = (
                placeholders(tx, 1, tenants.len()),
                placeholders(tx, tenants.len() + 1, ids.len()),
            );
            let sql = AssertSqlSafe(format!("{BUDGETS}({one}) AND id IN ({other})"));
            let rows: Vec<BudgetRow> = on_both!(&mut *tx, |tx| {
                let mut query = sqlx::query_as(sql);
                for text in tenants.iter().chain(&ids) {
                    query = query.bind(*text);
                }
                query.fetch_all(&mut **tx).await
            })?;
            for row in rows {
                rules.push(row.try_into()?);
            }
        }
    }
    Ok(rules)
}

async fn outside(tx: &mut Tx, facts: &mut Facts) -> Result<(), StoreError> {
    let mut asked: BTreeMap<(String, i64), (Purse, u32)> = BTreeMap::new();
    for (purse, windows) in &facts.windows {
        for window in windows {
            let begin_ms = facts.begin_ms(&purse.tenant, window.minutes);
            asked.insert((purse_name(purse), begin_ms), (purse.clone(), window.minutes));
        }
    }
    let pairs: Vec<(String, i64)> = asked.keys().cloned().collect();
    for list in lists(&pairs) {
        let pair = |number: usize| {
            let (name, at_ms) = (placeholder(tx, 2 * number + 1), placeholder(tx, 2 * number + 2));
            format!("(CAST({name} AS TEXT), CAST({at_ms} AS BIGINT))")
        };
        let values: Vec<String> = (0..list.len()).map(pair).collect();
        let sql = AssertSqlSafe(format!(
            "WITH asked (purse, at_ms) AS (VALUES {}) {OUTSIDE}",
            values.join(", ")
        ));
        let rows: Vec<(String, i64, i64, i64)> = on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query_as(sql);
            for (name, at_ms) in &list {
                query = query.bind(name).bind(at_ms);
            }
            query.fetch_all(&mut **tx).await
        })?;
        for (name, at_ms, before, given_back) in rows {
            let sum = Usd::from_micros(before).saturating_add(Usd::from_micros(given_back));
            if let Some(of) = asked.get(&(name, at_ms)) {
                facts.outside.insert(of.clone(), sum);
            }
        }
    }
    Ok(())
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
    let purse = purse_name(&Purse {
        tenant: tenant.clone(),
        scope: Scope::Tenant,
        id: tenant.as_str().to_owned(),
    });
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
