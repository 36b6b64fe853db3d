//! Limits that are set at run time.

use forebay_domain::{
    id::TenantId,
    ledger::{BudgetRule, Scope, Window},
};

use super::{
    Ledger, LedgerFault,
    known::News,
    rows::{self, BudgetRow},
};
use crate::{
    StoreError,
    row::known,
    sql::{Both, Tx, on_both},
    together::List,
};

/// Limits of one tenant that are set at run time.
pub(super) const BUDGETS_MAX: u32 = 1_000;
/// Longest name of a project, key or session.
const ID_BYTES_MAX: usize = 128;

/// Budgets of one page.
pub const BUDGETS_PAGE_MAX: u32 = 1_000;

const ALL: &str = "SELECT tenant, scope, id, minutes, limit_usd, enforcement FROM budget";
const OF_TENANTS_SQLITE: &str = "SELECT tenant, scope, id, minutes, limit_usd, enforcement FROM budget \
     WHERE tenant IN (SELECT value FROM json_each($1))";
const OF_TENANTS_POSTGRES: &str = "SELECT tenant, scope, id, minutes, limit_usd, enforcement FROM budget \
     WHERE tenant = ANY($1)";
const PAGE: &str = "SELECT tenant, scope, id, minutes, limit_usd, enforcement FROM budget \
     WHERE (tenant, scope, id, minutes) > ($1, $2, $3, $4) ORDER BY tenant, scope, id, minutes LIMIT $5";
const PAGE_OF_TENANT: &str = "SELECT tenant, scope, id, minutes, limit_usd, enforcement FROM budget \
     WHERE tenant = $1 AND (scope, id, minutes) > ($2, $3, $4) ORDER BY scope, id, minutes LIMIT $5";
const CHANGES: &str = "SELECT tenant, number FROM budget_change WHERE number > $1 ORDER BY number";
const CHANGE: &str = "SELECT number FROM budget_change WHERE tenant = ''";
const SET: &str = "INSERT INTO budget (tenant, scope, id, minutes, limit_usd, enforcement) VALUES ($1, $2, $3, $4, $5, $6) \
     ON CONFLICT (tenant, scope, id, minutes) DO UPDATE SET limit_usd = excluded.limit_usd, enforcement = excluded.enforcement";
const OTHERS: &str = "SELECT COUNT(*) FROM budget WHERE tenant = $1 AND NOT (scope = $2 AND id = $3 AND minutes = $4)";
const REMOVE: &str = "DELETE FROM budget WHERE tenant = $1 AND scope = $2 AND id = $3 AND minutes = $4";

/// A limit that is set at run time, by whose it is and by its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetKey {
    pub tenant: TenantId,
    pub scope: Scope,
    /// Which project, key or session of it; each one where there is none.
    pub id: Option<String>,
    pub minutes: u32,
}

/// Some limits of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetPage {
    pub budgets: Vec<BudgetRule>,
    /// The last of them, where there are more.
    pub next: Option<BudgetKey>,
}

impl BudgetKey {
    fn checked(mut self) -> Result<Self, StoreError> {
        let id = self.id.as_deref().unwrap_or_default();
        let is_well = id.len() <= ID_BYTES_MAX && !id.chars().any(|c| c.is_control() || c == ' ');
        let is_tenant = self.scope != Scope::Tenant || id.is_empty() || id == self.tenant.as_str();
        if !is_well || !is_tenant {
            return Err(LedgerFault::Name(self.scope.as_str()).into());
        }
        if self.scope == Scope::Tenant || id.is_empty() {
            self.id = None;
        }
        Ok(self)
    }
}

