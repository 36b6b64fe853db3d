//! JSON Web Tokens (RFC 7519): verified by allow-list, turned into a principal.
//!
//! The algorithm must be on the list *and* be that of the key found for it, so a public key never serves as an HMAC
//! secret. `iss`, `aud` and `exp` must be there and right; `nbf` must be past where it is there.

use super::token_keys::{KeySet, Published, TokenKeys};
use crate::config::{ClaimNames, JwtAlgorithm, JwtConfig};
use forebay_domain::{
    Code, Failure, Grant, Principal, Role,
    id::{ProjectId, SubjectId, TenantId},
    key::check_chosen_secret,
};
use forebay_runtime::{Clock, Tasks, secret::SecretReader};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde_json::{Map, Value};

/// What a verifier needs of the process.
#[derive(Clone)]
pub struct Outside {
    pub client: reqwest::Client,
    pub clock: Clock,
    pub tasks: Tasks,
}

/// Verifies the tokens of one issuer.
pub struct TokenVerifier {
    keys: TokenKeys,
    algorithms: Vec<Algorithm>,
    issuer: String,
    audience: String,
    claims: ClaimNames,
    default_role: Role,
    default_tenant: Option<TenantId>,
    leeway_seconds: i64,
    clock: Clock,
}

type Claims = Map<String, Value>;

impl TokenVerifier {
    /// Refuses a configuration that would verify nothing, or too much.
    pub fn new(config: &JwtConfig, secrets: &SecretReader, outside: &Outside) -> Result<Self, Failure> {
        let (keys, possible) = open_keys(config, secrets, outside)?;
        let algorithms = match &config.algorithms {
            None => possible,
            Some(listed) => listed.iter().map(|name| algorithm(*name)).collect(),
        };
        let symmetric = |algorithm: &Algorithm| *algorithm == Algorithm::HS256;
        let by_secret = matches!(keys, TokenKeys::Secret(_));
        if algorithms.is_empty() || algorithms.iter().any(|a| symmetric(a) != by_secret) {
            return Err(config_fault(
                "`auth.jwt.algorithms` does not fit the keys: HS256 goes with `secret`, all others with `jwks_url` or `jwks_file`.",
            ));
        }
        if config.issuer.is_empty() || config.audience.is_empty() {
            return Err(config_fault(
                "`auth.jwt.issuer` and `auth.jwt.audience` must not be empty.",
            ));
        }
        let default_tenant = config.default_tenant.as_deref().map(TenantId::try_from).transpose();
        Ok(Self {
            keys,
            algorithms,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            claims: config.claims.clone(),
            default_role: config.default_role,
            default_tenant: default_tenant
                .map_err(|fault| config_fault(&format!("`auth.jwt.default_tenant`: {fault}.")))?,
            leeway_seconds: i64::try_from(config.leeway_seconds).unwrap_or(i64::MAX),
            clock: outside.clock.clone(),
        })
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub async fn verify(&self, token: &str) -> Result<Principal, Failure> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| {
            invalid(
                "The bearer is neither one of our API keys nor a token that can be read.",
                error,
            )
        })?;
        self.check_header(&header)?;
        let key = self.keys.find(header.kid.as_deref(), header.alg).await?;
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        // The time is checked below, by the clock that everything else goes by.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let data = jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|error| refused(error, self))?;
        self.check_time(&data.claims)?;
        self.principal(&data.claims)
    }

    fn check_header(&self, header: &Header) -> Result<(), Failure> {
        if !self.algorithms.contains(&header.alg) {
            let list = self
                .algorithms
                .iter()
                .map(|a| format!("{a:?}"))
                .collect::<Vec<_>>()
                .join(", ");
            let message = format!(
                "Tokens signed with {:?} are not accepted; accepted are {list}.",
                header.alg
            );
            return Err(Failure::new(Code::InvalidToken, message).hint("Get a token that is signed with one of those."));
        }
        if header.crit.is_some() {
            return Err(Failure::new(
                Code::InvalidToken,
                "The token names critical extensions, and none is known here.",
            ));
        }
        Ok(())
    }

    fn check_time(&self, claims: &Claims) -> Result<(), Failure> {
        let now = self.clock.now().as_second();
        let seconds = |name: &str| claims.get(name).and_then(seconds);
        let expires =
            seconds("exp").ok_or_else(|| Failure::new(Code::InvalidToken, "The token's `exp` is no time."))?;
        if now.saturating_sub(self.leeway_seconds) >= expires {
            return Err(
                Failure::new(Code::ExpiredToken, "The token has expired.").hint("Get a new token from the issuer.")
            );
        }
        let begun = |from: i64| from <= now.saturating_add(self.leeway_seconds);
        if claims.contains_key("nbf") && !seconds("nbf").is_some_and(begun) {
            return Err(Failure::new(Code::InvalidToken, "The token is not valid yet."));
        }
        Ok(())
    }

    /// Until when the token is let in; a time past the calendar is never.
    fn good_until(&self, claims: &Claims) -> Option<Timestamp> {
        let expires = claims.get("exp").and_then(seconds)?;
        Timestamp::from_second(expires.saturating_add(self.leeway_seconds)).ok()
    }

    fn principal(&self, claims: &Claims) -> Result<Principal, Failure> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let unfit = |name: &str, why: &dyn std::fmt::Display| {
            Failure::new(
                Code::InvalidToken,
                format!("The token's claim `{name}` cannot be used: {why}."),
            )
        };
        let subject = SubjectId::try_from(text("sub").unwrap_or_default()).map_err(|fault| unfit("sub", &fault))?;
        let tenant = match (text(&self.claims.tenant), &self.default_tenant) {
            (Some(name), _) => TenantId::try_from(name).map_err(|fault| unfit(&self.claims.tenant, &fault))?,
            (None, Some(default)) => default.clone(),
            (None, None) => {
                return Err(unfit(
                    &self.claims.tenant,
                    &"it is missing, and there is no default tenant",
                ));
            }
        };
        let project = text(&self.claims.project).map(ProjectId::try_from).transpose();
        let project = project.map_err(|fault| unfit(&self.claims.project, &fault))?;
        let role = match claims.get(&self.claims.roles) {
            None => self.default_role,
            Some(value) => highest_role(value).ok_or_else(|| unfit(&self.claims.roles, &"it names no role"))?,
        };
        Ok(Principal {
            tenant,
            project,
            subject,
            key: None,
            session: None,
            role,
            grants: grants(text("scope")),
            shown: Vec::new(),
            good_until: self.good_until(claims),
        })
    }
}

