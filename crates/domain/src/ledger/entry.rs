//! Double entry: what each movement of money adds to the accounts, always zero in sum.

use crate::money::Usd;

/// Where money stands. A purse has one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// What is promised and may yet be spent.
    Hold,
    /// What was spent.
    Spend,
    /// What a provider's own bill said beyond that, or below.
    Adjustment,
    /// The other side of all of these: below zero by what is owed and promised.
    Provider,
}

impl Account {
    pub const ALL: [Self; 4] = [Self::Hold, Self::Spend, Self::Adjustment, Self::Provider];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Spend => "spend",
            Self::Adjustment => "adjustment",
            Self::Provider => "provider",
        }
    }

    /// Whether windows count it as posted.
    pub fn is_posted(self) -> bool {
        matches!(self, Self::Spend | Self::Adjustment)
    }
}

/// One line of the ledger; never changed, never removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub account: Account,
    pub amount: Usd,
}

/// What happens to money. Amounts are not negative, but for an adjustment, and where too much had accrued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// Sets aside the most that something may cost.
    Hold { amount: Usd },
    /// Changes what is set aside, for something that goes on.
    Rehold { before: Usd, after: Usd },
    /// Ends a hold at what it came to, which may be more than was held.
    Settle { held: Usd, actual: Usd },
    /// Ends a hold of which nothing was spent.
    Void { held: Usd },
    /// Spends a part of a hold that stays open: something accrues, and so much less of it is still to come.
    Accrue { held: Usd, amount: Usd },
    /// Spends what nothing was set aside for.
    Post { amount: Usd },
    /// Gives back what was spent earlier; windows take it off at the time of the spending.
    Refund { amount: Usd },
    /// What the provider's bill says beyond what was posted.
    Adjust { difference: Usd },
}

impl Movement {
    /// The entries of it, without those of nothing.
    pub fn entries(self) -> Vec<Entry> {
        let negative = |amount: Usd| Usd::ZERO.saturating_sub(amount);
        let pairs: &[(Account, Usd)] = &match self {
            Self::Hold { amount } => [(Account::Hold, amount), (Account::Spend, Usd::ZERO)],
            Self::Rehold { before, after } => [
                (Account::Hold, after.saturating_sub(before)),
                (Account::Spend, Usd::ZERO),
            ],
            Self::Settle { held, actual } => [(Account::Hold, negative(held)), (Account::Spend, actual)],
            Self::Void { held } => [(Account::Hold, negative(held)), (Account::Spend, Usd::ZERO)],
            Self::Accrue { held, amount } => [(Account::Hold, negative(held)), (Account::Spend, amount)],
            Self::Post { amount } => [(Account::Hold, Usd::ZERO), (Account::Spend, amount)],
            Self::Refund { amount } => [(Account::Hold, Usd::ZERO), (Account::Spend, negative(amount))],
            Self::Adjust { difference } => [(Account::Hold, Usd::ZERO), (Account::Adjustment, difference)],
        };
        let both = |(account, amount): &(Account, Usd)| {
            let own = Entry {
                account: *account,
                amount: *amount,
            };
            let other = Entry {
                account: Account::Provider,
                amount: negative(*amount),
            };
            [own, other]
        };
        let is_something = |entry: &Entry| entry.amount != Usd::ZERO;
        pairs.iter().flat_map(both).filter(is_something).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(entries: &[Entry], account: Account) -> i64 {
        let amounts = entries.iter().filter(|entry| entry.account == account);
        amounts.map(|entry| entry.amount.micros()).sum()
    }

    fn movement() -> impl Strategy<Value = Movement> {
        let amount = || (0..=Usd::MAX.micros()).prop_map(Usd::from_micros);
        prop_oneof![
            amount().prop_map(|amount| Movement::Hold { amount }),
            (amount(), amount()).prop_map(|(before, after)| Movement::Rehold { before, after }),
            (amount(), amount()).prop_map(|(held, actual)| Movement::Settle { held, actual }),
            amount().prop_map(|held| Movement::Void { held }),
            (amount(), amount()).prop_map(|(held, amount)| Movement::Accrue { held, amount }),
            amount().prop_map(|amount| Movement::Post { amount }),
            amount().prop_map(|amount| Movement::Refund { amount }),
            (-Usd::MAX.micros()..=Usd::MAX.micros()).prop_map(|micros| Movement::Adjust {
                difference: Usd::from_micros(micros)
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_movement_sums_to_zero(movement in movement()) {
            let entries = movement.entries();
            prop_assert_eq!(entries.iter().map(|entry| entry.amount.micros()).sum::<i64>(), 0);
            prop_assert!(entries.iter().all(|entry| entry.amount != Usd::ZERO));
        }
    }

    #[test]
    fn a_hold_that_is_settled_leaves_what_was_spent() {
        let (held, actual) = (Usd::from_micros(500), Usd::from_micros(730));
        let mut all = Movement::Hold { amount: held }.entries();
        assert_eq!((of(&all, Account::Hold), of(&all, Account::Provider)), (500, -500));
        all.extend(Movement::Settle { held, actual }.entries());
        assert_eq!(of(&all, Account::Hold), 0);
        assert_eq!((of(&all, Account::Spend), of(&all, Account::Provider)), (730, -730));
        all.extend(Movement::Refund { amount: actual }.entries());
        assert!(Account::ALL.iter().all(|account| of(&all, *account) == 0));
    }
}
