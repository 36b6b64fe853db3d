//! What the sections `models:` and `turns:` mean: addresses, names, secrets and bounds, checked once. A [`Settings`] that
//! exists is usable.
//!
//! No message repeats an address that was refused: it may contain a password.

use crate::{
    config::{BackendConfig, Config, Engine, ModelConfig, ProbeConfig, TimeoutsConfig, TurnsConfig},
    money::Prices,
    routing::Routes,
    turn::Bounds,
};
use forebay_domain::{Action, Code, Failure, model::Endpoint};
use forebay_runtime::{
    Secret,
    http::engines,
    secret::{SecretFault, SecretReader},
};
use http::{
    Uri,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, OnceLock},
    time::Duration,
};
use url::Url;

pub(crate) const NAME_BYTES_MAX: usize = 128;
const BACKENDS_MAX: usize = 32;
const FALLBACKS_MAX: usize = 8;
const WEIGHT_MAX: u32 = 1_000;
const QUEUE_MAX: u32 = 10_000;
const PROBE_INTERVAL_S_MAX: u32 = 3_600;
const PROBE_TIMEOUT_S_MAX: u32 = 60;
/// More than any model reads or says.
const TOKENS_MAX: u32 = 1 << 24;
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Why one of the sections cannot be used, and where.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ConfigFault {
    /// The place in the file: `models.qwen.backends[0].url`.
    pub path: String,
    pub problem: String,
    #[source]
    pub source: Option<SecretFault>,
}

impl ConfigFault {
    pub(crate) fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
            source: None,
        }
    }
}

impl From<ConfigFault> for Failure {
    fn from(fault: ConfigFault) -> Self {
        Failure::new(Code::InvalidConfig, fault.to_string())
            .hint("Mend it in the configuration file; `forebay config validate` checks it.")
            .caused_by(fault)
    }
}

/// All models, ready to be asked, and how much a turn may do.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub(crate) models: BTreeMap<String, Arc<Model>>,
    pub(crate) turns: Arc<Bounds>,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: String,
    /// Never empty.
    pub(crate) backends: Vec<Backend>,
    /// Names of other configured models.
    pub(crate) fallbacks: Vec<String>,
    pub(crate) affinity: bool,
    pub(crate) affinity_bound_percent: u32,
    pub(crate) queue_max: usize,
    pub(crate) queue_wait: Duration,
    pub(crate) attempts: u32,
    pub(crate) retries_timeouts: bool,
    pub(crate) timeouts: Timeouts,
    /// Nobody knows what it costs where there are none.
    pub(crate) prices: Option<Prices>,
    /// So many tokens of an answer where a budget counts and the request sets no limit.
    pub(crate) output_tokens_max: u64,
    pub(crate) context_tokens: Option<u64>,
    /// What is going on at its backends: set once the model is put in force.
    pub(crate) routes: OnceLock<Routes>,
}

impl Model {
    /// Whether it matters how a prompt begins.
    pub(crate) fn has_choice(&self) -> bool {
        self.affinity && self.backends.len() > 1
    }
}

#[derive(Debug)]
pub(crate) struct Backend {
    /// Its position in the configuration: the name that people know it by.
    pub(crate) index: usize,
    /// One address for each of [`Endpoint::ALL`], in that order.
    uris: [Uri; Endpoint::ALL.len()],
    /// What they begin with.
    base: String,
    pub(crate) engine: Option<Engine>,
    pub(crate) api: Api,
    /// The engine's own name for the model, as a JSON string.
    pub(crate) model_json: String,
    pub(crate) credential: Option<Credential>,
    pub(crate) weight: u32,
    pub(crate) limit: Option<u32>,
    pub(crate) probe: Option<Probe>,
}

impl Backend {
    pub(crate) fn uri(&self, endpoint: Endpoint) -> &Uri {
        &self.uris[endpoint as usize]
    }

    /// What makes it the same backend, whatever else is configured for it.
    pub(crate) fn place(&self) -> (&str, &str) {
        (&self.base, &self.model_json)
    }

    pub(crate) fn has_same_credential(&self, other: &Self) -> bool {
        let header = |backend: &Self| backend.credential.as_ref().map(|credential| credential.header.clone());
        header(self) == header(other)
    }
}

/// Whose API a backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    OpenAi,
    Anthropic,
}

impl From<Option<Engine>> for Api {
    fn from(engine: Option<Engine>) -> Self {
        match engine {
            Some(Engine::Anthropic) => Self::Anthropic,
            Some(Engine::Vllm | Engine::Sglang | Engine::Llamacpp | Engine::Openai) | None => Self::OpenAi,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) secret: Secret,
    pub(crate) name: HeaderName,
    /// Marked sensitive, so that nobody prints it.
    pub(crate) header: HeaderValue,
}

/// How a backend is asked whether it is well.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pub(crate) uri: Uri,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) begin: Duration,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
}

