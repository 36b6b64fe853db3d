//! Limits that are set at run time.

use forebay_domain::{
    id::TenantId,
    ledger::{BudgetRule, Scope, Window},
};

use super::{
    Ledger, LedgerFault,
    rows::{self, BudgetRow},
};
use crate::{
    StoreError,
    db::Db,
    sql::{Tx, on_both},
};

/// Limits of one tenant that are set at run time.
pub(super) const BUDGETS_MAX: u32 = 1_000;
/// Longest name of a project, key or session.
const ID_BYTES_MAX: usize = 128;

const ALL: &str = "SELECT tenant, scope, id, minutes, limit_usd, enforcement FROM budget \
     ORDER BY tenant, scope, id, minutes";
const OF_TENANT: &str = "SELECT tenant, scope, id, minutes, limit_usd, enforcement FROM budget WHERE tenant = $1 \
     ORDER BY scope, id, minutes";
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
        read(&self.db, tenant).await
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

    /// Learns what others have set.
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        self.known.store(read(&self.db, None).await?);
        Ok(())
    }
}

async fn read(db: &Db, tenant: Option<&TenantId>) -> Result<Vec<BudgetRule>, StoreError> {
    let rows: Vec<BudgetRow> = db
        .read(async {
            on_both!(db.pools(), |pool| match tenant {
                Some(tenant) => sqlx::query_as(OF_TENANT).bind(tenant.as_str()).fetch_all(pool).await,
                None => sqlx::query_as(ALL).fetch_all(pool).await,
            })
        })
        .await?;
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
