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
    /// By the tenant that they are for.
    stored: RwLock<Arc<HashMap<TenantId, Vec<BudgetRule>>>>,
}

impl Known {
    pub(super) fn configure(&self, rules: Vec<BudgetRule>) {
        *self.0.configured.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    pub(super) fn store(&self, rules: Vec<BudgetRule>) {
        let mut of_tenants: HashMap<TenantId, Vec<BudgetRule>> = HashMap::new();
        for rule in rules {
            // A stored one is always somebody's.
            if let Some(tenant) = rule.of.as_ref().map(|of| of.tenant.clone()) {
                of_tenants.entry(tenant).or_default().push(rule);
            }
        }
        *self.0.stored.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(of_tenants);
    }

    pub(super) fn configured(&self) -> Arc<Vec<BudgetRule>> {
        self.0.configured.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stored(&self) -> Arc<HashMap<TenantId, Vec<BudgetRule>>> {
        self.0.stored.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether any limit counts for a payer, hard or soft.
    pub(super) fn limits(&self, payer: &Payer) -> bool {
        let (configured, stored) = (self.configured(), self.stored());
        let stored = stored.get(&payer.tenant).map_or(&[][..], Vec::as_slice);
        if configured.is_empty() && stored.is_empty() {
            return false;
        }
        let purses = payer.purses();
        let counts = |rule: &BudgetRule| purses.iter().any(|purse| rule.counts_for(purse));
        configured.iter().chain(stored.iter()).any(counts)
    }
}
