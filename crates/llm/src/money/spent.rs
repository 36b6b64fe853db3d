//! What was spent, as an answer tells it.

use forebay_domain::money::Usd;
use serde_json::{Value, json};

/// What something came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cost {
    pub(crate) usd: Usd,
    /// True where the engine gave no figures.
    pub(crate) estimated: bool,
}

/// What a turn came to so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    known: Cost,
    /// Whether something had no price.
    is_open: bool,
}

impl Spent {
    /// Adds a part; `None` where its price is unknown.
    pub(crate) fn add(&mut self, cost: Option<Cost>) {
        match cost {
            Some(cost) => {
                self.known.usd = self.known.usd.saturating_add(cost.usd);
                self.known.estimated |= cost.estimated;
            }
            None => self.is_open = true,
        }
    }

    /// As far as it is known.
    pub(crate) fn usd(&self) -> Usd {
        self.known.usd
    }

    /// The object `cost`; `null` where a price is unknown.
    pub(crate) fn value(&self) -> Value {
        if self.is_open {
            return Value::Null;
        }
        json!({ "usd": self.known.usd, "estimated": self.known.estimated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_known_where_all_of_its_parts_are() {
        let cost = |micros, estimated| {
            Some(Cost {
                usd: Usd::from_micros(micros),
                estimated,
            })
        };
        let mut spent = Spent::default();
        spent.add(cost(1_230, false));
        spent.add(cost(5_000, false));
        assert_eq!(spent.value().to_string(), r#"{"estimated":false,"usd":0.00623}"#);
        spent.add(cost(1, true));
        assert_eq!(spent.value()["estimated"], true);
        spent.add(None);
        assert_eq!(spent.value(), Value::Null);
        assert_eq!(spent.usd(), Usd::from_micros(6_231), "what is known still counts");
    }
}
