//! Which tool has which words, and how well a tool fits a query.
//!
//! The measure is BM25 over weighted fields: a word in the name counts more than one in the description, a rare word
//! more than a frequent one. A word of the query also meets words that begin with it, and those that it begins with but
//! for an ending, for less. Equal scores are in the order of names, so that the same question has the same answer.

use super::words::words;
use crate::{index::Listed, source::Tool};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

/// How much a word counts by where it stands.
const IN_NAME: f64 = 4.0;
const IN_TITLE: f64 = 3.0;
const IN_ARGUMENT: f64 = 1.5;
const IN_DESCRIPTION: f64 = 1.0;

/// The two parameters of BM25: how soon more of the same stops counting, and how much long texts are held down.
const SATURATION: f64 = 1.2;
const LENGTH: f64 = 0.5;

/// What a word counts that is not the very word of the query.
const ALIKE: f64 = 0.5;

/// A tool that is asked for by its whole name comes first, whatever else is asked.
const WHOLE_NAME: f64 = 100.0;

const QUERY_WORDS_MAX: usize = 32;

/// How many words that begin with a word of the query are looked at.
const LONGER_MAX: usize = 200;

/// How long an ending may be, in bytes, and how much has to stand before it.
const ENDING_BYTES_MAX: usize = 3;
const STEM_BYTES_MIN: usize = 3;

/// How many words of one definition are looked at.
const TOOL_WORDS_MAX: usize = 2_000;

#[derive(Default)]
pub(super) struct Table {
    tools: Vec<Entry>,
    words: BTreeMap<String, Vec<Occurrence>>,
    /// The weight of all words of a tool, on average.
    mean: f64,
}

struct Entry {
    /// Weak, because the tool leads to its source, and one of the sources holds this table.
    tool: Weak<Listed<Tool>>,
    weight: f64,
}

struct Occurrence {
    tool: usize,
    weight: f64,
}

/// A tool that fits, and how well.
pub(super) struct Found {
    pub(super) tool: Arc<Listed<Tool>>,
    pub(super) score: f64,
}

/// What of a definition is searched.
#[derive(Deserialize, Default)]
struct Definition<'a> {
    #[serde(borrow)]
    title: Option<Cow<'a, str>>,
    #[serde(borrow)]
    description: Option<Cow<'a, str>>,
    #[serde(rename = "inputSchema", borrow)]
    input: Option<Input<'a>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow, default)]
    properties: HashMap<Cow<'a, str>, &'a RawValue>,
}

