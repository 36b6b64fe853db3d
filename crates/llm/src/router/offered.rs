//! Which models there are: those of the configuration, and beside them those that another server lists. The
//! configuration's come first where both have one of a name.

use crate::settings::Settings;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Offered(Mutex<Both>);

#[derive(Debug, Default)]
struct Both {
    configured: Settings,
    listed: Settings,
}

impl Offered {
    /// Takes a configuration, and hands over what is in force with it. Whoever comes meanwhile waits, so that the last one
    /// to come is the last one in force.
    pub(super) fn configure(&self, settings: Settings, put_in_force: impl FnOnce(Settings)) {
        let mut both = self.both();
        both.configured = settings;
        put_in_force(both.joined());
    }

    /// The same with what is listed beside the configuration.
    pub(super) fn list(&self, settings: Settings, put_in_force: impl FnOnce(Settings)) {
        let mut both = self.both();
        both.listed = settings;
        put_in_force(both.joined());
    }

    fn both(&self) -> MutexGuard<'_, Both> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Both {
    fn joined(&self) -> Settings {
        let mut joined = self.configured.clone();
        for (name, model) in &self.listed.models {
            joined.models.entry(name.clone()).or_insert_with(|| model.clone());
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, TurnsConfig};
    use forebay_runtime::secret::SecretReader;
    use serde_json::json;

    fn settings(models: &[(&str, &str)]) -> Settings {
        let models: serde_json::Map<_, _> = models
            .iter()
            .map(|(name, url)| ((*name).to_owned(), json!({ "backends": [{ "url": url }] })))
            .collect();
        let config: Config = serde_json::from_value(models.into()).unwrap();
        Settings::parse(&config, &TurnsConfig::default(), &SecretReader::new(|_| None)).unwrap()
    }

    fn told(settings: &Settings) -> String {
        let words = settings.models.values().map(|model| {
            let uri = model.backends[0].uri(forebay_domain::model::Endpoint::Chat);
            format!("{}@{}", model.name, uri.host().unwrap())
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_configured_comes_before_what_is_listed() {
        let offered = Offered::default();
        let check = |expected: &'static str| move |joined: Settings| assert_eq!(told(&joined), expected);
        offered.configure(settings(&[("a", "http://own/v1")]), check("a@own"));
        let listed = settings(&[("a", "http://other/v1"), ("b", "http://other/v1")]);
        offered.list(listed, check("a@own b@other"));
        offered.configure(settings(&[]), check("a@other b@other"));
        offered.list(Settings::default(), check(""));
    }
}
