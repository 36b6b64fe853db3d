//! Secrets by reference: the configuration names where a secret stands, never the secret itself.

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};

/// Where a secret stands: `{env: NAME}` or `{file: PATH}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    /// The name of an environment variable.
    Env(String),
    /// The path of a file; one trailing newline is not part of the secret.
    File(PathBuf),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// A secret that was read. It shows itself only on demand.
#[derive(Debug, Clone)]
pub struct Secret(SecretString);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretFault {
    #[error("{0} is not set")]
    Missing(SecretRef),
    #[error("{0} is empty")]
    Empty(SecretRef),
    #[error("{0} cannot be read")]
    Unreadable(SecretRef, #[source] std::io::Error),
}

type Environment = std::sync::Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Reads secrets. The environment is a parameter: only the command line may look at the real one.
#[derive(Clone)]
pub struct SecretReader {
    env: Environment,
}

impl SecretReader {
    pub fn new(env: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self {
            env: std::sync::Arc::new(env),
        }
    }

    pub fn read(&self, reference: &SecretRef) -> Result<Secret, SecretFault> {
        let text = match reference {
            SecretRef::Env(name) => (self.env)(name).ok_or_else(|| SecretFault::Missing(reference.clone()))?,
            SecretRef::File(path) => {
                std::fs::read_to_string(path).map_err(|error| SecretFault::Unreadable(reference.clone(), error))?
            }
        };
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            Err(SecretFault::Empty(reference.clone()))
        } else {
            Ok(Secret::new(text.to_owned()))
        }
    }
}
