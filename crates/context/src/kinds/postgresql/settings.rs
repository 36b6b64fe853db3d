//! What the configuration of a database means.

use crate::{
    config::TlsConfig,
    secret::{Login, Origin},
    settings::Reading,
};
use forebay_domain::Failure;
use forebay_store::foreign::{Target, Tls};
use std::time::Duration;

/// A statement without a time limit of its own ends with the longest that a provider may have.
const STATEMENT_MAX: Duration = Duration::from_mins(2);
/// Who logs in where nothing is said about it. Not what our own environment says, which is nobody else's to choose by.
const USER: &str = "forebay";

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(super) target: Target,
    pub(super) origin: Origin,
    pub(super) keyword: Option<Keyword>,
    pub(super) semantic: Option<Semantic>,
    pub(super) timeout: Duration,
}

#[derive(Debug, Clone)]
pub(super) enum Keyword {
    Query(String),
    Tables {
        names: Vec<String>,
        language: Option<String>,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Semantic {
    pub(super) model: String,
    /// The vector columns of the tables where there is none.
    pub(super) query: Option<String>,
}

impl Settings {
    pub(crate) fn parse(read: &Reading<'_>) -> Result<Self, Failure> {
        let config = read.config;
        let keyword = keyword(read)?;
        let model = read.model()?;
        let semantic = match (&config.vector_query, model) {
            (Some(query), Some(model)) => Some(Semantic {
                model,
                query: Some(statement(read, "vector_query", query)?),
            }),
            (Some(_), None) => return Err(read.wrong("vector_query", "needs an `embedding_model`")),
            (None, Some(_)) if matches!(keyword, Some(Keyword::Query(_))) => {
                return Err(read.wrong(
                    "embedding_model",
                    "is of no use beside `query` without a `vector_query`",
                ));
            }
            (None, Some(model)) => Some(Semantic { model, query: None }),
            (None, None) => None,
        };
        Ok(Self {
            target: target(read)?,
            origin: read.origin,
            keyword,
            semantic,
            timeout: config
                .timeout_ms
                .map_or(STATEMENT_MAX, |ms| Duration::from_millis(ms.get().into())),
        })
    }
}

fn target(read: &Reading<'_>) -> Result<Target, Failure> {
    let config = read.config;
    let Login { user, password } = match (&config.credentials, &config.password) {
        (Some(_), Some(_)) => {
            return Err(read.wrong("credentials", "and `password` are two ways to say the same; name one"));
        }
        (Some(named), None) => read.login("credentials", named, config.user.as_deref())?,
        (None, Some(reference)) => Login {
            user: config.user.clone(),
            password: Some(read.secret("password", reference)?),
        },
        (None, None) => Login {
            user: config.user.clone(),
            password: None,
        },
    };
    let is_known = config.credentials.is_some() || password.is_some();
    if user.is_none() && is_known {
        return Err(read.wrong("user", "is needed, here or in the secret"));
    }
    Ok(Target {
        host: read.text("host", config.host.as_ref())?.to_owned(),
        address: None,
        port: config.port.map_or(5432, std::num::NonZero::get),
        database: read.text("database", config.database.as_ref())?.to_owned(),
        user: user.unwrap_or_else(|| USER.to_owned()),
        password,
        tls: match config.tls {
            None | Some(TlsConfig::Prefer) => Tls::Prefer,
            Some(TlsConfig::Disable) => Tls::Disable,
            Some(TlsConfig::Require) => Tls::Require,
        },
        search_path: Vec::new(),
    })
}

fn keyword(read: &Reading<'_>) -> Result<Option<Keyword>, Failure> {
    let config = read.config;
    let names_tables = !config.tables.is_empty() || config.language.is_some();
    match &config.query {
        Some(_) if names_tables => {
            Err(read.wrong("query", "and `tables` or `language` are two ways to look; name one"))
        }
        Some(query) => Ok(Some(Keyword::Query(statement(read, "query", query)?))),
        None if config.vector_query.is_some() && !names_tables => Ok(None),
        None if config.tables.iter().any(|name| name.trim().is_empty()) => {
            Err(read.wrong("tables", "has an empty name"))
        }
        None => Ok(Some(Keyword::Tables {
            names: config.tables.clone(),
            language: config.language.clone(),
        })),
    }
}

/// A statement that takes the question. It is not otherwise looked at: the database does that, which runs nothing but
/// one reading statement.
fn statement(read: &Reading<'_>, key: &str, sql: &str) -> Result<String, Failure> {
    if !sql.contains("$1") {
        return Err(read.wrong(key, "has no `$1`: every question would be the same"));
    }
    Ok(sql.to_owned())
}
