//! What tokens cost.

use crate::config::PriceConfig;
use forebay_domain::{event::Usage, money::Usd, price::Price};
use std::fmt;

/// What one request used, or may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tokens {
    /// All of the input, whatever became of it.
    pub(crate) input: u64,
    /// Of that: what the engine had read before.
    pub(crate) cached: u64,
    /// Of that: what the engine keeps for later.
    pub(crate) written: u64,
    pub(crate) output: u64,
}

impl Tokens {
    pub(crate) fn new(input: u64, output: u64) -> Self {
        Self {
            input,
            output,
            ..Self::default()
        }
    }

    /// Of each figure the larger one.
    #[must_use]
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cached: self.cached.max(other.cached),
            written: self.written.max(other.written),
            output: self.output.max(other.output),
        }
    }
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        Self {
            input_tokens: tokens.input,
            output_tokens: tokens.output,
            estimated: false,
        }
    }
}

/// The prices of one model: dollars for a million tokens, and for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prices {
    input: Usd,
    output: Usd,
    cached: Usd,
    written: Usd,
    request: Usd,
}

impl From<&PriceConfig> for Prices {
    fn from(config: &PriceConfig) -> Self {
        let or_input = |price: Option<Price>| price.unwrap_or(config.input).usd();
        Self {
            input: config.input.usd(),
            output: config.output.usd(),
            cached: or_input(config.cached_input),
            written: or_input(config.cache_write),
            request: config.per_request.unwrap_or_default().usd(),
        }
    }
}

impl fmt::Display for Prices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${} in and ${} out for a million tokens", self.input, self.output)?;
        match self.request {
            Usd::ZERO => Ok(()),
            request => write!(f, " and ${request} a request"),
        }
    }
}

impl Prices {
    pub(crate) fn is_free(&self) -> bool {
        let all = [self.input, self.output, self.cached, self.written, self.request];
        all.iter().all(|price| *price == Usd::ZERO)
    }

    /// What an engine's own figures come to. Each part is rounded up.
    pub(crate) fn cost(&self, tokens: Tokens) -> Usd {
        let fresh = tokens
            .input
            .saturating_sub(tokens.cached)
            .saturating_sub(tokens.written);
        let parts = [
            part(self.input, fresh),
            part(self.cached, tokens.cached.min(tokens.input)),
            part(self.written, tokens.written.min(tokens.input)),
            part(self.output, tokens.output),
            self.request,
        ];
        parts.into_iter().sum()
    }

    /// The most that so many tokens come to, whatever of the input is cached. Nothing that uses no more of either sort
    /// costs more, however its parts are rounded.
    pub(crate) fn most(&self, tokens: Tokens) -> Usd {
        /// An input in three parts is rounded up three times.
        const ROUNDED: Usd = Usd::from_micros(2);
        let dearest = self.input.max(self.cached).max(self.written);
        let slack = if dearest == Usd::ZERO { Usd::ZERO } else { ROUNDED };
        let parts = [
            part(dearest, tokens.input),
            slack,
            part(self.output, tokens.output),
            self.request,
        ];
        parts.into_iter().sum()
    }
}

fn part(price: Usd, tokens: u64) -> Usd {
    price.per_million(tokens).unwrap_or(Usd::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prices(json: &str) -> Prices {
        Prices::from(&serde_json::from_str::<PriceConfig>(json).unwrap())
    }

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    #[test]
    fn tokens_cost_what_they_are() {
        let plain = prices(r#"{"input":3,"output":15}"#);
        assert_eq!(plain.cost(Tokens::new(1_000, 100)), usd("0.0045"));
        let all = prices(r#"{"input":3,"output":15,"cached_input":0.3,"cache_write":3.75,"per_request":0.01}"#);
        let tokens = Tokens {
            input: 3_000,
            cached: 1_000,
            written: 1_000,
            output: 100,
        };
        assert_eq!(all.cost(tokens), usd("0.01855"));
        assert_eq!(plain.cost(tokens), usd("0.0105"), "cached input costs what input does");
        assert_eq!(all.most(tokens), usd("0.022752"), "all of it may be written");
        assert_eq!(plain.cost(Tokens::new(1, 0)), Usd::from_micros(3));
    }

    #[test]
    fn only_zeros_are_free() {
        assert!(prices(r#"{"input":0,"output":0}"#).is_free());
        assert!(!prices(r#"{"input":0,"output":0,"per_request":0.001}"#).is_free());
        assert!(!prices(r#"{"input":0,"output":0,"cache_write":1}"#).is_free());
        assert_eq!(prices(r#"{"input":0,"output":0}"#).most(Tokens::new(9, 9)), Usd::ZERO);
    }

    #[test]
    fn more_tokens_than_money_can_pay_for_cost_more_than_there_is() {
        let cost = prices(r#"{"input":3,"output":15}"#).cost(Tokens::new(u64::MAX, u64::MAX));
        assert!(cost >= Usd::MAX);
    }

    prop_compose! {
        fn some_prices()(input in 0_i64..1_000_000_000, output in 0_i64..1_000_000_000, cached in 0_i64..1_000_000_000,
            written in 0_i64..1_000_000_000, request in 0_i64..1_000_000) -> Prices {
            let [input, output, cached, written, request] = [input, output, cached, written, request].map(Usd::from_micros);
            Prices { input, output, cached, written, request }
        }
    }

    proptest! {
        #[test]
        fn what_is_held_covers_all_that_uses_no_more(
            prices in some_prices(),
            input in 0_u64..1_000_000, output in 0_u64..1_000_000,
            cached in 0_u64..1_000_000, written in 0_u64..1_000_000, more in 0_u64..1_000_000,
        ) {
            let cached = cached.min(input);
            let used = Tokens { input, cached, written: written.min(input - cached), output };
            prop_assert!(prices.most(Tokens::new(input + more, output + more)) >= prices.cost(used));
        }
    }
}