impl Ledger {
    /// The limits that were set at run time, of one tenant or of all.
    pub async fn budgets(&self, tenant: Option<&TenantId>) -> Result<Vec<BudgetRule>, StoreError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.budget_page(tenant, after.as_ref(), BUDGETS_PAGE_MAX).await?;
            all.extend(page.budgets);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Some of the limits that were set at run time, of one tenant or of all: those after the one that is named, in their order.
    pub async fn budget_page(
        &self,
        tenant: Option<&TenantId>,
        after: Option<&BudgetKey>,
        limit: u32,
    ) -> Result<BudgetPage, StoreError> {
        let limit = limit.clamp(1, BUDGETS_PAGE_MAX);
        let (scope, id, minutes) = after.map_or(("", "", 0), |key| {
            let id = key.id.as_deref().unwrap_or_default();
            (key.scope.as_str(), id, i64::from(key.minutes))
        });
        let (sql, first) = match tenant {
            Some(tenant) => (PAGE_OF_TENANT, tenant.as_str()),
            None => (PAGE, after.map_or("", |key| key.tenant.as_str())),
        };
        let db = &self.db;
        let rows: Vec<BudgetRow> = db
            .read(async {
                on_both!(db.pools(), |pool| sqlx::query_as(sql)
                    .bind(first)
                    .bind(scope)
                    .bind(id)
                    .bind(minutes)
                    .bind(i64::from(limit) + 1)
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        let mut budgets = rules(rows)?;
        let has_more = budgets.len() > limit as usize;
        budgets.truncate(limit as usize);
        let last = budgets.last().filter(|_| has_more);
        let next = last.and_then(|rule| {
            let of = rule.of.clone()?;
            Some(BudgetKey {
                tenant: of.tenant,
                scope: rule.scope,
                id: of.id,
                minutes: rule.window.minutes,
            })
        });
        Ok(BudgetPage { budgets, next })
    }

    /// Sets a limit, in place of the one that the same purse has for the same time.
    pub async fn set_budget(&self, of: BudgetKey, window: Window) -> Result<(), StoreError> {
        let of = BudgetKey {
            minutes: window.minutes,
            ..of
        }
        .checked()?;
        let set = (of, window);
        self.db
            .write(set, |tx, (of, window)| Box::pin(set_one(tx, of, *window)))
            .await?;
        self.refresh().await
    }

    /// Removes a limit; whether there was one.
    pub async fn remove_budget(&self, of: BudgetKey) -> Result<bool, StoreError> {
        let of = of.checked()?;
        let gone = self.db.write(of, |tx, of| Box::pin(remove_one(tx, of))).await?;
        self.refresh().await?;
        Ok(gone)
    }

    /// Learns what others have set: all of it at first, and then whatever has changed.
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        loop {
            let news = match self.known.change() {
                None => Some(self.all_budgets().await?),
                Some(change) => self.budgets_since(change).await?,
            };
            // Where two learn at once, one of them looks again.
            if news.is_none_or(|news| self.known.learn(news)) {
                return Ok(());
            }
        }
    }

    async fn all_budgets(&self) -> Result<News, StoreError> {
        let pools = self.db.pools();
        let read = async {
            // What changes between the two is read again.
            let change = on_both!(pools, |pool| sqlx::query_scalar(CHANGE).fetch_one(pool).await)?;
            let rows = on_both!(pools, |pool| sqlx::query_as(ALL).fetch_all(pool).await)?;
            Ok::<_, sqlx::Error>((change, rows))
        };
        let (change, rows) = self.db.read(read).await?;
        Ok(News {
            since: None,
            change,
            tenants: Vec::new(),
            rules: rules(rows)?,
        })
    }

    async fn budgets_since(&self, since: i64) -> Result<Option<News>, StoreError> {
        let pools = self.db.pools();
        let changes = async { on_both!(pools, |pool| sqlx::query_as(CHANGES).bind(since).fetch_all(pool).await) };
        let changes: Vec<(String, i64)> = self.db.read(changes).await?;
        let Some(change) = changes.iter().map(|(_, number)| *number).max() else {
            return Ok(None);
        };
        // The row of nobody counts.
        let names: Vec<String> = changes
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| !name.is_empty())
            .collect();
        let read = async {
            match pools {
                Both::Sqlite(pool) => {
                    sqlx::query_as(OF_TENANTS_SQLITE)
                        .bind(List(&names))
                        .fetch_all(pool)
                        .await
                }
                Both::Postgres(pool) => {
                    sqlx::query_as(OF_TENANTS_POSTGRES)
                        .bind(List(&names))
                        .fetch_all(pool)
                        .await
                }
            }
        };
        let rows = self.db.read(read).await?;
        let tenants = names.into_iter().map(|name| known("tenant", TenantId::try_from(name)));
        Ok(Some(News {
            since: Some(since),
            change,
            tenants: tenants.collect::<Result<_, _>>()?,
            rules: rules(rows)?,
        }))
    }
}

fn rules(rows: Vec<BudgetRow>) -> Result<Vec<BudgetRule>, StoreError> {
    rows.into_iter().map(BudgetRule::try_from).collect()
}

/// Two at once may go a little beyond the bound, which does no harm.
async fn set_one(tx: &mut Tx, of: &BudgetKey, window: Window) -> Result<(), StoreError> {
    let others: i64 = on_both!(&mut *tx, |tx| sqlx::query_scalar(OTHERS)
        .bind(of.tenant.as_str())
        .bind(of.scope.as_str())
        .bind(of.id.as_deref().unwrap_or_default())
        .bind(i64::from(of.minutes))
        .fetch_one(&mut **tx)
        .await)?;
    if others >= i64::from(BUDGETS_MAX) {
        return Err(LedgerFault::Full.into());
    }
    on_both!(tx, |tx| sqlx::query(SET)
        .bind(of.tenant.as_str())
        .bind(of.scope.as_str())
        .bind(of.id.as_deref().unwrap_or_default())
        .bind(i64::from(of.minutes))
        .bind(window.limit.micros())
        .bind(rows::enforcement(window.enforcement))
        .execute(&mut **tx)
        .await
        .map(drop))?;
    Ok(())
}

async fn remove_one(tx: &mut Tx, of: &BudgetKey) -> Result<bool, StoreError> {
    let gone = on_both!(tx, |tx| sqlx::query(REMOVE)
        .bind(of.tenant.as_str())
        .bind(of.scope.as_str())
        .bind(of.id.as_deref().unwrap_or_default())
        .bind(i64::from(of.minutes))
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(gone == 1)
}
