//! What only the parts themselves can judge: secrets that are there, backends that make sense, a store that has a form.
//!
//! It stands in two halves: what can be said of a configuration anywhere, and what only the gateway's own machine knows.

use super::{
    Config,
    check::mistake,
    mistake::Mistake,
    schema::Schema,
    tree::{Node, Shape},
    upstreams,
};
use forebay_domain::Failure;
use forebay_llm::{ConfigFault, ModelConfig, Settings, TurnsConfig};
use forebay_mcp::tools::{Config as ToolsConfig, FileReaderConfig};
use forebay_runtime::{Clock, SecretRef, Tasks, http, secret::SecretReader};
use forebay_server::{
    alerts::Alerts,
    config::{AddressConfig, AlertsConfig, JwtConfig},
    door::{
        origin::Neighbours,
        token::{Outside, TokenVerifier},
    },
};
use reqwest::header::{HeaderName, HeaderValue};
use std::{collections::BTreeMap, path::Path};
use url::Url;

/// Every secret that the configuration refers to, with the key that does.
pub(super) fn secrets(written: &Node, schema: &Schema) -> Vec<(Vec<String>, SecretRef)> {
    let mut found = Vec::new();
    collect(written, schema, &mut Vec::new(), &mut found);
    found
}

fn collect(node: &Node, schema: &Schema, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, SecretRef)>) {
    if schema.may_be_secret(path) {
        if let Ok(reference) = serde_json::from_value(node.to_json()) {
            found.push((path.clone(), reference));
        }
        return;
    }
    let children: Vec<(String, &Node)> = match &node.shape {
        Shape::Scalar(_) => Vec::new(),
        Shape::List(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| (index.to_string(), item))
            .collect(),
        Shape::Map(entries) => entries.iter().map(|(key, entry)| (key.clone(), &entry.node)).collect(),
    };
    for (segment, child) in children {
        path.push(segment);
        collect(child, schema, path, found);
        path.pop();
    }
}

/// Asks the parts, and keeps what they find next to what was found before.
pub(super) struct Judge<'a> {
    config: &'a Config,
    written: &'a Node,
    mistakes: Vec<Mistake>,
}

impl<'a> Judge<'a> {
    /// `mistakes` are those found so far: what they are about is not judged again.
    pub(super) fn new(config: &'a Config, written: &'a Node, mistakes: Vec<Mistake>) -> Self {
        Self {
            config,
            written,
            mistakes,
        }
    }

    pub(super) fn mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    /// What can be said without any secret, file or folder that the configuration refers to.
    pub(super) fn form(&mut self, data: &Path) {
        let Config {
            server,
            store,
            auth,
            models,
            turns,
            ..
        } = self.config;
        let open = forebay_store::Config {
            password: None,
            ..store.clone()
        };
        self.store(&open, data, &no_secrets());
        if let Some(url) = &server.public_url {
            self.web_address("server.public_url", url);
        }
        if let Some(url) = &self.config.mcp.server_url {
            self.web_address("mcp.server_url", url);
        }
        for (index, origin) in auth.origins.iter().enumerate() {
            if Neighbours::new(server.listen, None, &[], std::slice::from_ref(origin)).is_err() {
                let hint = "A web origin looks like `https://app.example.com` or `http://localhost:*`.";
                self.tell(
                    &format!("auth.origins.{index}"),
                    "it is no web origin",
                    Some(hint.to_owned()),
                );
            }
        }
        if let Some(jwt) = &auth.jwt {
            if let Some(url) = &jwt.jwks_url {
                self.web_address("auth.jwt.jwks_url", url);
            }
            if !reads_keys(jwt) {
                self.tokens(jwt, &no_secrets());
            }
        }
        for (name, model) in &models.0 {
            let mut bare = model.clone();
            for backend in &mut bare.backends {
                backend.api_key = None;
            }
            let faults = [models.check_fallbacks(name), alone(name, bare, &no_secrets()).map(drop)];
            for fault in faults.into_iter().filter_map(Result::err) {
                self.tell_at(&segments(&fault.path, name), fault.problem, None);
            }
        }
        if let Err(fault) = turns.check() {
            let path: Vec<String> = parts(&fault.path).map(str::to_owned).collect();
            self.tell_at(&path, fault.problem, None);
        }
        self.budgets();
        self.machines();
        self.webhooks(&some_webhook_secret(), Secrets::TakenForGranted);
        self.upstreams();
        self.collector();
    }

