//! Which words of an index are too common to find anything by.
//!
//! In a question most words are like "the": nearly every passage has them, so they cost the most and say the least, and
//! PostgreSQL's ranking does not even know. Which words these are depends on the texts and not on a list for one language,
//! so they are learnt from a sample, and learnt again after a while. Being out of date costs time, or a little order.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::words::words;
use crate::{StoreError, db::Db, sql::on_both};

/// Passages of a sample at most.
const SAMPLE_MAX: u32 = 256;
/// With fewer than this, every word costs little and nothing is known.
const SAMPLE_MIN: usize = 32;
/// A word is common from one passage in this many.
const ONE_IN: usize = 8;
/// How long a sample is good.
const GOOD_FOR: Duration = Duration::from_mins(1);
/// Indexes that are remembered at most.
const INDEXES_MAX: usize = 1_000;

const SAMPLE: &str = "SELECT p.heading, p.text FROM passage AS p \
     WHERE p.index_id = (SELECT id FROM passage_index WHERE name = $1) AND p.id % 16 = 0 ORDER BY p.id LIMIT $2";

/// The common words of each index that was asked. Cheap to clone.
#[derive(Clone)]
pub(super) struct Common {
    db: Db,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Clone)]
struct Known {
    /// By the monotonic clock.
    at: Duration,
    /// In how many passages of the sample each common word is.
    words: Arc<HashMap<String, usize>>,
}

impl Common {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            known: Arc::default(),
        }
    }

    /// The words of a question by which something can be found. If all are common, the rarest few of them.
    pub(super) async fn without(&self, index: &str, asked: Vec<String>) -> Result<Vec<String>, StoreError> {
        let common = self.of(index).await?;
        Ok(pick(asked, &common))
    }

    async fn of(&self, index: &str) -> Result<Arc<HashMap<String, usize>>, StoreError> {
        let now = self.db.clock().monotonic();
        let known = self.lock().get(index).cloned();
        if let Some(known) = known
            && now.saturating_sub(known.at) < GOOD_FOR
        {
            return Ok(known.words);
        }
        let rows: Vec<(Option<String>, String)> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| sqlx::query_as(SAMPLE)
                    .bind(index)
                    .bind(i64::from(SAMPLE_MAX))
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        let sample = rows
            .iter()
            .map(|(heading, text)| (heading.as_deref().unwrap_or_default(), text.as_str()));
        let found = Known {
            at: now,
            words: Arc::new(common_of(sample)),
        };
        let mut known = self.lock();
        if known.len() >= INDEXES_MAX {
            known.clear();
        }
        known.insert(index.to_owned(), found.clone());
        Ok(found.words)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn common_of<'a>(sample: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> HashMap<String, usize> {
    let size = sample.len();
    if size < SAMPLE_MIN {
        return HashMap::new();
    }
    let mut passages: HashMap<String, usize> = HashMap::new();
    for (heading, text) in sample {
        let distinct: HashSet<String> = words(heading).into_iter().chain(words(text)).collect();
        for word in distinct {
            *passages.entry(word).or_default() += 1;
        }
    }
    passages.retain(|_, count| *count * ONE_IN >= size);
    passages
}

fn pick(asked: Vec<String>, common: &HashMap<String, usize>) -> Vec<String> {
    let rare: Vec<String> = asked
        .iter()
        .filter(|word| !common.contains_key(*word))
        .cloned()
        .collect();
    if !rare.is_empty() {
        return rare;
    }
    let mut all = asked;
    all.sort_by_key(|word| common.get(word).copied().unwrap_or_default());
    all.truncate(2);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Vec<String> {
        words(text)
    }

    #[test]
    fn what_every_passage_has_finds_nothing() {
        let texts: Vec<String> = (0..64).map(|n| format!("the key number {n}, of {}", n % 10)).collect();
        let common = common_of(texts.iter().map(|text| ("Keys", text.as_str())));
        assert_eq!(pick(asked("the key of the door 17"), &common), ["door", "17"]);
        assert_eq!(common.get("keys"), Some(&64));
        assert!(!common.contains_key("3"), "one in ten is not common: {common:?}");
    }

    #[test]
    fn a_question_of_common_words_alone_keeps_the_rarest() {
        let common = [("the", 60), ("is", 40), ("key", 9)].map(|(word, count)| (word.to_owned(), count));
        assert_eq!(pick(asked("the key is"), &common.into()), ["key", "is"]);
    }

    #[test]
    fn little_is_known_from_a_small_sample() {
        let texts = vec![("", "the"); SAMPLE_MIN - 1];
        assert!(common_of(texts.into_iter()).is_empty());
    }
}
