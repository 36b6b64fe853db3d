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
    /// Whether its words came one by one, so that those that came are all that there was.
    pub(crate) is_streamed: bool,
    /// Whether all of it came.
    pub(crate) is_whole: bool,
}

/// What a request comes to. Where the engine has told what it used, that; more than was held, where it is more.
/// Otherwise an estimate in the operator's favour: all of the input, and a token for each byte that was said. Of an answer
/// in one piece that never came nobody has seen how much there was, so that all that was held counts.
pub(super) fn verdict(told: Told, prices: Prices, most: Tokens, held: Usd, may_have_been_done: bool) -> Cost {
    let estimate = |tokens: Tokens| prices.most(tokens).min(held);
    match told.used {
        Some(used) if told.is_whole => Cost {
            usd: prices.cost(used),
            estimated: false,
        },
        Some(used) => Cost {
            usd: prices.cost(used).max(estimate(used.max(Tokens::new(0, told.said)))),
            estimated: true,
        },
        None if !may_have_been_done => Cost::default(),
        None if told.is_whole || told.is_streamed => Cost {
            usd: estimate(Tokens::new(most.input, told.said)),
            estimated: true,
        },
        None => Cost {
            usd: estimate(most),
            estimated: true,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Usd = Usd::from_micros(5_000);

    fn check(told: Told, may_have_been_done: bool, expected: (i64, bool)) {
        let config = serde_json::from_str(r#"{"input":1,"output":2}"#).unwrap();
        let most = Tokens::new(1_000, 2_000);
        let cost = verdict(told, Prices::from(&config), most, HELD, may_have_been_done);
        assert_eq!((cost.usd.micros(), cost.estimated), expected, "{told:?}");
    }

    #[test]
    fn what_the_engine_tells_counts() {
        let told = Told {
            used: Some(Tokens::new(100, 10)),
            is_whole: true,
            ..Told::default()
        };
        check(told, true, (120, false));
        let above = Told {
            used: Some(Tokens::new(100, 10_000)),
            ..told
        };
        check(above, true, (20_100, false));
    }

    #[test]
    fn what_it_does_not_tell_is_estimated_and_within_what_was_held() {
        let cut = Told {
            said: 50,
            is_streamed: true,
            ..Told::default()
        };
        check(cut, true, (1_102, true));
        check(Told { said: 9_000, ..cut }, true, (5_000, true));
        check(Told { is_whole: true, ..cut }, true, (1_102, true));
        let begun = Told {
            used: Some(Tokens::new(40, 1)),
            ..cut
        };
        check(begun, true, (142, true));
        let dear = Told {
            used: Some(Tokens::new(40, 9_000)),
            ..cut
        };
        check(dear, true, (18_040, true));
    }

    #[test]
    fn an_answer_that_never_came_may_have_been_any_as_long_as_it_was_asked_for() {
        check(Told::default(), true, (5_000, true));
        check(Told::default(), false, (0, false));
    }
}
