//! The limits as this process knows them, so that whoever is not limited need not ask the database.

use forebay_domain::ledger::{BudgetRule, Payer};
use std::sync::{Arc, PoisonError, RwLock};

/// Cheap to clone; all clones know the same.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<Both>);

#[derive(Default)]
struct Both {
    configured: RwLock<Arc<Vec<BudgetRule>>>,
    stored: RwLock<Arc<Vec<BudgetRule>>>,
}

impl Known {
    pub(super) fn configure(&self, rules: Vec<BudgetRule>) {
        *self.0.configured.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    pub(super) fn store(&self, rules: Vec<BudgetRule>) {
        *self.0.stored.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    pub(super) fn configured(&self) -> Arc<Vec<BudgetRule>> {
        self.0.configured.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stored(&self) -> Arc<Vec<BudgetRule>> {
        self.0.stored.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether any limit counts for a payer, hard or soft.
    pub(super) fn limits(&self, payer: &Payer) -> bool {
        let (configured, stored) = (self.configured(), self.stored());
        if configured.is_empty() && stored.is_empty() {
            return false;
        }
        let purses = payer.purses();
        let counts = |rule: &BudgetRule| purses.iter().any(|purse| rule.counts_for(purse));
        configured.iter().chain(stored.iter()).any(counts)
    }
}