impl From<TimeoutsConfig> for Timeouts {
    fn from(config: TimeoutsConfig) -> Self {
        Self {
            begin: seconds(config.begin_s),
            idle: seconds(config.idle_s),
            total: seconds(config.total_s),
        }
    }
}

fn seconds(count: NonZeroU32) -> Duration {
    Duration::from_secs(count.get().into())
}

impl Settings {
    /// Checks the sections and reads the secrets that they name.
    pub fn parse(config: &Config, turns: &TurnsConfig, secrets: &SecretReader) -> Result<Self, ConfigFault> {
        let models = config.0.iter().map(|(name, model)| {
            config.check_fallbacks(name)?;
            let model = parse_model(name, model, secrets)?;
            Ok((name.clone(), Arc::new(model)))
        });
        Ok(Self {
            models: models.collect::<Result<_, _>>()?,
            turns: Arc::new(Bounds::parse(turns)?),
        })
    }
}

impl Config {
    /// Whether the models to which this one falls back are there: what it cannot tell by itself.
    pub fn check_fallbacks(&self, name: &str) -> Result<(), ConfigFault> {
        let fallbacks = self.0.get(name).map_or(&[][..], |model| &model.fallbacks);
        for (index, fallback) in fallbacks.iter().enumerate() {
            let path = format!("models.{name}.fallbacks[{index}]");
            if fallback == name {
                return Err(ConfigFault::new(path, "must not be the model itself"));
            }
            if !self.0.contains_key(fallback) {
                return Err(ConfigFault::new(path, format!("there is no model {fallback:?}")));
            }
        }
        Ok(())
    }
}

fn parse_model(name: &str, config: &ModelConfig, secrets: &SecretReader) -> Result<Model, ConfigFault> {
    check_name(name).map_err(|problem| ConfigFault::new("models", format!("the name {name:?} {problem}")))?;
    let at = |field: &str| format!("models.{name}.{field}");
    if config.backends.is_empty() {
        return Err(ConfigFault::new(at("backends"), "needs at least one backend"));
    }
    check_range(&at("backends"), config.backends.len(), 1..=BACKENDS_MAX)?;
    check_range(&at("fallbacks"), config.fallbacks.len(), 0..=FALLBACKS_MAX)?;
    check_range(
        &at("affinity_bound_percent"),
        config.affinity_bound_percent,
        100..=1_000,
    )?;
    check_range(&at("queue.max"), config.queue.max, 0..=QUEUE_MAX)?;
    let attempts = config.retry.attempts.get();
    check_range(&at("retry.attempts"), attempts as usize, 1..=BACKENDS_MAX)?;
    check_range(&at("output_tokens_max"), config.output_tokens_max.get(), 1..=TOKENS_MAX)?;
    let context = config.context_tokens.map(NonZeroU32::get);
    check_range(&at("context_tokens"), context.unwrap_or(1), 1..=TOKENS_MAX)?;
    let backends = config.backends.iter().enumerate().map(|(index, backend)| {
        let path = at(&format!("backends[{index}]"));
        parse_backend(index, name, &path, backend, secrets)
    });
    Ok(Model {
        name: name.to_owned(),
        backends: backends.collect::<Result<_, _>>()?,
        fallbacks: config.fallbacks.clone(),
        affinity: config.affinity,
        affinity_bound_percent: config.affinity_bound_percent,
        queue_max: config.queue.max as usize,
        queue_wait: seconds(config.queue.wait_s),
        attempts,
        retries_timeouts: config.retry.on_timeout,
        timeouts: config.timeouts.into(),
        prices: config.price.as_ref().map(Prices::from),
        output_tokens_max: config.output_tokens_max.get().into(),
        context_tokens: context.map(u64::from),
        routes: OnceLock::new(),
    })
}

fn parse_backend(
    index: usize,
    model: &str,
    path: &str,
    config: &BackendConfig,
    secrets: &SecretReader,
) -> Result<Backend, ConfigFault> {
    let at = |field: &str| format!("{path}.{field}");
    let own_name = config.model.as_deref().unwrap_or(model);
    check_own_name(own_name).map_err(|problem| ConfigFault::new(at("model"), problem))?;
    check_range(&at("weight"), config.weight.get(), 1..=WEIGHT_MAX)?;
    let api = Api::from(config.engine);
    let base = parse_url(&config.url).map_err(|problem| ConfigFault::new(at("url"), problem))?;
    let uris = parse_uris(&base).map_err(|problem| ConfigFault::new(at("url"), problem))?;
    Ok(Backend {
        index,
        uris,
        base: base.to_string().trim_end_matches('/').to_owned(),
        engine: config.engine,
        api,
        model_json: serde_json::Value::from(own_name).to_string(),
        credential: parse_credential(&at("api_key"), api, config, secrets)?,
        weight: config.weight.get(),
        limit: config.max_concurrency.map(NonZeroU32::get),
        probe: parse_probe(&at("probe"), &base, config.engine, &config.probe)?,
    })
}

