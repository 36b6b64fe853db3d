//! Which limits count for whom.

use super::{Purse, Scope, Window};
use crate::id::TenantId;

/// Whose purses a budget is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PurseName {
    pub tenant: TenantId,
    /// Which project, key or session of it; each one where there is none.
    pub id: Option<String>,
}

/// A limit, and for whom it counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BudgetRule {
    pub scope: Scope,
    /// Each purse of that scope has this limit for itself where nobody is named.
    pub of: Option<PurseName>,
    pub window: Window,
}

impl BudgetRule {
    pub fn counts_for(&self, purse: &Purse) -> bool {
        self.scope == purse.scope
            && self
                .of
                .as_ref()
                .is_none_or(|name| name.tenant == purse.tenant && name.id.as_ref().is_none_or(|id| *id == purse.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::Enforcement, money::Usd};

    #[test]
    fn a_budget_counts_for_one_purse_for_those_of_a_tenant_or_for_each() {
        let window = Window::new(60, Usd::ZERO, Enforcement::Hard).unwrap();
        let purse = |tenant: &str, id: &str| Purse {
            tenant: tenant.parse().unwrap(),
            scope: Scope::Key,
            id: id.to_owned(),
        };
        let rule = |of: Option<(&str, Option<&str>)>| BudgetRule {
            scope: Scope::Key,
            of: of.map(|(tenant, id)| PurseName {
                tenant: tenant.parse().unwrap(),
                id: id.map(str::to_owned),
            }),
            window,
        };
        let purses = [purse("a", "k1"), purse("a", "k2"), purse("b", "k1")];
        let counts = |rule: &BudgetRule| purses.clone().map(|purse| rule.counts_for(&purse));
        assert_eq!(counts(&rule(None)), [true, true, true]);
        assert_eq!(counts(&rule(Some(("a", None)))), [true, true, false]);
        assert_eq!(counts(&rule(Some(("a", Some("k1"))))), [true, false, false]);
        let project = BudgetRule {
            scope: Scope::Project,
            ..rule(None)
        };
        assert_eq!(counts(&project), [false, false, false]);
    }
}
