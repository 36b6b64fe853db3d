//! The models of one more server (`mcp.server_url`): asked what it has now and then, and offered beside those of the
//! configuration.
//!
//! What it lists is somebody else's word: bounded, and left out where it could not stand in a configuration. While it does
//! not answer, what it listed before is still offered; each request finds out by itself.

use arc_swap::ArcSwapOption;
use forebay_domain::{Code, Failure};
use forebay_llm::{Config, ModelConfig, Router, Settings, TurnsConfig};
use forebay_runtime::{
    Tasks,
    looping::{Loop, Nudge, drive},
    secret::SecretReader,
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use url::Url;

const EVERY: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(5);
const LIST_BYTES_MAX: usize = 1 << 20;
const MODELS_MAX: usize = 256;

/// Where the other server is, which may change while it is looked at.
#[derive(Clone, Default)]
pub(crate) struct OtherModels {
    url: Arc<ArcSwapOption<Url>>,
    nudge: Nudge,
}

impl OtherModels {
    /// Looks there from now on, or nowhere.
    pub(crate) fn point(&self, url: Option<Url>) {
        self.url.store(url.map(Arc::new));
        self.nudge.nudge();
    }

    /// Keeps the router's models up to date, until the tasks end.
    pub(crate) fn start(&self, tasks: &Tasks, router: &Arc<Router>, http: &reqwest::Client) {
        let watch = Watch {
            url: self.url.clone(),
            router: router.clone(),
            http: http.clone(),
            offered: Listed::default(),
        };
        drive(tasks, watch, EVERY, self.nudge.clone());
    }
}

/// What a server has, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Listed(BTreeMap<String, Url>);

impl Listed {
    fn settings(&self) -> Result<Settings, Failure> {
        let models = self.0.iter().map(|(name, url)| Ok((name.clone(), model(url)?)));
        let config = Config(models.collect::<Result<_, Failure>>()?);
        parse(&config)
    }
}

struct Watch {
    url: Arc<ArcSwapOption<Url>>,
    router: Arc<Router>,
    http: reqwest::Client,
    offered: Listed,
}

impl Loop for Watch {
    type Seen = Listed;
    type Action = Listed;

    fn name(&self) -> &'static str {
        "other_models"
    }

    async fn observe(&mut self) -> Result<Listed, Failure> {
        let Some(url) = self.url.load_full() else {
            return Ok(Listed::default());
        };
        let names = tokio::time::timeout(PATIENCE, list(&self.http, &url))
            .await
            .unwrap_or_else(|_| {
                Err(Failure::new(
                    Code::UpstreamTimedOut,
                    "The server did not answer in time.",
                ))
            })?;
        let usable = names.into_iter().filter(|name| is_usable(name, &url)).take(MODELS_MAX);
        Ok(Listed(usable.map(|name| (name, (*url).clone())).collect()))
    }

    fn decide(&self, seen: &Listed) -> Vec<Listed> {
        (*seen != self.offered).then(|| seen.clone()).into_iter().collect()
    }

    async fn act(&mut self, listed: Listed) -> Result<(), Failure> {
        self.router.list(listed.settings()?);
        self.offered = listed;
        Ok(())
    }
}

/// A list of models as OpenAI's API has it.
#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
}

async fn list(http: &reqwest::Client, url: &Url) -> Result<BTreeSet<String>, Failure> {
    let away = |error: reqwest::Error| {
        Failure::new(
            Code::UpstreamFailed,
            "The server of `mcp.server_url` did not list its models.",
        )
        .caused_by(error.without_url())
    };
    let address = format!("{}/models", url.as_str().trim_end_matches('/'));
    let answer = http.get(address).send().await.map_err(away)?;
    let mut answer = answer.error_for_status().map_err(away)?;
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(away)? {
        if body.len() + piece.len() > LIST_BYTES_MAX {
            return Err(Failure::new(
                Code::UpstreamFailed,
                "The server's list of models is too long.",
            ));
        }
        body.extend_from_slice(&piece);
    }
    let list: List = serde_json::from_slice(&body).map_err(|fault| {
        Failure::new(Code::UpstreamFailed, "What the server answered is no list of models.").caused_by(fault)
    })?;
    Ok(list.data.into_iter().map(|entry| entry.id).collect())
}

/// Whether a model of this name could stand in a configuration.
fn is_usable(name: &str, url: &Url) -> bool {
    let alone = |model| Config(BTreeMap::from([(name.to_owned(), model)]));
    model(url).is_ok_and(|model| parse(&alone(model)).is_ok())
}

/// A model with all else as it is by default.
fn model(url: &Url) -> Result<ModelConfig, Failure> {
    serde_json::from_value(json!({ "backends": [{ "url": url.as_str(), "engine": "openai" }] }))
        .map_err(|fault| Failure::new(Code::InternalError, "A model cannot be made of an address.").caused_by(fault))
}

fn parse(config: &Config) -> Result<Settings, Failure> {
    let no_secrets = SecretReader::new(|_| None);
    Settings::parse(config, &TurnsConfig::default(), &no_secrets).map_err(Failure::from)
}
