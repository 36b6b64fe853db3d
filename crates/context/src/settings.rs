//! What the configuration of one provider means: checked, with its secrets read.

use crate::{
    config::{AuthConfig, Config, HeaderValueConfig, NamedSecret, ProviderConfig, SourceConfig},
    kinds,
    provider::{Kind, Source},
    secret::{Login, Origin, Secrets},
};
use forebay_domain::{Action, Code, Failure};
use forebay_runtime::{Secret, SecretRef, secret::SecretReader};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{cell::RefCell, path::PathBuf, time::Duration};
use url::Url;

/// Providers of a configuration at most, and of all.
pub(crate) const PROVIDERS_MAX: usize = 200;
const NAME_BYTES_MAX: usize = 64;
const TIMEOUT_USUAL: Duration = Duration::from_secs(5);
const TIMEOUT_MS_MAX: u32 = 120_000;

/// One provider as it is to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) timeout: Duration,
    pub(crate) source: Source,
    /// What this was made of, to see whether it changed: the configuration, and a digest of the secrets that it names.
    pub(crate) config: ProviderConfig,
    digest: [u8; 32],
}

impl Settings {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.config == other.config && self.digest == other.digest
    }
}

/// The providers of the section, by name.
pub(crate) fn parse_all(config: &Config, reader: &SecretReader) -> Result<Vec<Settings>, Failure> {
    let providers = &config.providers.0;
    if providers.len() > PROVIDERS_MAX {
        let message = format!(
            "`mcp.providers` has {} entries; at most {PROVIDERS_MAX} are served.",
            providers.len()
        );
        return Err(Failure::new(Code::InvalidConfig, message));
    }
    let folder = config.secrets_dir.as_ref();
    providers
        .iter()
        .map(|(name, one)| parse(name, one, Origin::File, reader, folder))
        .collect()
}

pub(crate) fn parse(
    name: &str,
    config: &ProviderConfig,
    origin: Origin,
    reader: &SecretReader,
    secrets_folder: Option<&PathBuf>,
) -> Result<Settings, Failure> {
    check_name(name)?;
    let path = format!("mcp.providers.{name}");
    check_keys(&path, config)?;
    let read = Reading {
        path: &path,
        config: &config.config,
        origin,
        secrets: Secrets {
            reader,
            folder: secrets_folder,
            origin,
            seen: RefCell::new(Sha256::new()),
        },
    };
    let source = match config.kind {
        Kind::Postgresql => Source::Postgresql(kinds::postgresql::Settings::parse(&read)?),
        Kind::Rest => Source::Rest(kinds::rest::Settings::parse(&read)?),
        Kind::Chroma => Source::Chroma(kinds::chroma::Settings::parse(&read)?),
        Kind::Files => Source::Files(kinds::files::Settings::parse(&read)?),
        Kind::Mcp => Source::Mcp(kinds::mcp::Settings::parse(&read)?),
    };
    let timeout = match config.config.timeout_ms {
        Some(ms) if ms.get() > TIMEOUT_MS_MAX => {
            return Err(read.wrong("timeout_ms", format!("is at most {TIMEOUT_MS_MAX}")));
        }
        Some(ms) => Duration::from_millis(ms.get().into()),
        None => TIMEOUT_USUAL,
    };
    Ok(Settings {
        name: name.to_owned(),
        kind: config.kind,
        timeout,
        source,
        config: ProviderConfig {
            name: None,
            ..config.clone()
        },
        digest: read.secrets.seen.into_inner().finalize().into(),
    })
}

/// One that a grant (`context:docs`) and a path of the API can name.
fn check_name(name: &str) -> Result<(), Failure> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_fine = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(fine)
        && !matches!(name, "." | "..")
        && Action::parse(Action::context(name).as_str()).is_ok();
    if is_fine {
        return Ok(());
    }
    let message = format!(
        "mcp.providers: `{}` is no name for a provider.",
        bounded(name).escape_debug()
    );
    let hint = format!("Use up to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`.");
    Err(Failure::new(Code::InvalidConfig, message).hint(hint))
}

/// A name as far as a provider's name can go.
pub(crate) fn bounded(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX + 1)]
}

/// A key that another kind has is as wrong as one that none has.
fn check_keys(path: &str, config: &ProviderConfig) -> Result<(), Failure> {
    let keys = config.kind.keys();
    let written = serde_json::to_value(&config.config).unwrap_or_default();
    let Value::Object(written) = written else {
        return Ok(());
    };
    match written.keys().find(|key| !keys.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let message = format!(
                "{path}.config.{key}: a provider of type `{}` has no such key.",
                config.kind
            );
            Err(Failure::new(Code::InvalidConfig, message).hint(format!("It has: {}.", keys.join(", "))))
        }
    }
}

