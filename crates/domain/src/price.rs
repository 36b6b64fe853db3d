//! A price as the operator writes it: an exact amount that is not below zero.
//!
//! A provider's own figures are rounded; a price is read as it stands or refused. Digits behind the sixth are none that
//! anybody meant: they come of computing with floats, and what they round to is not the price that was agreed on.

use crate::money::{MoneyFault, Rounding, Usd};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// US dollars for one of something, or for a million of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(Usd);

/// What is no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceFault {
    #[error(transparent)]
    Money(#[from] MoneyFault),
    #[error("{0} is below zero, and no price is")]
    Negative(Usd),
    #[error("{0} has more than six digits behind the point: write the price that you mean")]
    TooExact(String),
}

impl Price {
    pub const FREE: Self = Self(Usd::ZERO);

    pub const fn usd(self) -> Usd {
        self.0
    }
}

impl FromStr for Price {
    type Err = PriceFault;

    fn from_str(text: &str) -> Result<Self, PriceFault> {
        let amount = Usd::parse(text, Rounding::Down)?;
        if amount.is_negative() {
            return Err(PriceFault::Negative(amount));
        }
        if Usd::parse(text, Rounding::Up)? != amount {
            return Err(PriceFault::TooExact(text.to_owned()));
        }
        Ok(Self(amount))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.0)
    }
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Price {
    /// A number, or a text with one. What YAML calls `.nan` or `.inf` is neither.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::String(text) => text,
            other => return Err(de::Error::custom(MoneyFault::Malformed(other.to_string()))),
        };
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_read_as_it_stands() {
        for (json, expected) in [
            ("0.15", "0.15"),
            ("0", "0.00"),
            ("\"2.50\"", "2.50"),
            ("1e-6", "0.000001"),
        ] {
            let price: Price = serde_json::from_str(json).unwrap();
            assert_eq!(price.usd().to_string(), expected, "{json}");
            assert_eq!(
                serde_json::from_str::<Price>(&serde_json::to_string(&price).unwrap()).unwrap(),
                price
            );
        }
    }

    #[test]
    fn what_is_no_price_is_refused_and_says_why() {
        for (json, expected) in [
            ("-0.1", "below zero"),
            ("0.30000000000000004", "more than six digits"),
            ("1e-7", "more than six digits"),
            ("\"NaN\"", "no decimal number"),
            ("\"$1\"", "no decimal number"),
            ("null", "no decimal number"),
            ("1e10", "more money"),
        ] {
            let refused = serde_json::from_str::<Price>(json).unwrap_err().to_string();
            assert!(refused.contains(expected), "{json}: {refused}");
        }
    }
}
