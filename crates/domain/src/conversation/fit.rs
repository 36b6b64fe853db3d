//! Which nodes of a conversation a model gets to read, where not all of them have room. Pure.
//!
//! What the system says always stays, and so does what is asked now. Of the rest the newest stay, without a gap, beginning
//! with something that a user said: an answer whose question is gone makes no sense, and some models refuse it.

use super::NodeRole;

/// A token is taken to be four bytes, rounded up: a budget for a prompt need not be an upper bound, as a hold of money
/// must.
const BYTES_A_TOKEN: usize = 4;
/// What a message takes beside its text: its role, and the marks around it.
const TOKENS_A_MESSAGE: usize = 4;

/// What is left out where a conversation is longer than its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Truncation {
    /// The oldest nodes.
    #[default]
    Oldest,
    /// The oldest nodes but for the first: what the conversation is about is often said there.
    Middle,
    /// Nothing: such a prompt is refused.
    Refuse,
}

/// A node, as far as choosing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weighed {
    pub role: NodeRole,
    pub tokens: usize,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted {
    /// Places of the nodes that stay, in order.
    pub kept: Vec<usize>,
    pub left_out: usize,
    /// What the kept ones take.
    pub tokens: usize,
}

/// Why no choice fits: so many tokens there are at least, and so many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfit {
    pub tokens: usize,
    pub tokens_max: usize,
}

/// What a message of this text takes, estimated.
pub fn tokens_of(text: &str) -> usize {
    text.len().div_ceil(BYTES_A_TOKEN) + TOKENS_A_MESSAGE
}

/// Chooses among `nodes`, of which the last one is what is asked now.
pub fn fit(nodes: &[Weighed], tokens_max: usize, truncation: Truncation) -> Result<Fitted, Misfit> {
    let whole = sum(nodes.iter());
    if whole <= tokens_max {
        return Ok(Fitted {
            kept: (0..nodes.len()).collect(),
            left_out: 0,
            tokens: whole,
        });
    }
    let first_spoken = nodes.iter().position(|node| node.role != NodeRole::System);
    let stays = |place: usize| {
        nodes[place].role == NodeRole::System
            || place + 1 == nodes.len()
            || (truncation == Truncation::Middle && Some(place) == first_spoken)
    };
    let mut tokens = sum(nodes
        .iter()
        .enumerate()
        .filter(|(place, _)| stays(*place))
        .map(|(_, node)| node));
    if truncation == Truncation::Refuse || tokens > tokens_max {
        let tokens = if truncation == Truncation::Refuse {
            whole
        } else {
            tokens
        };
        return Err(Misfit { tokens, tokens_max });
    }
    let mut begins = nodes.len();
    for place in (0..nodes.len()).rev().filter(|place| !stays(*place)) {
        if tokens.saturating_add(nodes[place].tokens) > tokens_max {
            break;
        }
        tokens += nodes[place].tokens;
        begins = place;
    }
    let question = (begins..nodes.len()).find(|place| nodes[*place].role == NodeRole::User);
    let begins = question.unwrap_or(nodes.len());
    let kept: Vec<usize> = (0..nodes.len())
        .filter(|place| *place >= begins || stays(*place))
        .collect();
    Ok(Fitted {
        left_out: nodes.len() - kept.len(),
        tokens: sum(kept.iter().map(|place| &nodes[*place])),
        kept,
    })
}

fn sum<'a>(nodes: impl Iterator<Item = &'a Weighed>) -> usize {
    nodes.fold(0, |sum, node| sum.saturating_add(node.tokens))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `s5 u3 a4`: roles by their first letters, and tokens.
    fn nodes(text: &str) -> Vec<Weighed> {
        let read = |word: &str| {
            let (role, tokens) = word.split_at(1);
            let role = NodeRole::ALL
                .into_iter()
                .find(|one| one.as_str().starts_with(role))
                .unwrap();
            Weighed {
                role,
                tokens: tokens.parse().unwrap(),
            }
        };
        text.split_whitespace().map(read).collect()
    }

    fn check(conversation: &str, tokens_max: usize, truncation: Truncation, expected: &str) {
        let all = nodes(conversation);
        let words: Vec<&str> = conversation.split_whitespace().collect();
        let told = match fit(&all, tokens_max, truncation) {
            Ok(fitted) => {
                assert_eq!(fitted.left_out + fitted.kept.len(), all.len());
                fitted
                    .kept
                    .iter()
                    .map(|place| words[*place])
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            Err(misfit) => format!("{} > {}", misfit.tokens, misfit.tokens_max),
        };
        assert_eq!(told, expected, "{conversation} within {tokens_max}, {truncation:?}");
    }

    #[test]
    fn what_fits_stays_whole() {
        for truncation in [Truncation::Oldest, Truncation::Middle, Truncation::Refuse] {
            check("a1 s2 u3", 6, truncation, "a1 s2 u3");
        }
    }

    #[test]
    fn the_oldest_go_and_the_system_stays() {
        check("s5 u3 a4 s2 u3 a4 u2", 16, Truncation::Oldest, "s5 s2 u3 a4 u2");
        check("s5 u3 a4 u3 a4 u2", 7, Truncation::Oldest, "s5 u2");
        // The answer has room, and its question has not.
        check("s5 u9 a1 u2", 9, Truncation::Oldest, "s5 u2");
        // A call of a tool goes with what it answered.
        check("u9 a1 t1 u2", 5, Truncation::Oldest, "u2");
    }

    #[test]
    fn the_first_question_stays_where_the_middle_goes() {
        check("s5 u3 a4 u3 a4 u2", 17, Truncation::Middle, "s5 u3 u3 a4 u2");
        check("s5 u3 a4 u3 a4 u2", 10, Truncation::Middle, "s5 u3 u2");
    }

    #[test]
    fn what_cannot_fit_is_refused() {
        check("s5 u3 a4 u2", 6, Truncation::Oldest, "7 > 6");
        check("s5 u3 a4 u2", 9, Truncation::Middle, "10 > 9");
        check("s5 u3 a4 u2", 13, Truncation::Refuse, "14 > 13");
        check("", 0, Truncation::Oldest, "");
    }

    fn role() -> impl Strategy<Value = NodeRole> {
        prop::sample::select(NodeRole::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_choice_is_within_its_budget_and_keeps_what_must_stay(
            roles in prop::collection::vec((role(), 0_usize..40), 1..30),
            tokens_max in 0_usize..400,
            middle: bool,
        ) {
            let all: Vec<Weighed> = roles.into_iter().map(|(role, tokens)| Weighed { role, tokens }).collect();
            let truncation = if middle { Truncation::Middle } else { Truncation::Oldest };
            let must: usize = all.iter().enumerate()
                .filter(|(place, node)| node.role == NodeRole::System || place + 1 == all.len())
                .map(|(_, node)| node.tokens).sum();
            match fit(&all, tokens_max, truncation) {
                Ok(fitted) => {
                    prop_assert!(fitted.tokens <= tokens_max);
                    prop_assert!(fitted.kept.is_sorted());
                    prop_assert!(fitted.kept.contains(&(all.len() - 1)));
                    for (place, node) in all.iter().enumerate() {
                        prop_assert!(node.role != NodeRole::System || fitted.kept.contains(&place));
                    }
                    if fitted.left_out == 0 {
                        prop_assert_eq!(fitted.tokens, all.iter().map(|node| node.tokens).sum::<usize>());
                    }
                }
                Err(misfit) => {
                    prop_assert!(misfit.tokens > tokens_max);
                    prop_assert!(middle || must > tokens_max);
                }
            }
        }
    }
}
