//! `forebay doctor`: checks an installation step by step; a line each, and what to do.

use crate::{
    config::Config,
    connect::Context,
    exit::exit_code,
    printer::{Printer, Table},
};
use forebay_api::{Status, UpstreamState};
use forebay_domain::{Code, ErrorKind, Failure};
use forebay_llm::{BackendConfig, Engine};
use forebay_runtime::{http, secret::SecretReader};
use rustix::fs::{Access, access};
use serde::Serialize;
use std::{path::Path, process::ExitCode, time::Duration};

const BACKEND_MAX: Duration = Duration::from_secs(5);
/// Anthropic's API answers nobody who does not name its version.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Check the installation, step by step
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Worth a look, and nothing fails for it.
    Warn,
    Fail,
}

/// One thing that was checked.
#[derive(Debug, Serialize)]
struct Check {
    what: String,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_do: Option<String>,
    #[serde(skip)]
    kind: ErrorKind,
}

impl Check {
    fn new(what: &str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            verdict,
            found: found.into(),
            to_do: None,
            kind: ErrorKind::Invalid,
        }
    }

    fn advise(mut self, to_do: impl Into<String>) -> Self {
        self.to_do = Some(to_do.into());
        self
    }

    fn failed(what: &str, failure: &Failure) -> Self {
        let check = Self {
            kind: failure.kind(),
            ..Self::new(what, Verdict::Fail, failure.message.clone())
        };
        Self {
            to_do: failure.hint.clone(),
            ..check
        }
    }
}

pub(crate) async fn run(_: Args, context: &Context, printer: &mut Printer) -> Result<ExitCode, Failure> {
    let mut checks = Vec::new();
    let config = configuration(context, &mut checks);
    checks.push(data_dir(&context.data));
    gateway(context, &mut checks).await;
    if let Some(config) = &config {
        backends(config, &context.env.secrets(), &mut checks).await;
    }
    printer.print(&checks, |checks| {
        let rows = checks.iter().map(|check| {
            let verdict = match check.verdict {
                Verdict::Ok => "ok",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
            };
            let found = check
                .to_do
                .as_ref()
                .map_or(check.found.clone(), |to_do| format!("{} → {to_do}", check.found));
            [verdict.to_owned(), check.what.clone(), found]
        });
        Table::new(["", "check", "found"], rows)
    })?;
    let worst = checks.iter().find(|check| check.verdict == Verdict::Fail);
    Ok(worst.map_or(ExitCode::SUCCESS, |check| exit_code(check.kind)))
}

fn configuration(context: &Context, checks: &mut Vec<Check>) -> Option<Config> {
    let what = "configuration";
    match context.sources().load_without_secrets() {
        Ok(loaded) => {
            let found = loaded
                .file
                .as_ref()
                .map_or_else(|| "no file, defaults".to_owned(), |f| f.display().to_string());
            checks.push(Check::new(what, Verdict::Ok, found));
            Some(loaded.config)
        }
        Err(mistakes) => {
            checks.push(Check::failed(what, &mistakes.into()));
            None
        }
    }
}

/// Where there is no data directory yet, what it would be made in counts.
fn data_dir(data: &Path) -> Check {
    let what = "data directory";
    let there = data.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let shown = data.display();
    if access(there, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let check = Check::new(what, Verdict::Fail, format!("{shown} cannot be written"));
        return check.advise("choose another one with --data or FOREBAY_DATA, or change its owner");
    }
    if there == data {
        Check::new(what, Verdict::Ok, shown.to_string())
    } else {
        // Nothing tells whether a gateway runs on this machine with another one.
        Check::new(
            what,
            Verdict::Ok,
            format!("{shown} is not there; `forebay serve` would make it"),
        )
        .advise("if a gateway has its data elsewhere, name that with --data or FOREBAY_DATA")
    }
}

