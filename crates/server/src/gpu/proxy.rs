//! `proxy_inference_request`: a request to an endpoint of one of the caller's own machines, or to a model route of this
//! gateway. Nothing else is reached, however it is spelled.
//!
//! Where a machine is reached its provider has said, who is believed in nothing: such an address is asked through the
//! guarded client, which reaches public addresses alone. Only the machine that the gateway runs on is asked directly.

mod answer;
mod headers;
mod machine;

pub(crate) use machine::guarded;

use crate::{app::App, http::base_url_of};
use answer::{Answered, Form, collect, shown};
use bytes::Bytes;
use forebay_compute::rental::{Rental, Whose};
use forebay_domain::{
    Code, Event, Failure, Principal,
    event::{Class, Outcome as Ending},
    json as strict,
    model::{AnswerForm, Endpoint, Hints, ModelRequest},
    port::AskModel,
};
use forebay_mcp::call::{CallContext, Outcome};
use forebay_store::rentals::RentalState;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use url::Url;

/// The largest answer that is given whole.
const ANSWER_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    target_url: String,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    body: Option<Value>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// What goes out of a wish.
struct Sent {
    headers: BTreeMap<String, String>,
    /// With its media type, where its sender names none.
    body: Option<(String, &'static str)>,
}

impl Sent {
    fn of(headers: BTreeMap<String, String>, body: Option<Value>) -> Self {
        let body = body.map(|body| match body {
            Value::String(text) => (text, "text/plain; charset=utf-8"),
            other => (other.to_string(), "application/json"),
        });
        Self { headers, body }
    }

    fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |(text, _)| text.len())
    }
}

/// Where a request goes.
enum Target {
    Model(Endpoint),
    Models,
    Machine { rental: Box<Rental>, url: Url },
}

pub(super) async fn run(
    app: &App,
    principal: &Principal,
    wish: Wish,
    context: &CallContext,
) -> Result<Outcome, Failure> {
    let method = wish.method.as_deref().unwrap_or("POST").parse();
    let method: Method = method.map_err(|_| Failure::new(Code::InvalidArguments, "`method` is none of HTTP's."))?;
    let began = app.clock.monotonic();
    let target = target(app, principal, &wish.target_url, &method).await?;
    let sent = Sent::of(wish.headers, wish.body);
    let bytes_in = sent.bytes();
    let (action, told) = match target {
        Target::Models => ("proxy:models".to_owned(), Ok(models(app, principal))),
        Target::Model(endpoint) => {
            let action = format!("proxy:{}", endpoint.path());
            (action, model(app, principal, (endpoint, sent), context).await)
        }
        Target::Machine { rental, url } => {
            let action = format!("proxy:{}", rental.id);
            (
                action,
                machine::machine(app, (&rental, url, method), sent, context).await,
            )
        }
    };
    // Models' own events have the tokens; this one says that it came this way, and what went to a machine.
    let (ending, bytes_out) = match &told {
        Ok(answer) => (Ending::Ok, answer.bytes),
        Err(failure) => (Ending::Failed(failure.code), 0),
    };
    let took = app.clock.monotonic().saturating_sub(began);
    app.store.events().record(Event {
        at: app.clock.now(),
        class: Class::Activity,
        surface: context.via.surface,
        trace: context.via.trace,
        actor: Some(principal.into()),
        action,
        outcome: ending,
        reason: None,
        duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        bytes_in: bytes_in as u64,
        bytes_out: bytes_out as u64,
        usage: None,
        cost: None,
        count: 1,
    });
    told.map(|answer| super::complete(&answer.told))
}

/// What is meant, or the refusal. It says the same whatever else would be there.
async fn target(app: &App, principal: &Principal, text: &str, method: &Method) -> Result<Target, Failure> {
    let own = base_url_of(app);
    if let Some(path) = own_path(text, &own) {
        return model_route(&path, method);
    }
    let url = Url::parse(text).map_err(|_| refused())?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    if !is_plain || !matches!(url.scheme(), "http" | "https") {
        return Err(refused());
    }
    let mine = app.rentals.list(principal, Whose::Mine, true).await?;
    let is_of = |rental: &Rental| {
        let mut endpoints = rental
            .endpoints
            .values()
            .filter_map(|endpoint| Url::parse(endpoint).ok());
        // Where one that is to end was reached somebody else's may be next.
        rental.state == RentalState::Up && endpoints.any(|endpoint| is_same_place(&endpoint, &url))
    };
    let rental = mine.into_iter().find(is_of).ok_or_else(refused)?;
    Ok(Target::Machine {
        rental: Box::new(rental),
        url,
    })
}

fn is_same_place(endpoint: &Url, url: &Url) -> bool {
    let place = |url: &Url| {
        (
            url.scheme().to_owned(),
            url.host().map(|host| host.to_owned()),
            url.port_or_known_default(),
        )
    };
    place(endpoint) == place(url)
}