impl Kind {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Postgresql => &[
                "host",
                "port",
                "database",
                "user",
                "password",
                "credentials",
                "tls",
                "query",
                "vector_query",
                "tables",
                "language",
                "embedding_model",
                "timeout_ms",
            ],
            Self::Rest => &[
                "base_url",
                "path",
                "body",
                "auth",
                "headers",
                "items",
                "fields",
                "timeout_ms",
            ],
            Self::Chroma => &[
                "host",
                "port",
                "tls",
                "tenant",
                "database",
                "collection",
                "embedding_model",
                "auth",
                "headers",
                "timeout_ms",
            ],
            Self::Files => &[
                "folder",
                "extensions",
                "passage_bytes_max",
                "file_bytes_max",
                "scan_s",
                "embedding_model",
                "timeout_ms",
            ],
            Self::Mcp => &["tool", "argument", "arguments", "uri", "items", "fields", "timeout_ms"],
        }
    }
}

/// What the kinds read their settings from.
pub(crate) struct Reading<'a> {
    path: &'a str,
    pub(crate) config: &'a SourceConfig,
    pub(crate) origin: Origin,
    secrets: Secrets<'a>,
}

impl Reading<'_> {
    /// Says what is wrong with a key.
    pub(crate) fn wrong(&self, key: &str, problem: impl std::fmt::Display) -> Failure {
        Failure::new(Code::InvalidConfig, format!("{}.config.{key}: {problem}.", self.path))
    }

    pub(crate) fn needed<'v, T>(&self, key: &str, value: Option<&'v T>) -> Result<&'v T, Failure> {
        value.ok_or_else(|| self.wrong(key, "is needed"))
    }

    /// A short text on one line that is there.
    pub(crate) fn text<'v>(&self, key: &str, value: Option<&'v String>) -> Result<&'v str, Failure> {
        let text = self.needed(key, value)?;
        if text.trim().is_empty() || text.len() > 512 || text.chars().any(char::is_control) {
            return Err(self.wrong(key, "must be a text of one line"));
        }
        Ok(text)
    }

    /// The name of a model, where one is given.
    pub(crate) fn model(&self) -> Result<Option<String>, Failure> {
        let Some(model) = &self.config.embedding_model else {
            return Ok(None);
        };
        match Action::parse(Action::model(model).as_str()) {
            Ok(_) => Ok(Some(model.clone())),
            Err(_) => Err(self.wrong("embedding_model", "is no name of a model")),
        }
    }

    /// An address in the operator's or somebody else's words. What is refused is not repeated: it may hold a password.
    pub(crate) fn url(&self, key: &str, text: &str) -> Result<Url, Failure> {
        let url = Url::parse(text).map_err(|fault| self.wrong(key, format!("is no address: {fault}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(self.wrong(key, "must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(self.wrong(key, "must not hold a password; use `auth`"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(self.wrong(key, "must not contain `?` or `#`"));
        }
        Ok(url)
    }

    /// The headers of each request: those of the configuration, and `Authorization`.
    pub(crate) fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.config.headers {
            let (secret, text);
            let value = match value {
                HeaderValueConfig::Text(plain) => plain,
                HeaderValueConfig::Secret(reference) => {
                    secret = self.secret("headers", reference)?;
                    text = secret.expose().to_owned();
                    &text
                }
                HeaderValueConfig::Named(named) => {
                    secret = self.named("headers", named)?;
                    text = secret.expose().to_owned();
                    &text
                }
            };
            let wrong = || self.wrong("headers", format!("`{}` cannot be sent", bounded(name).escape_debug()));
            let name = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            if OURS.contains(&name) {
                return Err(self.wrong("headers", format!("`{name}` is set by the gateway")));
            }
            let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        if let Some(auth) = &self.config.auth {
            let token = self.token(auth)?;
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| self.wrong("auth", "the token holds characters that no header can carry"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(headers)
    }

    fn token(&self, auth: &AuthConfig) -> Result<Secret, Failure> {
        match (&auth.secret_name, &auth.token) {
            (Some(secret_name), None) => {
                let secret_name = secret_name.clone();
                self.named("auth", &NamedSecret { secret_name })
            }
            (None, Some(reference)) => self.secret("auth", reference),
            (None, None) | (Some(_), Some(_)) => {
                Err(self.wrong("auth", "needs either `secret_name` or `token`, and not both"))
            }
        }
    }

    pub(crate) fn secret(&self, key: &str, reference: &SecretRef) -> Result<Secret, Failure> {
        self.secrets.read(reference).map_err(|failure| self.at(key, failure))
    }

    fn named(&self, key: &str, named: &NamedSecret) -> Result<Secret, Failure> {
        self.secrets.named(named).map_err(|failure| self.at(key, failure))
    }

    pub(crate) fn login(&self, key: &str, named: &NamedSecret, user: Option<&str>) -> Result<Login, Failure> {
        self.secrets.login(named, user).map_err(|failure| self.at(key, failure))
    }

    fn at(&self, key: &str, failure: Failure) -> Failure {
        Failure {
            message: format!("{}.config.{key}: {}", self.path, failure.message),
            ..failure
        }
    }
}

/// Headers that are not the configuration's to choose.
const OURS: [HeaderName; 5] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::CONTENT_TYPE,
];

#[cfg(test)]
mod tests;
