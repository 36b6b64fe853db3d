//! What a request came to, by what is known of its answer. Pure.

use super::{
    price::{Prices, Tokens},
    spent::Cost,
};
use forebay_domain::money::Usd;

/// What is known of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// What the engine says that it used.
    pub(crate) used: Option<Tokens>,
    /// Bytes of what it said.
    pub(crate) said: u64,
    /// Whether the engine is known to tell each word of such an answer as soon as there is one.
    pub(crate) is_open: bool,
    /// Whether the gateway has read all that the engine had to say, and waits for more.
    pub(crate) is_heard: bool,
    /// Whether all of it came.
    pub(crate) is_whole: bool,
}

impl Told {
    /// Whether the engine has done no more than what was read of it. Engines think, write calls of tools and hold words
    /// back without a byte of it being seen, and what lies unread in a connection is seen by nobody: where it is not known
    /// that there is no such thing, the answer may have been any.
    fn is_all(&self) -> bool {
        self.is_whole || (self.is_open && self.is_heard)
    }
}

/// What a request comes to that an engine has begun to answer. Where the engine has told what it used, that; more than
/// was held, where it is more. Otherwise an estimate in the operator's favour: all of the input, and a token for each byte
/// that was said, where that is known to be all; and all that was held where nobody knows.
pub(super) fn verdict(told: Told, prices: Prices, most: Tokens, held: Usd) -> Cost {
    let estimated = |usd| Cost { usd, estimated: true };
    let estimate = |tokens: Tokens| prices.most(tokens).min(held);
    let output = if told.is_all() {
        told.said
    } else {
        told.said.max(most.output)
    };
    match told.used {
        Some(used) if told.is_whole => Cost {
            usd: prices.cost(used),
            estimated: false,
        },
        Some(used) => {
            // Some engines begin with figures of nothing.
            let input = if used.input == 0 { most.input } else { used.input };
            let may_be = used.max(Tokens::new(input, output));
            estimated(prices.cost(used).max(estimate(may_be)))
        }
        None => estimated(estimate(Tokens::new(most.input, output))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Usd = Usd::from_micros(5_000);

    fn check(told: Told, expected: (i64, bool)) {
        let config = serde_json::from_str(r#"{"input":1,"output":2}"#).unwrap();
        let most = Tokens::new(1_000, 2_000);
        let cost = verdict(told, Prices::from(&config), most, HELD);
        assert_eq!((cost.usd.micros(), cost.estimated), expected, "{told:?}");
    }

    #[test]
    fn what_the_engine_tells_counts() {
        let told = Told {
            used: Some(Tokens::new(100, 10)),
            is_whole: true,
            ..Told::default()
        };
        check(told, (120, false));
        let above = Told {
            used: Some(Tokens::new(100, 10_000)),
            ..told
        };
        check(above, (20_100, false));
    }

    #[test]
    fn what_was_said_is_all_only_where_that_is_known() {
        let cut = Told {
            said: 50,
            is_open: true,
            is_heard: true,
            ..Told::default()
        };
        check(cut, (1_102, true));
        check(Told { said: 9_000, ..cut }, (5_000, true));
        check(Told { is_open: false, ..cut }, (5_000, true));
        check(Told { is_heard: false, ..cut }, (5_000, true));
        check(
            Told {
                said: 0,
                is_open: false,
                ..cut
            },
            (5_000, true),
        );
        let whole = Told {
            is_whole: true,
            is_open: false,
            is_heard: false,
            ..cut
        };
        check(whole, (1_102, true));
    }

    #[test]
    fn figures_of_a_beginning_are_no_bound() {
        let begun = Told {
            used: Some(Tokens::new(40, 1)),
            said: 50,
            is_open: true,
            is_heard: true,
            ..Told::default()
        };
        check(begun, (142, true));
        check(
            Told {
                is_open: false,
                ..begun
            },
            (4_042, true),
        );
        let nothing = Told {
            used: Some(Tokens::default()),
            ..begun
        };
        check(nothing, (1_102, true));
        let dear = Told {
            used: Some(Tokens::new(40, 9_000)),
            ..begun
        };
        check(dear, (18_040, true));
    }
}