fn refused() -> Failure {
    Failure::new(
        Code::AddressNotAllowed,
        "`target_url` is neither an endpoint of a machine of yours that is up, nor a model route of this gateway.",
    )
    .hint("`get_gpu_instance` shows the endpoints of a machine; a model route is `/v1/chat/completions`.")
}

/// The path of a URL that is this gateway's own: one that says nothing else, or one at an address of the gateway.
fn own_path(text: &str, own: &[Url]) -> Option<String> {
    if text.starts_with('/') && !text.starts_with("//") && !text.contains('\\') {
        let base = Url::parse("http://gateway.invalid").ok()?;
        let url = base.join(text).ok()?;
        return (url.host_str() == Some("gateway.invalid")).then(|| url.path().to_owned());
    }
    let url = Url::parse(text).ok()?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    let is_own = own.iter().any(|base| is_same_place(base, &url));
    (is_plain && is_own).then(|| url.path().to_owned())
}

fn model_route(path: &str, method: &Method) -> Result<Target, Failure> {
    let bare = path
        .strip_prefix("/v1/")
        .or_else(|| path.strip_prefix('/'))
        .unwrap_or_default();
    if bare == "models" && method == Method::GET {
        return Ok(Target::Models);
    }
    let endpoint = Endpoint::ALL.into_iter().find(|endpoint| endpoint.path() == bare);
    match endpoint {
        Some(endpoint) if method == Method::POST => Ok(Target::Model(endpoint)),
        Some(_) | None => Err(refused()),
    }
}

fn models(app: &App, principal: &Principal) -> Answered {
    let models = AskModel::models(app.models.as_ref(), principal);
    let list: Vec<Value> = models
        .iter()
        .map(|model| json!({"id": model.name, "object": "model"}))
        .collect();
    Answered {
        told: json!({"status": 200, "body": {"object": "list", "data": list}}),
        bytes: 0,
    }
}

/// A model of the gateway, asked as everybody asks it: policy, limits and money are the router's.
async fn model(
    app: &App,
    principal: &Principal,
    (endpoint, sent): (Endpoint, Sent),
    context: &CallContext,
) -> Result<Answered, Failure> {
    let body = Bytes::from(sent.body.map(|(text, _)| text).unwrap_or_default());
    strict::check_strict(&body)?;
    let named: Map<String, Value> = serde_json::from_slice(&body)
        .map_err(|_| Failure::new(Code::InvalidArguments, "`body` must be a JSON object with `model`."))?;
    let model = named.get("model").and_then(Value::as_str);
    let model = model.ok_or_else(|| Failure::new(Code::InvalidArguments, "`body` names no `model`."))?;
    let request = ModelRequest {
        endpoint,
        model: model.to_owned(),
        body,
        hints: Hints::default(),
    };
    let answer = app.models.complete(principal, request, context.via).await?;
    let form = match answer.form() {
        AnswerForm::Whole => Form::Json,
        AnswerForm::Events => Form::Stream,
    };
    let body = collect(answer.into_body(), form, context).await?;
    Ok(Answered {
        bytes: body.len(),
        told: json!({"status": 200, "body": shown(&body, form)}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<Url> {
        ["http://127.0.0.1:8080", "https://ai.example.com"]
            .map(|url| url.parse().unwrap())
            .to_vec()
    }

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(own_path(text, &own()).as_deref(), expected, "{text}");
    }

    #[test]
    fn the_gateways_own_routes_are_known_in_every_honest_spelling() {
        check("/v1/chat/completions", Some("/v1/chat/completions"));
        check("http://127.0.0.1:8080/v1/embeddings?x=1", Some("/v1/embeddings"));
        check("https://ai.example.com/chat/completions", Some("/chat/completions"));
        check("https://ai.example.com:443/v1/models", Some("/v1/models"));
        for other in [
            "//127.0.0.1:8080/v1/models",
            "/\\evil.example/v1/models",
            "http://127.0.0.1:8081/v1/models",
            "https://127.0.0.1:8080/v1/models",
            "http://user@127.0.0.1:8080/v1/models",
            "http://ai.example.com.evil.example/v1/models",
            "v1/models",
            "",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn of_the_gateway_only_models_are_reached() {
        let reached = |path: &str, method| model_route(path, &method).is_ok();
        for path in [
            "/v1/chat/completions",
            "/chat/completions",
            "/v1/responses",
            "/v1/messages",
            "/v1/embeddings",
        ] {
            assert!(reached(path, Method::POST) && !reached(path, Method::GET), "{path}");
        }
        assert!(reached("/v1/models", Method::GET));
        for path in [
            "/api/v1/keys",
            "/metrics",
            "/mcp",
            "/v1/../api/v1/keys",
            "/v1/chat/completions/",
            "/v1//models",
            "/",
            "/v1/models/x",
            "/api/v1/mcp",
        ] {
            assert!(!reached(path, Method::POST) && !reached(path, Method::GET), "{path}");
        }
    }
}