impl Table {
    pub(super) fn of<'a>(tools: impl Iterator<Item = &'a Arc<Listed<Tool>>>) -> Self {
        let mut table = Self::default();
        for tool in tools {
            table.add(tool);
        }
        let all: f64 = table.tools.iter().map(|entry| entry.weight).sum();
        table.mean = all / float(table.tools.len().max(1));
        table
    }

    fn add(&mut self, tool: &Arc<Listed<Tool>>) {
        let place = self.tools.len();
        let weights = weights(tool);
        self.tools.push(Entry {
            tool: Arc::downgrade(tool),
            weight: weights.values().sum(),
        });
        for (word, weight) in weights {
            let occurrence = Occurrence { tool: place, weight };
            self.words.entry(word).or_default().push(occurrence);
        }
    }

    /// The tools that fit and pass the test, best first; all that pass, by name, where the query has no words.
    pub(super) fn find(&self, query: &str, passes: impl Fn(&Listed<Tool>) -> bool) -> Vec<Found> {
        let scores = self.scores(query);
        let whole = query.trim();
        let mut found: Vec<Found> = self
            .tools
            .iter()
            .enumerate()
            .filter_map(|(place, entry)| {
                let mut score = match &scores {
                    Some(scores) => scores[place],
                    None => 0.0,
                };
                if scores.is_some() && score <= 0.0 {
                    return None;
                }
                // Whoever asks holds the state of the catalogue that this table is of, so nothing is gone.
                let tool = entry.tool.upgrade().filter(|tool| passes(tool))?;
                if tool.exposed.eq_ignore_ascii_case(whole) {
                    score += WHOLE_NAME;
                }
                Some(Found { tool, score })
            })
            .collect();
        // The tools stand in the order of their names, and this leaves equal ones as they stand.
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found
    }

    /// The score of each tool; none where the query has no words.
    fn scores(&self, query: &str) -> Option<Vec<f64>> {
        let mut asked = words(query);
        asked.truncate(QUERY_WORDS_MAX);
        asked.sort_unstable();
        asked.dedup();
        if asked.is_empty() {
            return None;
        }
        let mut scores = vec![0.0; self.tools.len()];
        let mut met = vec![0_usize; self.tools.len()];
        for word in &asked {
            for (tool, score) in self.scores_of(word) {
                scores[tool] += score;
                met[tool] += 1;
            }
        }
        // Of two tools the one that has more of what was asked for is better.
        for (score, met) in scores.iter_mut().zip(met) {
            *score *= 0.5 + 0.5 * float(met) / float(asked.len());
        }
        Some(scores)
    }

    /// What one word of the query is worth for each tool that it meets: the best of what it meets there.
    fn scores_of(&self, word: &str) -> HashMap<usize, f64> {
        let mut best: HashMap<usize, f64> = HashMap::new();
        let mut meet = |occurrences: &[Occurrence], factor: f64| {
            let rarity = self.rarity(occurrences.len());
            for occurrence in occurrences {
                let score = factor * rarity * self.weight(occurrence);
                let so_far = best.entry(occurrence.tool).or_default();
                *so_far = so_far.max(score);
            }
        };
        if let Some(occurrences) = self.words.get(word) {
            meet(occurrences, 1.0);
        }
        let longer = self
            .words
            .range(word.to_owned()..)
            .take_while(|(other, _)| other.starts_with(word));
        for (other, occurrences) in longer.take(LONGER_MAX) {
            if other != word {
                meet(occurrences, ALIKE);
            }
        }
        for ending in 1..=ENDING_BYTES_MAX {
            let stem = word.len().checked_sub(ending).filter(|stem| *stem >= STEM_BYTES_MIN);
            let stem = stem.and_then(|stem| word.get(..stem));
            if let Some(occurrences) = stem.and_then(|stem| self.words.get(stem)) {
                meet(occurrences, ALIKE);
            }
        }
        best
    }

    fn rarity(&self, occurrences: usize) -> f64 {
        let (all, with) = (float(self.tools.len()), float(occurrences));
        (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
    }

    fn weight(&self, occurrence: &Occurrence) -> f64 {
        let length = self.tools[occurrence.tool].weight / self.mean;
        let held_down = SATURATION * (1.0 - LENGTH + LENGTH * length);
        occurrence.weight * (SATURATION + 1.0) / (occurrence.weight + held_down)
    }
}

/// The words of one tool, each with its weight.
fn weights(tool: &Listed<Tool>) -> BTreeMap<String, f64> {
    // A definition of an unusual shape is still found by its name.
    let definition: Definition<'_> = serde_json::from_str(tool.raw.get()).unwrap_or_default();
    let arguments = definition.input.iter().flat_map(|input| input.properties.keys());
    let texts = [
        (Some(tool.exposed.as_str()), IN_NAME),
        (definition.title.as_deref(), IN_TITLE),
        (definition.description.as_deref(), IN_DESCRIPTION),
    ];
    let texts = texts.into_iter().filter_map(|(text, weight)| Some((text?, weight)));
    let texts = texts.chain(arguments.map(|name| (&**name, IN_ARGUMENT)));
    let mut weights = BTreeMap::new();
    let all = texts.flat_map(|(text, weight)| words(text).into_iter().map(move |word| (word, weight)));
    for (word, weight) in all.take(TOOL_WORDS_MAX) {
        *weights.entry(word).or_default() += weight;
    }
    weights
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