async fn gateway(context: &Context, checks: &mut Vec<Check>) {
    let gateway = match context.gateway() {
        Ok(gateway) => gateway,
        Err(failure) => return checks.push(Check::failed("gateway", &failure)),
    };
    let health = match gateway.anonymous() {
        Ok(client) => client.health().await.map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    match health {
        Ok(health) => {
            let found = format!("{} is {}, version {}", gateway.url, health.status, health.version);
            checks.push(Check::new("gateway", Verdict::Ok, found));
        }
        Err(failure) => return checks.push(Check::failed("gateway", &failure)),
    }
    let status = match gateway.client(&context.data) {
        Ok(client) => client.status().await.map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    match status {
        Ok(status) => {
            checks.push(Check::new("key", Verdict::Ok, "it is accepted"));
            checks.extend([store(&status), in_force(&status), models(&status)]);
            checks.extend(status.upstreams.iter().filter_map(upstream));
        }
        Err(failure) => checks.push(Check::failed("key", &failure)),
    }
}

fn store(status: &Status) -> Check {
    if status.store.healthy {
        return Check::new("store", Verdict::Ok, format!("{} answers", status.store.engine));
    }
    let failure = Failure::new(
        Code::StoreUnavailable,
        format!("{} does not answer", status.store.engine),
    )
    .hint("start the database, or check `store.url` and its password; the gateway's log says more");
    Check::failed("store", &failure)
}

fn in_force(status: &Status) -> Check {
    match &status.config.last_error {
        None => Check::new(
            "configuration in force",
            Verdict::Ok,
            format!("loaded {}", status.config.loaded_at),
        ),
        Some(error) => Check::new(
            "configuration in force",
            Verdict::Fail,
            format!("a newer one was not taken: {error}"),
        )
        .advise("mend the file; the gateway reads it again by itself"),
    }
}

fn models(status: &Status) -> Check {
    if status.models.is_empty() {
        let check = Check::new("models", Verdict::Warn, "there is none that this key may ask");
        return check.advise("add one to `models:` in the configuration");
    }
    Check::new("models", Verdict::Ok, status.models.join(", "))
}

/// An upstream that needs somebody: one that is not there, or one of which something waits for a decision.
fn upstream(upstream: &UpstreamState) -> Option<Check> {
    let name = &upstream.name;
    let what = format!("upstream {name}");
    if !matches!(upstream.state.as_str(), "ready" | "disabled") {
        let why = upstream
            .trouble
            .as_ref()
            .map_or_else(String::new, |why| format!(": {why}"));
        let check = Check::new(&what, Verdict::Warn, format!("it is {}{why}", upstream.state));
        return Some(check.advise(format!(
            "see `forebay upstream show {name}`; the gateway tries again by itself"
        )));
    }
    let held = upstream.held.filter(|held| *held > 0)?;
    let check = Check::new(&what, Verdict::Warn, format!("{held} definitions wait for a decision"));
    Some(check.advise(format!("look at them with `forebay upstream approve {name}`")))
}

/// The engines of the configuration on this side, as they are seen from here.
async fn backends(config: &Config, secrets: &SecretReader, checks: &mut Vec<Check>) {
    for (name, model) in &config.models.0 {
        for (index, backend) in model.backends.iter().enumerate() {
            let what = format!("backend {index} of {name}");
            checks.push(reach(&what, backend, secrets).await);
        }
    }
}

async fn reach(what: &str, backend: &BackendConfig, secrets: &SecretReader) -> Check {
    let mut request = http::trusted()
        .get(format!("{}/models", backend.url.trim_end_matches('/')))
        .timeout(BACKEND_MAX);
    let is_anthropic = backend.engine == Some(Engine::Anthropic);
    if is_anthropic {
        request = request.header("anthropic-version", ANTHROPIC_VERSION);
    }
    let mut unread = None;
    if let Some(reference) = &backend.api_key {
        match secrets.read(reference) {
            Ok(secret) if is_anthropic => request = request.header("x-api-key", secret.expose()),
            Ok(secret) => request = request.bearer_auth(secret.expose()),
            Err(fault) => unread = Some(fault),
        }
    }
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Check::new(what, Verdict::Ok, "it answers"),
        Ok(_) if unread.is_some() => {
            let found = unread.map_or_else(String::new, |fault| {
                format!("it answers; its key was not tried: {fault}")
            });
            Check::new(what, Verdict::Warn, found).advise("set it here too, to check the key")
        }
        Ok(answer) if matches!(answer.status().as_u16(), 401 | 403) => {
            let failure = Failure::new(
                Code::UpstreamFailed,
                format!("it refuses the key (HTTP {})", answer.status().as_u16()),
            )
            .hint("check `api_key` of this backend");
            Check::failed(what, &failure)
        }
        Ok(answer) => {
            let found = format!("it answers HTTP {} to `GET /models`", answer.status().as_u16());
            Check::new(what, Verdict::Warn, found).advise("check that `url` ends where its API begins, mostly in /v1")
        }
        Err(error) => {
            let why = if error.is_timeout() {
                "did not answer in time"
            } else {
                "cannot be reached"
            };
            let failure = Failure::new(Code::UpstreamFailed, format!("{} {why}", backend.url))
                .hint("start the engine, or mend `url` of this backend");
            Check::failed(what, &failure)
        }
    }
}
