//! What every provider of context is: something that finds items for a question, by words, by meaning, or by both.

use crate::{
    fuse::fuse,
    item::Item,
    kinds::{self, Ground},
};
use forebay_domain::{
    Failure, Principal,
    context::Strategy,
    port::{BoxFuture, Via},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// The kinds of provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Somebody's PostgreSQL database, read only.
    Postgresql,
    /// A service that answers JSON over HTTP.
    Rest,
    /// A collection of a Chroma server.
    Chroma,
    /// A folder of text files, indexed by the gateway.
    Files,
    /// A tool or a resource of the catalogue.
    Mcp,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Postgresql, Self::Rest, Self::Chroma, Self::Files, Self::Mcp];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Rest => "rest",
            Self::Chroma => "chroma",
            Self::Files => "files",
            Self::Mcp => "mcp",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One question to one provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) via: Via,
    pub(crate) query: &'a str,
    /// What is to be done; never more than the provider is able to do.
    pub(crate) strategy: Strategy,
    pub(crate) limit: usize,
}

/// What it found, best first, and how.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) items: Vec<Item>,
    pub(crate) strategy: Strategy,
}

/// Which ways of looking a provider has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ability {
    Keyword,
    Semantic,
    Both,
}

impl Ability {
    /// What becomes of a wish: what cannot be done falls back to what can.
    pub(crate) fn instead_of(self, wanted: Strategy) -> Strategy {
        match self {
            Self::Keyword => Strategy::Keyword,
            Self::Semantic => Strategy::SemanticSearch,
            Self::Both => wanted,
        }
    }
}

/// How large the source's pool of connections is, where it has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    pub used: u32,
    pub idle: u32,
    pub max: u32,
}

/// Something that finds items for a question.
pub(crate) trait Provider: Send + Sync {
    fn ability(&self) -> Ability;

    /// Dropping the future cancels the look-up as far as its source can be told.
    fn find<'a>(&'a self, asking: Asking<'a>) -> BoxFuture<'a, Result<Finding, Failure>>;

    /// Grows whenever an answer that was given before may have become another one.
    fn revision(&self) -> u64 {
        0
    }

    /// Whether it depends on the caller what is found, and not on the question alone.
    fn is_personal(&self) -> bool {
        false
    }

    /// Whether this caller may use what the provider stands on; asked before anything that is kept is given away.
    fn allows(&self, _principal: &Principal) -> Result<(), Failure> {
        Ok(())
    }

    fn connections(&self) -> Option<Connections> {
        None
    }

    /// What it keeps in the store goes with it, once it ends.
    fn forget(&self) {}

    /// What people want to know about it: how many files it has, and the like.
    fn note(&self) -> Option<String> {
        None
    }
}

/// What a provider is made of, checked.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Postgresql(kinds::postgresql::Settings),
    Rest(kinds::rest::Settings),
    Chroma(kinds::chroma::Settings),
    Files(kinds::files::Settings),
    Mcp(kinds::mcp::Settings),
}

impl Source {
    pub(crate) fn build(&self, name: &str, ground: &Ground) -> Arc<dyn Provider> {
        match self {
            Self::Postgresql(settings) => Arc::new(kinds::postgresql::Postgresql::new(settings.clone(), ground)),
            Self::Rest(settings) => Arc::new(kinds::rest::Rest::new(settings.clone(), ground)),
            Self::Chroma(settings) => Arc::new(kinds::chroma::Chroma::new(settings.clone(), ground)),
            Self::Files(settings) => kinds::files::Files::start(name, settings.clone(), ground),
            Self::Mcp(settings) => Arc::new(kinds::mcp::Mcp::new(settings.clone(), ground)),
        }
    }
}

/// Does what is asked for with the two ways of looking that a provider has. Where both were asked for and one fails, the
/// other is better than nothing, and the finding says which it was.
pub(crate) async fn look(
    strategy: Strategy,
    keyword: impl Future<Output = Result<Vec<Item>, Failure>> + Send,
    semantic: impl Future<Output = Result<Vec<Item>, Failure>> + Send,
) -> Result<Finding, Failure> {
    let found = |strategy| move |items| Finding { items, strategy };
    match strategy {
        Strategy::Keyword => keyword.await.map(found(Strategy::Keyword)),
        Strategy::SemanticSearch => semantic.await.map(found(Strategy::SemanticSearch)),
        Strategy::Hybrid => match tokio::join!(keyword, semantic) {
            (Ok(words), Ok(meaning)) => {
                let fused = fuse(vec![words, meaning], |item: &Item| item.id.clone());
                let items = fused.into_iter().map(|(item, _)| item).collect();
                Ok(Finding { items, strategy })
            }
            (Ok(words), Err(failure)) => {
                tracing::debug!(error.code = %failure.code, "context by words alone");
                Ok(found(Strategy::Keyword)(words))
            }
            (Err(failure), Ok(meaning)) => {
                tracing::debug!(error.code = %failure.code, "context by meaning alone");
                Ok(found(Strategy::SemanticSearch)(meaning))
            }
            (Err(failure), Err(_)) => Err(failure),
        },
    }
}
