//! The built-in tools: what each of them is, and the one place that lists them.

mod calculator;
mod chat;
mod definition;
mod file_reader;
mod gateway_status;
mod schema;
mod web_search;
mod whole;

use crate::{catalogue::StatusSource, files::Files};
pub(crate) use calculator::Calculator;
pub(crate) use chat::Chat;
pub(crate) use definition::{Answer, Definition, Job, World};
pub(crate) use file_reader::FileReader;
use forebay_domain::{Code, Failure, Principal, port::AskModel};
use forebay_runtime::{Clock, secret::SecretReader};
pub(crate) use gateway_status::GatewayStatus;
pub use schema::{Schema, typed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};
pub(crate) use web_search::{Outside, WebSearch};
pub use web_search::{SearchBackend, WebSearchConfig};

/// The built-in tools that need settings. A tool without them is not offered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `file_reader`: reads files below the folders that are allowed here.
    pub file_reader: FileReaderConfig,
    /// `web_search`: asks a search engine.
    pub web_search: WebSearchConfig,
    /// Built-in tools that are not offered, by their names.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub disabled: BTreeSet<String>,
}

/// The names of all built-in tools.
pub(crate) const NAMES: [&str; 5] = ["calculator", "chat", "file_reader", "gateway_status", web_search::NAME];

/// The names of all tools of the gateway's own server, those that call others included.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain(crate::compose::names())
}

impl Config {
    /// Says why a catalogue could not be made of it: a folder or a key that is not there, a limit out of range.
    pub fn check(&self, secrets: &SecretReader) -> Result<(), Failure> {
        self.check_names()?;
        Files::open(&self.file_reader)?;
        let outside = Outside {
            client: forebay_runtime::http::trusted(),
            secrets: secrets.clone(),
            clock: Clock::system(),
        };
        WebSearch::new(&self.web_search, &outside, None).map(drop)
    }

    /// Why a built-in tool is not there.
    pub(crate) fn not_offered(&self, name: &str) -> Failure {
        let hint = if self.disabled.contains(name) {
            "`tools.disabled` names it: it is offered once it is taken out there.".to_owned()
        } else {
            format!("It needs settings: `tools.{name}` in the gateway's configuration.")
        };
        Failure::new(Code::UnknownTool, format!("The tool `{name}` is not offered here.")).hint(hint)
    }

    pub(crate) fn check_names(&self) -> Result<(), Failure> {
        let unknown = self.disabled.iter().find(|name| !NAMES.contains(&name.as_str()));
        unknown.map_or(Ok(()), |name| {
            let message = format!("tools.disabled: there is no built-in tool `{name}`.");
            Err(Failure::new(Code::InvalidConfig, message).hint(format!("There are {}.", NAMES.join(", "))))
        })
    }
}

/// Which files may be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileReaderConfig {
    /// Folders whose files may be read, at any depth. Without any, the tool is not offered.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub allowed_paths: Vec<PathBuf>,
    /// The most bytes that one call reads.
    #[schemars(extend("x-forebay-reload" = "live"), range(min = 1, max = 1_048_576))]
    pub max_bytes: u32,
}

/// The most that `max_bytes` may be: in Base64, and twice in one result, it still fits the bound on results.
pub(crate) const READ_BYTES_MAX: u32 = 1 << 20;

impl Default for FileReaderConfig {
    fn default() -> Self {
        Self {
            allowed_paths: Vec::new(),
            max_bytes: 256 << 10,
        }
    }
}

/// One built-in tool.
pub(crate) enum Builtin {
    Calculator(Calculator),
    Chat(Chat),
    FileReader(FileReader),
    GatewayStatus(GatewayStatus),
    WebSearch(Arc<WebSearch>),
}

/// What the built-in tools stand on.
pub(crate) struct Parts {
    pub(crate) clock: Clock,
    pub(crate) models: Arc<dyn AskModel>,
    pub(crate) status: StatusSource,
    pub(crate) files: Option<Arc<Files>>,
    pub(crate) search: Option<Arc<WebSearch>>,
}

impl Builtin {
    /// All built-in tools that these parts allow.
    pub(crate) fn all(parts: &Parts) -> Vec<Self> {
        let mut all = vec![
            Self::Calculator(Calculator::new(parts.clock.clone())),
            Self::Chat(Chat::new(parts.models.clone())),
            Self::GatewayStatus(GatewayStatus::new(parts.status.clone())),
        ];
        if let Some(files) = &parts.files {
            all.push(Self::FileReader(FileReader::new(files.clone())));
        }
        all.extend(parts.search.clone().map(Self::WebSearch));
        all
    }

    pub(crate) fn definition(&self) -> Definition {
        match self {
            Self::Calculator(_) => Calculator::definition(),
            Self::Chat(_) => Chat::definition(),
            Self::FileReader(tool) => tool.definition(),
            Self::GatewayStatus(_) => GatewayStatus::definition(),
            Self::WebSearch(tool) => tool.definition(),
        }
    }

    /// Whether there is anything behind the tool for this caller.
    pub(crate) fn is_offered_to(&self, principal: &Principal) -> bool {
        match self {
            Self::Chat(chat) => chat.is_offered_to(principal),
            Self::Calculator(_) | Self::FileReader(_) | Self::GatewayStatus(_) | Self::WebSearch(_) => true,
        }
    }

    /// Whether its results hold nothing that somebody else wrote.
    pub(crate) fn is_trusted(&self) -> bool {
        match self {
            Self::Calculator(_) | Self::GatewayStatus(_) => true,
            // A model's words follow whatever it was given to read; files and pages may be of anybody.
            Self::Chat(_) | Self::FileReader(_) | Self::WebSearch(_) => false,
        }
    }

    /// How long a call may take where the caller sets no limit.
    pub(crate) fn time_limit(&self) -> Duration {
        match self {
            Self::Chat(_) => chat::TIME_LIMIT,
            Self::WebSearch(tool) => tool.time_limit(),
            Self::Calculator(_) | Self::FileReader(_) | Self::GatewayStatus(_) => Duration::from_mins(1),
        }
    }

    pub(crate) async fn run(&self, job: Job<'_>) -> Result<Answer, Failure> {
        match self {
            Self::Calculator(tool) => tool.run(job).await,
            Self::Chat(chat) => Box::pin(chat.run(job)).await,
            Self::FileReader(tool) => tool.run(job).await,
            Self::GatewayStatus(tool) => tool.run(),
            Self::WebSearch(tool) => tool.run(job).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_strict_and_have_defaults() {
        let config: Config = serde_json::from_str(r#"{"file_reader":{"allowed_paths":["/srv/docs"]}}"#).unwrap();
        assert_eq!(config.file_reader.max_bytes, 262_144);
        assert!(serde_json::from_str::<Config>(r#"{"file_writer":{}}"#).is_err());
        assert!(serde_json::from_str::<Config>(r#"{"file_reader":{"paths":[]}}"#).is_err());
    }

    #[test]
    fn every_setting_says_how_it_is_reloaded() {
        let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
        for (section, count) in [("FileReaderConfig", 2), ("WebSearchConfig", 7), ("RateLimitConfig", 2)] {
            let settings = schema["$defs"][section]["properties"].as_object().unwrap();
            assert_eq!(settings.len(), count);
            // A section within one says it of each of its own.
            for (name, setting) in settings.iter().filter(|(name, _)| *name != "rate_limit") {
                assert_eq!(setting["x-forebay-reload"], "live", "{name}");
            }
        }
    }
}