    /// What only the gateway's own machine knows. A secret that cannot be read is told once, at the key that refers to
    /// it.
    pub(super) fn machine(&mut self, schema: &Schema, data: &Path, reader: &SecretReader) {
        for (path, reference) in secrets(self.written, schema) {
            if let Err(fault) = reader.read(&reference) {
                let hint = "Set what it refers to, or refer to something else.";
                self.tell_at(&path, fault.to_string(), Some(hint.to_owned()));
            }
        }
        let Config { store, auth, tools, .. } = self.config;
        self.credentials(reader);
        self.entries_of_mcp(reader);
        self.webhooks(reader, Secrets::Read);
        let is_readable = |reference: &SecretRef| reader.read(reference).is_ok();
        if store.password.as_ref().is_none_or(is_readable) {
            self.store(store, data, reader);
        }
        if let Some(jwt) = auth.jwt.as_ref().filter(|jwt| reads_keys(jwt))
            && jwt.secret.as_ref().is_none_or(is_readable)
        {
            self.tokens(jwt, reader);
        }
        for (index, folder) in tools.file_reader.allowed_paths.iter().enumerate() {
            let file_reader = FileReaderConfig {
                allowed_paths: vec![folder.clone()],
                ..FileReaderConfig::default()
            };
            let alone = ToolsConfig {
                file_reader,
                ..ToolsConfig::default()
            };
            if let Err(failure) = alone.check(&no_secrets()) {
                let problem = without_key("tools.file_reader.allowed_paths", &failure);
                let path = format!("tools.file_reader.allowed_paths.{index}");
                self.tell(&path, problem, failure.hint.clone());
            }
        }
    }

    /// Providers and tools are told one by one, each where it stands. Where something was found already they are not judged
    /// again.
    fn entries_of_mcp(&mut self, reader: &SecretReader) {
        for (entry, failure) in self.config.app().faults_of_mcp(reader) {
            let is_of_it = |path: &str| path.strip_prefix(&entry).is_some_and(|rest| !rest.starts_with(is_name));
            if self.mistakes.iter().any(|found| is_of_it(&found.path)) {
                continue;
            }
            // What it says of the key goes on from that of the entry; of a built-in tool it may name another section.
            let (key, problem) = failure.message.split_once(": ").unwrap_or((&entry, &failure.message));
            let key = if is_of_it(key) { key } else { &entry };
            let path: Vec<String> = parts(key).map(str::to_owned).collect();
            self.tell_at(&path, problem.trim_end_matches('.').to_owned(), failure.hint.clone());
        }
    }

    fn store(&mut self, store: &forebay_store::Config, data: &Path, reader: &SecretReader) {
        if let Err(failure) = store.resolve(data, reader) {
            self.tell("store.url", &failure.message, failure.hint);
        }
    }

    /// Secrets that are there, and that no header can carry.
    fn credentials(&mut self, reader: &SecretReader) {
        for (name, model) in &self.config.models.0 {
            if let Err(fault) = alone(name, model.clone(), reader)
                && fault.source.is_none()
            {
                self.tell_at(&segments(&fault.path, name), fault.problem, None);
            }
        }
        for (name, reference) in self.config.telemetry.otlp.iter().flat_map(|otlp| &otlp.headers) {
            if let Ok(secret) = reader.read(reference)
                && HeaderValue::try_from(secret.expose()).is_err()
            {
                let path = ["telemetry", "otlp", "headers", name].map(str::to_owned);
                let problem = format!("{reference} holds characters that no header can carry");
                self.tell_at(&path, problem, None);
            }
        }
    }

    fn collector(&mut self) {
        let Some(otlp) = &self.config.telemetry.otlp else {
            return;
        };
        let (key, url) = ("telemetry.otlp.endpoint", &otlp.endpoint);
        self.web_address(key, url);
        if !url.username().is_empty() || url.password().is_some() {
            let hint = "Put them into `telemetry.otlp.headers`, by reference.";
            self.tell(key, "must not contain a user name or password", Some(hint.to_owned()));
        }
        for name in otlp.headers.keys() {
            if HeaderName::try_from(name).is_err() {
                let path = ["telemetry", "otlp", "headers", name].map(str::to_owned);
                self.tell_at(&path, "it is no name of a header".to_owned(), None);
            }
        }
    }

    fn budgets(&mut self) {
        // In a list whose items were put aside, the others have changed their places.
        if self.mistakes.iter().any(|found| found.path.starts_with("budgets")) {
            return;
        }
        for fault in self.config.budgets.rules().err().into_iter().flatten() {
            self.tell(&format!("budgets.{}.{}", fault.index, fault.key), &fault.problem, None);
        }
    }

    fn machines(&mut self) {
        let is_told = |section: &str, judge: &Self| judge.mistakes.iter().any(|found| found.path.starts_with(section));
        if let Err(failure) = self.config.prices.check()
            && !is_told("prices", self)
        {
            self.tell("prices", failure.message.trim_end_matches('.'), failure.hint);
        }
        if let Err(failure) = self.config.rentals.check()
            && !is_told("rentals", self)
        {
            self.tell("rentals", failure.message.trim_end_matches('.'), failure.hint);
        }
    }

