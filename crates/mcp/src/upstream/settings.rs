//! What the configuration of one upstream means: checked, with its secrets read.

use super::config::{
    AuthConfig, ClientAuth, Config, EnvValue, OAuthConfig, Protocol, Sharing, SigningAlgorithm, UpstreamConfig,
};
use crate::client::{
    Credential, HttpTarget, Mode,
    oauth::{self, ClientProof, Grant, OAuth, OAuthParts, SigningKey},
};
use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use forebay_domain::{
    Code, Failure,
    quarantine::{Policy, ServerName},
};
use forebay_runtime::{Clock, Entropy, SecretRef, child::Command, secret::SecretReader};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::{cell::RefCell, fmt, time::Duration};
use url::Url;

/// The names of the gateway's own servers, now and as later versions bring them. No upstream may take one.
const RESERVED: &[&str] = &[
    "compose", "contexts", "forebay", "gpu", "mcp", "nodes", "tasks", "tools",
];

/// Upstreams at most.
pub(super) const UPSTREAMS_MAX: usize = 500;

/// One upstream as it is to be reached and judged.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) name: ServerName,
    pub(super) place: Place,
    pub(super) mode: Mode,
    pub(super) sharing: Sharing,
    pub(super) timeout: Duration,
    pub(super) policy: Policy,
    /// What this was made of, to see whether it changed: the configuration, and a digest of the secrets that it names.
    pub(super) config: UpstreamConfig,
    secrets: [u8; SHA256_OUTPUT_LEN],
}

impl Settings {
    /// Whether the same is to be reached in the same way.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.config == other.config && self.secrets == other.secrets
    }
}

#[derive(Debug, Clone)]
pub(super) enum Place {
    Child(Command),
    Http(HttpTarget),
}

/// How a place is told to people: never with arguments, which may hold secrets.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Child(command) => write!(f, "{}", command.program),
            Self::Http(target) => {
                let mut shown = target.url.clone();
                shown.set_query(None);
                shown.set_fragment(None);
                f.write_str(shown.as_str())
            }
        }
    }
}

/// Who wrote a configuration. Only the operator's own file may name programs and any secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    File,
    Api,
}

/// The only variables that a configuration from the API may refer to.
const API_SECRET_PREFIX: &str = "FOREBAY_UPSTREAM_";

/// What reading settings takes beside the configuration.
#[derive(Clone)]
pub struct Kit {
    pub secrets: SecretReader,
    /// For what the operator configured.
    pub client: reqwest::Client,
    pub clock: Clock,
    pub entropy: Entropy,
}

pub(super) fn parse_all(config: &Config, kit: &Kit) -> Result<Vec<Settings>, Failure> {
    if config.0.len() > UPSTREAMS_MAX {
        let message = format!(
            "`upstreams` has {} entries; at most {UPSTREAMS_MAX} are served.",
            config.0.len()
        );
        return Err(Failure::new(Code::InvalidConfig, message));
    }
    config
        .0
        .iter()
        .map(|(name, upstream)| parse(name, upstream, Origin::File, kit))
        .collect()
}

pub(super) fn parse(name: &str, config: &UpstreamConfig, origin: Origin, kit: &Kit) -> Result<Settings, Failure> {
    let wrong = |what: String| Failure::new(Code::InvalidConfig, format!("upstreams.{name}: {what}"));
    let name = ServerName::try_from(name).map_err(|fault| wrong(format!("{fault}.")))?;
    if RESERVED.contains(&name.as_str()) {
        return Err(wrong("this name belongs to the gateway itself.".to_owned()).hint("Choose another name."));
    }
    let reader = Reader {
        origin,
        kit,
        wrong: &wrong,
        seen: RefCell::new(Context::new(&SHA256)),
    };
    let place = match (&config.command, &config.url) {
        (Some(program), None) => Place::Child(reader.command(&name, program, config)?),
        (None, Some(url)) => Place::Http(reader.target(url, config)?),
        (None, None) | (Some(_), Some(_)) => {
            return Err(wrong("it needs either `command` or `url`, and not both.".to_owned()));
        }
    };
    Ok(Settings {
        name,
        place,
        mode: match config.protocol {
            Protocol::Auto => Mode::Auto,
            Protocol::Modern => Mode::Modern,
            Protocol::Legacy => Mode::Legacy,
            Protocol::Sse => Mode::Sse,
        },
        sharing: config.connection,
        timeout: Duration::from_secs(u64::from(config.timeout_s.get())),
        policy: config.quarantine,
        config: config.clone(),
        secrets: digest_of(reader.seen.into_inner()),
    })
}

fn digest_of(context: Context) -> [u8; SHA256_OUTPUT_LEN] {
    let mut digest = [0; SHA256_OUTPUT_LEN];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

struct Reader<'a> {
    origin: Origin,
    kit: &'a Kit,
    /// Every secret that was read, so that a new one is noticed.
    seen: RefCell<Context>,
    wrong: &'a dyn Fn(String) -> Failure,
}

