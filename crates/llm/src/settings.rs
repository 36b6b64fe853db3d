//! What the section `models:` means: addresses, names and secrets, checked once. A [`Settings`] that exists is usable.
//!
//! No message repeats an address that was refused: it may contain a password.

use crate::config::{BackendConfig, Config, Engine, ModelConfig, TimeoutsConfig};
use forebay_domain::{Action, Code, Failure};
use forebay_runtime::{
    Secret,
    secret::{SecretFault, SecretReader},
};
use reqwest::header::HeaderValue;
use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};
use url::Url;

pub(crate) const NAME_BYTES_MAX: usize = 128;
const BACKENDS_MAX: usize = 32;

/// Why the section `models:` cannot be used, and where.
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
    fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
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

/// All models, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub(crate) models: BTreeMap<String, Arc<Model>>,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: String,
    /// Never empty.
    pub(crate) backends: Vec<Backend>,
    pub(crate) timeouts: Timeouts,
}

#[derive(Debug)]
pub(crate) struct Backend {
    /// Its position in the configuration: the name that people know it by.
    pub(crate) index: usize,
    pub(crate) chat_url: Url,
    pub(crate) engine: Option<Engine>,
    /// The engine's own name for the model, as a JSON string.
    pub(crate) model_json: String,
    pub(crate) credential: Option<Credential>,
}

#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) secret: Secret,
    /// `Bearer …`, marked sensitive, so that nobody prints it.
    pub(crate) header: HeaderValue,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) begin: Duration,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
}

impl From<TimeoutsConfig> for Timeouts {
    fn from(config: TimeoutsConfig) -> Self {
        let seconds = |count: NonZeroU32| Duration::from_secs(count.get().into());
        Self {
            begin: seconds(config.begin_s),
            idle: seconds(config.idle_s),
            total: seconds(config.total_s),
        }
    }
}

impl Settings {
    /// Checks the section and reads the secrets that it names.
    pub fn parse(config: &Config, secrets: &SecretReader) -> Result<Self, ConfigFault> {
        let models = config.0.iter().map(|(name, model)| {
            let model = parse_model(name, model, secrets)?;
            Ok((name.clone(), Arc::new(model)))
        });
        Ok(Self {
            models: models.collect::<Result<_, _>>()?,
        })
    }
}