fn parse_uris(base: &Url) -> Result<[Uri; Endpoint::ALL.len()], String> {
    let uris = Endpoint::ALL.map(|endpoint| parse_uri(&below(base, endpoint.path())));
    let uris: Vec<Uri> = uris.into_iter().collect::<Result<_, _>>()?;
    Ok(uris.try_into().expect("one for each"))
}

fn parse_uri(url: &Url) -> Result<Uri, String> {
    engines::address(url).map_err(|error| format!("is no address that can be asked: {error}"))
}

fn parse_credential(
    path: &str,
    api: Api,
    config: &BackendConfig,
    secrets: &SecretReader,
) -> Result<Option<Credential>, ConfigFault> {
    let Some(reference) = &config.api_key else {
        return Ok(None);
    };
    let secret = secrets.read(reference).map_err(|fault| ConfigFault {
        path: path.to_owned(),
        problem: fault.to_string(),
        source: Some(fault),
    })?;
    let (name, text) = match api {
        Api::OpenAi => (AUTHORIZATION, format!("Bearer {}", secret.expose())),
        Api::Anthropic => (X_API_KEY, secret.expose().to_owned()),
    };
    let mut header = HeaderValue::try_from(text)
        .map_err(|_| ConfigFault::new(path, format!("{reference} holds characters that no header can carry")))?;
    header.set_sensitive(true);
    Ok(Some(Credential { secret, name, header }))
}

fn parse_probe(
    path: &str,
    base: &Url,
    engine: Option<Engine>,
    config: &ProbeConfig,
) -> Result<Option<Probe>, ConfigFault> {
    let interval_s = config.interval_s;
    check_range(&format!("{path}.interval_s"), interval_s, 0..=PROBE_INTERVAL_S_MAX)?;
    check_range(
        &format!("{path}.timeout_s"),
        config.timeout_s.get(),
        1..=PROBE_TIMEOUT_S_MAX,
    )?;
    let url = match (&config.path, engine) {
        (Some(own), _) => {
            if !own.starts_with('/') || own.chars().any(|c| c.is_control() || matches!(c, '?' | '#')) {
                let problem = "must begin with `/` and contain neither `?` nor `#`";
                return Err(ConfigFault::new(format!("{path}.path"), problem));
            }
            below(&root(base), own.trim_start_matches('/'))
        }
        (None, Some(Engine::Vllm | Engine::Sglang | Engine::Llamacpp)) => below(&root(base), "health"),
        (None, Some(Engine::Openai) | None) => below(base, "models"),
        // Its API has nothing that is free to ask for.
        (None, Some(Engine::Anthropic)) => return Ok(None),
    };
    let uri = parse_uri(&url).map_err(|problem| ConfigFault::new(format!("{path}.path"), problem))?;
    Ok((interval_s > 0).then(|| Probe {
        uri,
        interval: Duration::from_secs(interval_s.into()),
        timeout: seconds(config.timeout_s),
    }))
}

pub(crate) fn check_range<N: PartialOrd + Copy + std::fmt::Display>(
    path: &str,
    number: N,
    range: std::ops::RangeInclusive<N>,
) -> Result<(), ConfigFault> {
    if range.contains(&number) {
        return Ok(());
    }
    let problem = format!("must be from {} to {}, and is {number}", range.start(), range.end());
    Err(ConfigFault::new(path, problem))
}

/// The name that clients use has to be one that a grant (`model:qwen`) can name.
fn check_name(name: &str) -> Result<(), String> {
    check_own_name(name)?;
    match Action::parse(Action::model(name).as_str()) {
        Ok(_) => Ok(()),
        Err(_) => Err("may contain only ASCII letters, digits and `-_.:/@`".to_owned()),
    }
}

/// An engine may call its model what it likes, so long as no terminal or log would act upon it.
fn check_own_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        Err("must not be empty".to_owned())
    } else if name.len() > NAME_BYTES_MAX {
        Err(format!("must have at most {NAME_BYTES_MAX} bytes"))
    } else if name.chars().any(char::is_control) {
        Err("must not contain control characters".to_owned())
    } else {
        Ok(())
    }
}

/// A base address, without the slash at its end.
fn parse_url(text: &str) -> Result<Url, String> {
    let mut url =
        Url::parse(text).map_err(|error| format!("is not an address like `http://127.0.0.1:8001/v1`: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("must begin with http:// or https://, not {}:", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password; name the key under `api_key`".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not contain `?` or `#`".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Where an engine keeps what is no part of its API: beside the version, not below it.
fn root(base: &Url) -> Url {
    let mut url = base.clone();
    let path = base.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1").unwrap_or(path).to_owned();
    url.set_path(&path);
    url
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

#[cfg(test)]
mod tests;