impl Reader<'_> {
    fn wrong(&self, what: impl Into<String>) -> Failure {
        (self.wrong)(what.into())
    }

    fn command(&self, name: &ServerName, program: &str, config: &UpstreamConfig) -> Result<Command, Failure> {
        if self.origin == Origin::Api {
            return Err(self
                .wrong("a command cannot be set over the API.")
                .hint("Programs are named in the configuration file alone, by whoever runs the gateway."));
        }
        if config.auth.is_some() || !config.headers.is_empty() || config.protocol == Protocol::Sse {
            return Err(self.wrong("`auth`, `headers` and `protocol: sse` are for servers with a `url`."));
        }
        if program.trim().is_empty() {
            return Err(self.wrong("`command` is empty."));
        }
        let env = config.env.iter().map(|(key, value)| {
            let value = match value {
                EnvValue::Text(text) => text.clone(),
                EnvValue::Secret(reference) => self.secret(reference)?.expose().to_owned(),
            };
            Ok((key.clone(), value))
        });
        Ok(Command {
            name: name.as_str().to_owned(),
            program: program.to_owned(),
            args: config.args.clone(),
            env: env.collect::<Result<_, Failure>>()?,
            cwd: config.cwd.clone(),
        })
    }

    fn target(&self, url: &str, config: &UpstreamConfig) -> Result<HttpTarget, Failure> {
        if !config.args.is_empty() || !config.env.is_empty() || config.cwd.is_some() {
            return Err(self.wrong("`args`, `env` and `cwd` are for servers with a `command`."));
        }
        let url = self.url("url", url)?;
        Ok(HttpTarget {
            client: self.kit.client.clone(),
            credential: match &config.auth {
                None => Credential::None,
                Some(AuthConfig::Bearer(token)) => Credential::Bearer(self.secret(token)?),
                Some(AuthConfig::Header { name, value }) => {
                    Credential::Header(self.header_name(name)?, self.secret(value)?)
                }
                Some(AuthConfig::Oauth(oauth)) => Credential::OAuth(self.oauth(oauth, &url)?),
            },
            headers: self.headers(config)?,
            url,
        })
    }

    fn headers(&self, config: &UpstreamConfig) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let value = HeaderValue::from_str(value)
                .map_err(|_| self.wrong(format!("the value of the header `{name}` cannot be sent.")))?;
            headers.insert(self.header_name(name)?, value);
        }
        Ok(headers)
    }

    /// Headers that the protocol itself sets are not the operator's to choose.
    fn header_name(&self, name: &str) -> Result<HeaderName, Failure> {
        let parsed = HeaderName::try_from(name).map_err(|_| self.wrong(format!("`{name}` is no header name.")))?;
        let ours = parsed.as_str().starts_with("mcp-")
            || [
                header::HOST,
                header::CONTENT_TYPE,
                header::CONTENT_LENGTH,
                header::ACCEPT,
                header::TRANSFER_ENCODING,
            ]
            .contains(&parsed);
        if ours {
            return Err(self.wrong(format!("the header `{name}` is set by the gateway.")));
        }
        Ok(parsed)
    }

    fn url(&self, key: &str, text: &str) -> Result<Url, Failure> {
        let url = Url::parse(text).map_err(|fault| self.wrong(format!("`{key}` is no URL: {fault}.")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(self.wrong(format!("`{key}` must begin with http:// or https://.")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(self
                .wrong(format!("`{key}` must not hold a password."))
                .hint("Use `auth`, which takes a reference to a secret."));
        }
        Ok(url)
    }

    fn oauth(&self, config: &OAuthConfig, resource: &Url) -> Result<OAuth, Failure> {
        let secret = |reference: &Option<SecretRef>| reference.as_ref().map(|one| self.secret(one)).transpose();
        let url = |key, text: &Option<String>| text.as_ref().map(|text| self.url(key, text)).transpose();
        let proof = match (secret(&config.client_secret)?, &config.private_key) {
            (None, None) => ClientProof::None,
            (Some(secret), None) => match config.client_auth {
                ClientAuth::ClientSecretBasic => ClientProof::Basic(secret),
                ClientAuth::ClientSecretPost => ClientProof::Post(secret),
            },
            (None, Some(key)) => ClientProof::PrivateKeyJwt(SigningKey {
                pem: self.secret(&key.pem)?,
                algorithm: match key.algorithm {
                    SigningAlgorithm::RS256 => oauth::SigningAlgorithm::Rs256,
                    SigningAlgorithm::ES256 => oauth::SigningAlgorithm::Es256,
                    SigningAlgorithm::ES384 => oauth::SigningAlgorithm::Es384,
                    SigningAlgorithm::EdDSA => oauth::SigningAlgorithm::EdDsa,
                },
                key_id: key.key_id.clone(),
            }),
            (Some(_), Some(_)) => {
                return Err(self.wrong("`client_secret` and `private_key` are two ways to do the same; name one."));
            }
        };
        let config = oauth::OAuthConfig {
            client_id: config.client_id.clone(),
            proof,
            grant: secret(&config.refresh_token)?.map_or(Grant::ClientCredentials, Grant::Refresh),
            scope: (!config.scopes.is_empty()).then(|| config.scopes.join(" ")),
            token_url: url("token_url", &config.token_url)?,
            issuer: url("issuer", &config.issuer)?,
            resource: resource.clone(),
        };
        let parts = OAuthParts {
            client: self.kit.client.clone(),
            clock: self.kit.clock.clone(),
            entropy: self.kit.entropy.clone(),
        };
        Ok(OAuth::new(config, parts))
    }

    fn secret(&self, reference: &SecretRef) -> Result<forebay_runtime::Secret, Failure> {
        let allowed = match (self.origin, reference) {
            (Origin::File, _) => true,
            (Origin::Api, SecretRef::Env(name)) => name.starts_with(API_SECRET_PREFIX),
            (Origin::Api, SecretRef::File(_)) => false,
        };
        if !allowed {
            return Err(self.wrong("this secret cannot be named over the API.").hint(format!(
                "Use {{env: NAME}} with a name that begins with {API_SECRET_PREFIX}."
            )));
        }
        let secret = self
            .kit
            .secrets
            .read(reference)
            .map_err(|fault| self.wrong(format!("{fault}.")).caused_by(fault))?;
        let mut seen = self.seen.borrow_mut();
        seen.update(&secret.expose().len().to_be_bytes());
        seen.update(secret.expose().as_bytes());
        Ok(secret)
    }
}
