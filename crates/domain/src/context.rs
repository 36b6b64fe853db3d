//! Context for a prompt: what is asked of providers, and what they found.

use crate::Code;
use std::{fmt, time::Duration};

/// How providers look for items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// By words: full text where the provider has it.
    Keyword,
    /// By meaning: nearest vectors.
    SemanticSearch,
    /// Both, joined by reciprocal rank fusion.
    Hybrid,
}

impl Strategy {
    pub const ALL: [Self; 3] = [Self::Keyword, Self::SemanticSearch, Self::Hybrid];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::SemanticSearch => "semantic_search",
            Self::Hybrid => "hybrid",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.as_str() == text)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request wants to know. Where it leaves something open, the configuration says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextQuery {
    /// Names of providers, in the order in which the client named them. Never empty.
    pub providers: Vec<String>,
    pub query: String,
    pub strategy: Option<Strategy>,
    /// Items in all at most.
    pub items_max: Option<usize>,
    /// Tokens in all at most (`maxLength`).
    pub tokens_max: Option<usize>,
    /// What becomes of the request where a provider fails; the configuration's choice where it says nothing.
    pub on_failure: Option<OnFailure>,
}

/// What becomes of a request where one of its providers fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It goes on without it, and says so.
    Continue,
    Fail,
}

/// What was found, best first, within the budget.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context {
    pub items: Vec<ContextItem>,
    /// One for each provider that was asked, in the order of the query.
    pub reports: Vec<ProviderReport>,
    /// How many items were found and left out, because they did not fit.
    pub left_out: usize,
    /// The tokens that the items take, estimated.
    pub tokens: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ContextItem {
    /// The provider that found it.
    pub provider: String,
    /// What the provider calls it; unique within it.
    pub id: String,
    pub text: String,
    /// Larger is better; comparable within one answer alone.
    pub score: f64,
    /// Where it comes from, for people: a path, an address, `table#key`.
    pub source: String,
    pub title: Option<String>,
}

/// How one provider fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderReport {
    pub provider: String,
    pub took: Duration,
    /// How many items it found.
    pub items: usize,
    pub from_cache: bool,
    pub strategy: Strategy,
    pub failure: Option<ProviderFailure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderFailure {
    pub code: Code,
    pub message: String,
}