/// A role by name or the highest of a list; names that are no roles of ours are somebody else's.
fn highest_role(value: &Value) -> Option<Role> {
    let names: Vec<&str> = match value {
        Value::String(name) => vec![name],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    names.iter().filter_map(|name| name.parse().ok()).max()
}

/// Those scopes that have the form of a grant (`tool:web_*`); others, such as `openid`, mean nothing here.
fn grants(scope: Option<&str>) -> Vec<Grant> {
    scope
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter(|s| *s != "*")
        .filter_map(|s| s.parse().ok())
        .collect()
}

/// A NumericDate of RFC 7519 §2: seconds, possibly with a fraction.
fn seconds(value: &Value) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float past the range saturates, which compares the same"
    )]
    value.as_i64().or_else(|| value.as_f64().map(|float| float as i64))
}

fn algorithm(name: JwtAlgorithm) -> Algorithm {
    match name {
        JwtAlgorithm::HS256 => Algorithm::HS256,
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

fn open_keys(
    config: &JwtConfig,
    secrets: &SecretReader,
    outside: &Outside,
) -> Result<(TokenKeys, Vec<Algorithm>), Failure> {
    match (&config.secret, &config.jwks_file, &config.jwks_url) {
        (Some(reference), None, None) => {
            let secret = secrets
                .read(reference)
                .map_err(|fault| config_fault("`auth.jwt.secret` cannot be read.").caused_by(fault))?;
            check_chosen_secret(secret.expose().as_bytes())
                .map_err(|weakness| config_fault(&format!("`auth.jwt.secret` is too weak: {weakness}.")))?;
            Ok((
                TokenKeys::Secret(DecodingKey::from_secret(secret.expose().as_bytes())),
                vec![Algorithm::HS256],
            ))
        }
        (None, Some(path), None) => {
            let document = std::fs::read(path)
                .map_err(|error| config_fault("`auth.jwt.jwks_file` cannot be read.").caused_by(error))?;
            let set = KeySet::parse(&document)
                .map_err(|fault| config_fault(&format!("`auth.jwt.jwks_file` cannot be used: {fault}.")))?;
            let algorithms = set.algorithms();
            Ok((TokenKeys::Fixed(set), algorithms))
        }
        (None, None, Some(url)) => {
            let Outside { client, clock, tasks } = outside.clone();
            let published = Published::new(url.clone(), client, clock, tasks);
            Ok((
                TokenKeys::Published(published),
                vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            ))
        }
        _ => Err(config_fault(
            "`auth.jwt` needs exactly one of `jwks_url`, `jwks_file` and `secret`.",
        )),
    }
}

fn config_fault(message: &str) -> Failure {
    Failure::new(Code::InvalidConfig, message.to_owned())
}

fn invalid(message: &str, error: jsonwebtoken::errors::Error) -> Failure {
    Failure::new(Code::InvalidToken, message)
        .hint("Get a new token from the issuer, or use an API key.")
        .caused_by(error)
}

fn refused(error: jsonwebtoken::errors::Error, verifier: &TokenVerifier) -> Failure {
    use jsonwebtoken::errors::ErrorKind as Kind;
    let message = match error.kind() {
        Kind::InvalidSignature => "The token's signature is wrong.".to_owned(),
        Kind::InvalidAudience => format!(
            "The token is for somebody else; its `aud` must be {:?}.",
            verifier.audience
        ),
        Kind::InvalidIssuer => format!(
            "The token comes from somebody else; its `iss` must be {:?}.",
            verifier.issuer
        ),
        Kind::MissingRequiredClaim(claim) => format!("The token lacks the claim `{claim}`."),
        _ => "The token cannot be read.".to_owned(),
    };
    invalid(&message, error)
}
