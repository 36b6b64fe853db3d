//! The environment, read once at the start. No other module looks at it.

use forebay_runtime::secret::SecretReader;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// What a variable that overrides a key of the configuration begins with: `FOREBAY__LIMITS__REQUESTS_PER_MINUTE`.
pub(crate) const OVERRIDE_PREFIX: &str = "FOREBAY__";

/// A picture of the environment. Variables that are not UTF-8 are none of ours.
#[derive(Clone, Default)]
pub struct Env(Arc<BTreeMap<String, String>>);

impl Env {
    /// The real one.
    pub fn system() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// A variable; an empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// The variables that override keys of the configuration, by their whole names.
    pub fn overrides(&self) -> impl Iterator<Item = (&str, &str)> {
        let ours = self.0.iter().filter(|(name, _)| name.starts_with(OVERRIDE_PREFIX));
        ours.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Reads secrets that the configuration refers to.
    pub fn secrets(&self) -> SecretReader {
        let env = self.clone();
        SecretReader::new(move |name| env.get(name).map(str::to_owned))
    }
}

impl FromIterator<(String, String)> for Env {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(Arc::new(variables.into_iter().collect()))
    }
}
