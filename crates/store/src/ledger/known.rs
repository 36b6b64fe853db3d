//! The limits as this process knows them, so that whoever is not limited need not ask the database.

use forebay_domain::{
    id::TenantId,
    ledger::{BudgetRule, Payer},
};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// Cheap to clone; all clones know the same.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<Both>);

#[derive(Default)]
struct Both {
    configured: RwLock<Arc<Vec<BudgetRule>>>,
    stored: RwLock<Stored>,
}

/// The limits that were set at run time.
#[derive(Clone, Default)]
struct Stored {
    /// The number of the last change that is in them; none before they were read.
    change: Option<i64>,
    of_tenants: Arc<HashMap<TenantId, Arc<[BudgetRule]>>>,
}

/// What was read of them.
pub(super) struct News {
    /// What was known when it was asked for.
    pub since: Option<i64>,
    pub change: i64,
    /// All limits of these tenants are in `rules`, and none of others; of all tenants where nothing was known.
    pub tenants: Vec<TenantId>,
    pub rules: Vec<BudgetRule>,
}

impl Known {
    pub(super) fn configure(&self, rules: Vec<BudgetRule>) {
        *self.0.configured.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    pub(super) fn change(&self) -> Option<i64> {
        self.0.stored.read().unwrap_or_else(PoisonError::into_inner).change
    }

    /// Whether it was learnt; not if somebody else has learnt more since it was asked for.
    pub(super) fn learn(&self, news: News) -> bool {
        let mut stored = self.0.stored.write().unwrap_or_else(PoisonError::into_inner);
        if stored.change != news.since {
            return false;
        }
        let mut changed: HashMap<TenantId, Vec<BudgetRule>> = HashMap::new();
        for rule in news.rules {
            // A stored one is always somebody's.
            if let Some(tenant) = rule.of.as_ref().map(|of| of.tenant.clone()) {
                changed.entry(tenant).or_default().push(rule);
            }
        }
        let mut of_tenants = HashMap::clone(&stored.of_tenants);
        for tenant in &news.tenants {
            of_tenants.remove(tenant);
        }
        of_tenants.extend(changed.into_iter().map(|(tenant, rules)| (tenant, rules.into())));
        *stored = Stored {
            change: Some(news.change),
            of_tenants: Arc::new(of_tenants),
        };
        true
    }

    pub(super) fn configured(&self) -> Arc<Vec<BudgetRule>> {
        self.0.configured.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stored(&self, tenant: &TenantId) -> Option<Arc<[BudgetRule]>> {
        let stored = self.0.stored.read().unwrap_or_else(PoisonError::into_inner);
        stored.of_tenants.get(tenant).cloned()
    }

    /// Whether any limit counts for a payer, hard or soft.
    pub(super) fn limits(&self, payer: &Payer) -> bool {
        let (configured, stored) = (self.configured(), self.stored(&payer.tenant));
        let stored = stored.as_deref().unwrap_or_default();
        if configured.is_empty() && stored.is_empty() {
            return false;
        }
        let purses = payer.purses();
        let counts = |rule: &BudgetRule| purses.iter().any(|purse| rule.counts_for(purse));
        configured.iter().chain(stored).any(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::{
        ledger::{Enforcement, PurseName, Scope, Window},
        money::Usd,
    };

    fn news(since: Option<i64>, change: i64, tenants: &[&str], limited: &[&str]) -> News {
        let rule = |tenant: &&str| BudgetRule {
            scope: Scope::Tenant,
            of: Some(PurseName {
                tenant: tenant.parse().unwrap(),
                id: None,
            }),
            window: Window::new(60, Usd::ZERO, Enforcement::Hard).unwrap(),
        };
        News {
            since,
            change,
            tenants: tenants.iter().map(|tenant| tenant.parse().unwrap()).collect(),
            rules: limited.iter().map(rule).collect(),
        }
    }

    fn limited(known: &Known) -> Vec<&'static str> {
        let payer = |tenant: &str| Payer {
            tenant: tenant.parse().unwrap(),
            project: None,
            key: None,
            session: None,
            subject: None,
        };
        ["acme", "beta", "zeta"]
            .into_iter()
            .filter(|tenant| known.limits(&payer(tenant)))
            .collect()
    }

    #[test]
    fn only_what_changed_is_learnt_and_nothing_older_than_what_is_known() {
        let known = Known::default();
        assert!(known.learn(news(None, 4, &[], &["acme", "zeta"])));
        assert!(known.learn(news(Some(4), 6, &["beta", "zeta"], &["beta"])));
        assert_eq!((limited(&known), known.change()), (vec!["acme", "beta"], Some(6)));
        assert!(!known.learn(news(Some(4), 5, &["beta"], &[])), "read before the last");
        assert_eq!((limited(&known), known.change()), (vec!["acme", "beta"], Some(6)));
    }
}