fn parse_model(name: &str, config: &ModelConfig, secrets: &SecretReader) -> Result<Model, ConfigFault> {
    check_name(name).map_err(|problem| ConfigFault::new("models", format!("the name {name:?} {problem}")))?;
    let path = format!("models.{name}.backends");
    if config.backends.is_empty() {
        return Err(ConfigFault::new(path, "needs at least one backend"));
    }
    if config.backends.len() > BACKENDS_MAX {
        return Err(ConfigFault::new(path, format!("has more than {BACKENDS_MAX} backends")));
    }
    let backends = config.backends.iter().enumerate().map(|(index, backend)| {
        let path = format!("{path}[{index}]");
        parse_backend(index, name, &path, backend, secrets)
    });
    Ok(Model {
        name: name.to_owned(),
        backends: backends.collect::<Result<_, _>>()?,
        timeouts: config.timeouts.into(),
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
    let credential = match &config.api_key {
        Some(reference) => {
            let secret = secrets.read(reference).map_err(|fault| ConfigFault {
                path: at("api_key"),
                problem: fault.to_string(),
                source: Some(fault),
            })?;
            let header = bearer(&secret).ok_or_else(|| {
                ConfigFault::new(
                    at("api_key"),
                    format!("{reference} holds characters that no header can carry"),
                )
            })?;
            Some(Credential { secret, header })
        }
        None => None,
    };
    Ok(Backend {
        index,
        chat_url: parse_url(&config.url).map_err(|problem| ConfigFault::new(at("url"), problem))?,
        engine: config.engine,
        model_json: serde_json::Value::from(own_name).to_string(),
        credential,
    })
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

/// The address of the chat endpoint below a base address, with or without a slash at its end.
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
    let path = format!("{}/chat/completions", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

fn bearer(secret: &Secret) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(format!("Bearer {}", secret.expose())).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Settings, String> {
        let config: Config = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let secrets = SecretReader::new(|name| match name {
            "GOOD" => Some("sk-good".to_owned()),
            "BAD" => Some("sk\u{1}bad".to_owned()),
            _ => None,
        });
        Settings::parse(&config, &secrets).map_err(|fault| fault.to_string())
    }

    fn check_url(url: &str, expected: Result<&str, &str>) {
        let parsed = parse(&format!(r#"{{"m":{{"backends":[{{"url":"{url}"}}]}}}}"#));
        match (parsed, expected) {
            (Ok(settings), Ok(expected)) => {
                assert_eq!(settings.models["m"].backends[0].chat_url.as_str(), expected);
            }
            (Err(problem), Err(expected)) => {
                assert!(problem.starts_with("models.m.backends[0].url: "), "{problem}");
                assert!(problem.contains(expected), "{problem}");
                assert!(!problem.contains("hunter2"), "{problem}");
            }
            (parsed, expected) => panic!("{url}: {parsed:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn addresses_are_checked_and_completed() {
        check_url("http://h:1/v1", Ok("http://h:1/v1/chat/completions"));
        check_url("http://h:1/v1/", Ok("http://h:1/v1/chat/completions"));
        check_url("https://h/a/b//", Ok("https://h/a/b/chat/completions"));
        check_url("http://[::1]:8001", Ok("http://[::1]:8001/chat/completions"));
        check_url("ftp://h/v1", Err("must begin with http:// or https://"));
        check_url("http://me:hunter2@h/v1", Err("must not contain a user name"));
        check_url("http://hunter2@h/v1", Err("must not contain a user name"));
        check_url("http://h/v1?key=hunter2", Err("must not contain `?`"));
        check_url("127.0.0.1:8001/hunter2", Err("is not an address"));
        check_url("", Err("is not an address"));
    }

    #[test]
    fn faults_name_their_place() {
        for (json, expected) in [
            (
                r#"{"m":{"backends":[]}}"#,
                "models.m.backends: needs at least one backend",
            ),
            (
                r#"{"a b":{"backends":[{"url":"http://h"}]}}"#,
                "models: the name \"a b\" may contain only",
            ),
            (
                r#"{"":{"backends":[{"url":"http://h"}]}}"#,
                "models: the name \"\" must not be empty",
            ),
            (
                r#"{"m":{"backends":[{"url":"http://h"},{"url":"http://h","model":"a\nb"}]}}"#,
                "models.m.backends[1].model: must not contain control",
            ),
            (
                r#"{"m":{"backends":[{"url":"http://h","api_key":{"env":"NONE"}}]}}"#,
                "models.m.backends[0].api_key: environment variable NONE is not set",
            ),
            (
                r#"{"m":{"backends":[{"url":"http://h","api_key":{"env":"BAD"}}]}}"#,
                "models.m.backends[0].api_key: environment variable BAD holds characters",
            ),
            (
                r#"{"m":{"backends":[{"url":"http://h"}],"price":{"input":1}}}"#,
                "unknown field `price`",
            ),
            (
                r#"{"m":{"backends":[{"url":"http://h","engine":"tgi"}]}}"#,
                "unknown variant `tgi`",
            ),
            (
                r#"{"m":{"backends":[{"url":"http://h"}],"timeouts":{"idle_s":0}}}"#,
                "nonzero",
            ),
        ] {
            let problem = parse(json).unwrap_err();
            assert!(
                problem.starts_with(expected) || problem.contains(expected),
                "{json}: {problem}"
            );
        }
    }

    #[test]
    fn a_secret_is_read_and_never_shown() {
        let settings =
            parse(r#"{"m":{"backends":[{"url":"http://h","model":"org/\"M\"","api_key":{"env":"GOOD"}}]}}"#).unwrap();
        let backend = &settings.models["m"].backends[0];
        assert_eq!(backend.credential.as_ref().unwrap().header, "Bearer sk-good");
        assert_eq!(backend.model_json, r#""org/\"M\"""#);
        assert!(!format!("{settings:?}").contains("sk-good"));
    }

    #[test]
    fn every_leaf_says_that_it_is_live() {
        let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
        for (kind, leaves) in [("BackendConfig", 4), ("TimeoutsConfig", 3)] {
            let properties = schema["$defs"][kind]["properties"].as_object().unwrap();
            assert_eq!(properties.len(), leaves, "{kind}");
            for (name, property) in properties {
                assert_eq!(property["x-forebay-reload"], "live", "{kind}.{name}");
                assert!(property["description"].is_string(), "{kind}.{name}");
            }
        }
    }
}
