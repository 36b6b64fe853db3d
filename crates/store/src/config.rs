//! The `store:` section: which database.
//!
//! A password may stand in its own key by reference, so that the URL can be shown to anybody.

use forebay_domain::{Code, Failure};
use forebay_runtime::secret::{SecretReader, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use url::Url;

use crate::StoreError;

/// The name of the embedded database inside the data directory.
const DEFAULT_FILE: &str = "forebay.db";

/// Where everything is kept. Changing it needs a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `sqlite:///path/to/file.db` or `postgres://user@host/database`; without it, a SQLite file in the data directory.
    #[schemars(extend("x-forebay-reload" = "restart"))]
    pub url: Option<String>,
    /// The password of the PostgreSQL user, by reference.
    #[schemars(extend("x-forebay-reload" = "restart"))]
    pub password: Option<SecretRef>,
}

impl Config {
    /// The URL for [`crate::Store::open`], with the password in it. It is a secret; show [`redacted`] instead.
    pub fn resolve(&self, data_dir: &Path, secrets: &SecretReader) -> Result<String, Failure> {
        let url = self
            .url
            .clone()
            .unwrap_or_else(|| sqlite_url(&data_dir.join(DEFAULT_FILE)));
        Engine::of(&url)?;
        let Some(reference) = &self.password else {
            return Ok(url);
        };
        let password = secrets.read(reference).map_err(|fault| {
            Failure::new(Code::InvalidConfig, format!("`store.password`: {fault}."))
                .hint("Set what it refers to, or remove the key.")
        })?;
        let mut parsed = Url::parse(&url).map_err(|_| unusable("it is not a URL"))?;
        if Engine::of(&url)? == Engine::Sqlite || parsed.set_password(Some(password.expose())).is_err() {
            return Err(unusable("it cannot carry a password").into());
        }
        Ok(parsed.into())
    }
}

fn unusable(what: &str) -> StoreError {
    StoreError::Url { what: what.to_owned() }
}

/// Which of the two databases a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    pub(crate) fn of(url: &str) -> Result<Self, StoreError> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => Ok(Self::Sqlite),
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            _ => Err(unusable("it begins neither with `sqlite:` nor with `postgres:`")),
        }
    }
}

/// The URL of a SQLite file.
pub fn sqlite_url(file: &Path) -> String {
    let path = file.to_string_lossy();
    let path = path.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite://{path}")
}

/// A store's URL as people may see it: without its password.
pub fn redacted(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else {
        return "(unreadable URL)".to_owned();
    };
    if parsed.password().is_none() && parsed.query().is_none_or(|query| !query.contains("password")) {
        return url.to_owned();
    }
    parsed.set_query(None);
    if parsed.password().is_some() && parsed.set_password(Some("***")).is_err() {
        return "(unreadable URL)".to_owned();
    }
    parsed.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: Option<&str>, password: Option<&str>) -> Result<String, Failure> {
        let config = Config {
            url: url.map(str::to_owned),
            password: password.map(|name| SecretRef::Env(name.to_owned())),
        };
        let secrets = SecretReader::new(|name| (name == "PW").then(|| "p@ss/word".to_owned()));
        config.resolve(Path::new("/data"), &secrets)
    }

    #[test]
    fn the_password_joins_the_url_by_reference() {
        assert_eq!(resolve(None, None).unwrap(), "sqlite:///data/forebay.db");
        assert_eq!(
            resolve(Some("postgres://me@db/forebay"), Some("PW")).unwrap(),
            "postgres://me:p%40ss%2Fword@db/forebay"
        );
        for (url, password) in [
            (Some("postgres://me@db/forebay"), Some("UNSET")),
            (None, Some("PW")),
            (Some("mysql://me@db"), Some("PW")),
            (Some("nonsense"), Some("PW")),
        ] {
            assert_eq!(resolve(url, password).unwrap_err().code, Code::InvalidConfig, "{url:?}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(redacted("postgres://me:secret@db/x?a=b"), "postgres://me:***@db/x");
        assert_eq!(redacted("postgres://db/x?password=secret"), "postgres://db/x");
        assert_eq!(
            redacted("postgres://me@db/x?sslmode=require"),
            "postgres://me@db/x?sslmode=require"
        );
        assert_eq!(redacted("sqlite:///a/b.db"), "sqlite:///a/b.db");
    }

    #[test]
    fn a_path_survives_its_url() {
        assert_eq!(sqlite_url(Path::new("/a b/50%?#.db")), "sqlite:///a b/50%25%3F%23.db");
    }
}
