//! What several providers found becomes one list within a budget. Pure.
//!
//! Fused by rank, equal texts once, best first. A token is taken to be four bytes, rounded up: a budget for a prompt
//! need not be an upper bound, as a hold of money must.

use crate::{fuse::fuse, item::Item};
use forebay_domain::context::ContextItem;

const BYTES_A_TOKEN: usize = 4;
/// What an item takes beside its text: its mark, source and title in the prompt.
const TOKENS_AN_ITEM: usize = 8;
/// An item that would be cut to less than this is left out.
const CUT_TOKENS_MIN: usize = 32;
/// Stands where a text was cut.
pub(crate) const CUT_MARK: &str = " […]";

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) items_max: usize,
    pub(crate) tokens_max: usize,
}

/// What one provider found, best first.
pub(crate) struct Found<'a> {
    pub(crate) provider: &'a str,
    pub(crate) items: &'a [Item],
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Joined {
    pub(crate) items: Vec<ContextItem>,
    pub(crate) left_out: usize,
    pub(crate) tokens: usize,
}

pub(crate) fn join(found: &[Found<'_>], budget: Budget) -> Joined {
    let lists = found
        .iter()
        .map(|one| one.items.iter().map(|item| (one.provider, item)).collect())
        .collect();
    let ranked = fuse(lists, |(_, item): &(&str, &Item)| same(&item.text));
    let share_max = if ranked.len() > 1 {
        budget.tokens_max.div_ceil(2)
    } else {
        budget.tokens_max
    };
    let mut joined = Joined::default();
    for ((provider, item), score) in ranked {
        let room = (budget.tokens_max - joined.tokens).min(share_max);
        let text = (joined.items.len() < budget.items_max)
            .then(|| fit(&item.text, room))
            .flatten();
        let Some(text) = text else {
            joined.left_out += 1;
            continue;
        };
        joined.tokens += cost(&text);
        joined.items.push(ContextItem {
            provider: provider.to_owned(),
            id: item.id.clone(),
            text,
            score,
            source: item.source.clone(),
            title: item.title.clone(),
        });
    }
    joined
}

/// Texts that differ in their spaces alone are one.
fn same(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn cost(text: &str) -> usize {
    text.len().div_ceil(BYTES_A_TOKEN) + TOKENS_AN_ITEM
}

/// The text, or as much of it as there is room for.
fn fit(text: &str, tokens: usize) -> Option<String> {
    if cost(text) <= tokens {
        return Some(text.to_owned());
    }
    if tokens < CUT_TOKENS_MIN + TOKENS_AN_ITEM {
        return None;
    }
    let bytes_max = (tokens - TOKENS_AN_ITEM) * BYTES_A_TOKEN - CUT_MARK.len();
    Some(format!("{}{CUT_MARK}", shorten(text, bytes_max)))
}

/// The beginning of a text up to the end of a sentence, or else of a word, or else of a character. A sentence's end that
/// would cost more than half of the room is passed over.
pub(crate) fn shorten(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let window = &text[..text.floor_char_boundary(bytes_max)];
    let sentence = window
        .char_indices()
        .zip(
            window
                .chars()
                .skip(1)
                .map(Some)
                .chain([text[window.len()..].chars().next()]),
        )
        .filter(|((_, c), next)| {
            matches!(c, '\n' | '。' | '！' | '？')
                || (matches!(c, '.' | '!' | '?') && next.is_some_and(char::is_whitespace))
        })
        .map(|((at, c), _)| at + c.len_utf8())
        .last();
    let word = window.rfind(char::is_whitespace);
    let end = sentence
        .filter(|end| *end >= bytes_max / 2)
        .or(word.filter(|end| *end > 0 && *end >= bytes_max / 2))
        .unwrap_or(window.len());
    window[..end].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(texts: &[&str]) -> Vec<Item> {
        let item = |(n, text): (usize, &&str)| Item::new(&n.to_string(), text, "s", None);
        texts.iter().enumerate().filter_map(item).collect()
    }

    fn joined(found: &[(&str, &[&str])], items_max: usize, tokens_max: usize) -> Joined {
        let lists: Vec<_> = found
            .iter()
            .map(|(provider, texts)| (*provider, items(texts)))
            .collect();
        let found: Vec<_> = lists
            .iter()
            .map(|(provider, items)| Found { provider, items })
            .collect();
        join(&found, Budget { items_max, tokens_max })
    }

    fn shown(joined: &Joined) -> String {
        let one = |item: &ContextItem| format!("{}:{}", item.provider, item.text);
        joined.items.iter().map(one).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn providers_take_turns_and_what_two_know_comes_first() {
        let found = joined(&[("a", &["one", "two"]), ("b", &["three", "Two "])], 10, 1000);
        assert_eq!(shown(&found), "a:two | a:one | b:three");
        assert_eq!(found.left_out, 0);
        assert_eq!(found.tokens, 3 * TOKENS_AN_ITEM + 1 + 1 + 2);
    }

    #[test]
    fn a_budget_holds_by_number_and_by_tokens() {
        let found = joined(&[("a", &["one", "two", "three"])], 2, 1000);
        assert_eq!((found.items.len(), found.left_out), (2, 1));
        let long = "All work and no play. ".repeat(100);
        let found = joined(&[("a", &[&long])], 5, 50);
        assert!(found.items[0].text.ends_with("no play. […]"), "{}", found.items[0].text);
        assert!(found.tokens <= 50);
        // One long text does not keep the others out.
        let found = joined(&[("a", &[&long, "short"])], 5, 100);
        assert_eq!((found.items.len(), found.left_out), (2, 0));
        assert_eq!(found.items[1].text, "short");
        let found = joined(&[("a", &[&long])], 5, 20);
        assert_eq!((found.items.len(), found.left_out, found.tokens), (0, 1, 0));
    }

    #[test]
    fn a_text_is_cut_where_a_reader_would() {
        let check = |text: &str, bytes_max: usize, expected: &str| assert_eq!(shorten(text, bytes_max), expected);
        check("One. Two three four.", 15, "One. Two three");
        check("One two. Three four.", 15, "One two.");
        check("Version 1.5 is there now", 12, "Version 1.5");
        check("Unbrechbareswort", 8, "Unbrechb");
        check("ééééé", 5, "éé");
        check("東京は首都。大阪は", 20, "東京は首都。");
        check("short", 100, "short");
    }

    proptest! {
        #[test]
        fn no_budget_is_ever_exceeded(texts in prop::collection::vec(".{0,400}", 0..12), items_max in 1_usize..8, tokens_max in 1_usize..400) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let found = joined(&[("a", &texts[..texts.len() / 2]), ("b", &texts[texts.len() / 2..])], items_max, tokens_max);
            prop_assert!(found.tokens <= tokens_max);
            prop_assert!(found.items.len() <= items_max);
            prop_assert_eq!(found.tokens, found.items.iter().map(|item| cost(&item.text)).sum::<usize>());
        }
    }
}