    /// Each webhook by itself. A secret that cannot be read is told at its own key.
    fn webhooks(&mut self, reader: &SecretReader, secrets: Secrets) {
        for (name, webhook) in &self.config.alerts.webhooks {
            let key = format!("alerts.webhooks.{name}");
            let mut webhook = webhook.clone();
            if secrets == Secrets::TakenForGranted {
                webhook.secret = SecretRef::Env("PRESENT".to_owned());
                if matches!(webhook.url, AddressConfig::Secret(_)) {
                    let anywhere = Url::parse("https://present.invalid/").expect("it is one");
                    webhook.url = AddressConfig::Text(anywhere);
                }
            }
            let is_told = self.mistakes.iter().any(|found| found.path.starts_with(&key));
            if is_told || reader.read(&webhook.secret).is_err() {
                continue;
            }
            let alone = AlertsConfig {
                webhooks: BTreeMap::from([(name.clone(), webhook)]),
                ..AlertsConfig::default()
            };
            if let Err(failure) = Alerts::check(&alone, reader) {
                let problem = without_key(&key, &failure).to_owned();
                let path = ["alerts", "webhooks", name].map(str::to_owned);
                self.tell_at(&path, problem, failure.hint);
            }
        }
    }

    /// Each upstream by itself, so that each tells its own mistake.
    fn upstreams(&mut self) {
        for (name, upstream) in &self.config.upstreams.0 {
            let key = format!("upstreams.{name}");
            // Where a part of it was refused and put aside, the rest may lack just that.
            let is_told = |found: &Mistake| found.path == key || found.path.starts_with(&format!("{key}."));
            if self.mistakes.iter().any(is_told) {
                continue;
            }
            if let Err(failure) = upstreams::check(name, upstream) {
                let problem = without_key(&key, &failure).to_owned();
                self.tell_at(&["upstreams".to_owned(), name.clone()], problem, failure.hint);
            }
        }
    }

    fn tokens(&mut self, jwt: &JwtConfig, reader: &SecretReader) {
        // Where a part of the section was refused and put aside, the rest may lack just that.
        if self.mistakes.iter().any(|found| found.path.starts_with("auth.jwt")) {
            return;
        }
        let outside = Outside {
            client: http::trusted(),
            clock: Clock::system(),
            tasks: Tasks::new(),
        };
        if let Err(failure) = TokenVerifier::new(jwt, reader, &outside) {
            let problem = without_key("auth.jwt", &failure);
            self.tell("auth.jwt", problem, failure.hint.clone());
        }
    }

    fn web_address(&mut self, key: &str, url: &Url) {
        if !matches!(url.scheme(), "http" | "https") {
            let problem = format!("must begin with http:// or https://, not {}:", url.scheme());
            self.tell(key, &problem, None);
        }
    }

    /// `key` is dotted; no name in it holds a dot.
    fn tell(&mut self, key: &str, problem: &str, hint: Option<String>) {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        self.tell_at(&path, problem.to_owned(), hint);
    }

    fn tell_at(&mut self, path: &[String], problem: String, hint: Option<String>) {
        self.mistakes.push(mistake(self.written, path, problem, hint));
    }
}

fn no_secrets() -> SecretReader {
    SecretReader::new(|_| None)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Read,
    TakenForGranted,
}

/// Where secrets are not looked at, every webhook has a good one.
fn some_webhook_secret() -> SecretReader {
    let variable = format!("whsec_{}", "A".repeat(32));
    SecretReader::new(move |_| Some(variable.clone()))
}

/// Whether its keys stand on the gateway's machine: those that an issuer publishes are fetched later, and a choice that
/// is not exactly one is refused before anything is read.
fn reads_keys(jwt: &JwtConfig) -> bool {
    jwt.jwks_url.is_none() && (jwt.secret.is_some() != jwt.jwks_file.is_some())
}

/// One model, as if it were the only one, so that each tells its own mistake.
fn alone(name: &str, model: ModelConfig, reader: &SecretReader) -> Result<Settings, ConfigFault> {
    // The models to which it falls back are not there where it stands alone; they are checked beside it.
    let model = ModelConfig {
        fallbacks: Vec::new(),
        ..model
    };
    let alone = forebay_llm::Config(BTreeMap::from([(name.to_owned(), model)]));
    Settings::parse(&alone, &TurnsConfig::default(), reader)
}

/// What a part says, without the key in front and the full stop behind: the place says the one, a list needs no other.
fn without_key<'f>(key: &str, failure: &'f Failure) -> &'f str {
    let words = failure
        .message
        .strip_prefix(key)
        .and_then(|words| words.strip_prefix(": "));
    words.unwrap_or(&failure.message).trim_end_matches('.')
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// The segments of `models.NAME.backends[0].url`, whose name may hold dots itself.
fn segments(path: &str, name: &str) -> Vec<String> {
    let rest = path
        .strip_prefix("models.")
        .and_then(|rest| rest.strip_prefix(name))
        .unwrap_or_default();
    ["models", name]
        .into_iter()
        .chain(parts(rest))
        .map(str::to_owned)
        .collect()
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[', ']']).filter(|part| !part.is_empty())
}
