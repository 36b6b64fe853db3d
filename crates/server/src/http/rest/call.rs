//! `POST /mcp/tools/{name}`: calls a tool with the body as its arguments.

use super::{RawJson, finished, needs_input};
use crate::{
    app::App,
    door::Caller,
    http::{ApiError, body},
};
use axum::{
    Extension,
    extract::{Path, Request, State},
};
use forebay_domain::{Code, Failure, event::Surface, json, port::Via};
use forebay_mcp::{
    Call, CallContext, Client, Outcome,
    call::{ClientCaps, Emission, Question},
    era::Version,
};
use serde_json::{Value, json, value::RawValue};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Calls a tool. The body is the object of its arguments; `result` is the tool's whole result, as MCP defines it.
#[utoipa::path(post, path = "/mcp/tools/{name}", tag = "mcp", request_body = Value,
    params(("name" = String, Path, description = "the tool's name, as lists show it")),
    responses((status = 200, body = Value, description = "`{\"result\": {\"content\": […], …}}`"),
        (status = 404, body = forebay_api::Problem),
        (status = 409, body = forebay_api::Problem, description = "the tool needs an answer from its user"),
        (status = 422, body = forebay_api::Problem)))]
pub(crate) async fn call(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Result<RawJson, ApiError> {
    let answer = async {
        let arguments = arguments(&app, request).await?;
        let result = finished(run(&app, &caller, &name, &arguments).await?)?;
        Ok(RawJson(format!(r#"{{"result":{result}}}"#)))
    };
    answer.await.map_err(|failure: Failure| caller.problem(failure))
}

/// The body as arguments. A tool without arguments may be called without a body.
async fn arguments(app: &App, request: Request) -> Result<Box<RawValue>, Failure> {
    let (parts, stream) = request.into_parts();
    let bytes = body::read(stream, app.body_bytes_max).await?;
    if bytes.is_empty() {
        return Ok(RawValue::from_string("{}".to_owned()).expect("it is JSON"));
    }
    body::require_json(&parts.headers)?;
    json::check_strict(&bytes)?;
    let raw: Box<RawValue> = serde_json::from_slice(&bytes)
        .map_err(|fault| Failure::new(Code::MalformedJson, "The body is not JSON.").caused_by(fault))?;
    if raw.get().starts_with('{') {
        Ok(raw)
    } else {
        Err(
            Failure::new(Code::InvalidArguments, "The arguments have to be a JSON object.")
                .hint("Send `{\"name\": value}`; `GET /mcp/tools` shows each tool's schema."),
        )
    }
}

/// Calls as somebody who can be asked, since a tool has to be able to say what it asks for; the first question ends the
/// call. Whether an upstream makes a task of it is no affair of a caller who waits for the result.
async fn run(app: &App, caller: &Caller, tool: &str, arguments: &RawValue) -> Result<Outcome, Failure> {
    let caps = r#"{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
    let caps = RawValue::from_string(caps.to_owned()).expect("it is JSON");
    let (client, emissions) = Client::listening(Version::V2026_07_28, Arc::new(ClientCaps::new(&caps)));
    let context = CallContext {
        via: Via {
            surface: Surface::Mcp,
            trace: caller.trace,
            in_task: false,
        },
        cancel: CancellationToken::new(),
        deadline: None,
        client,
        retry: None,
        cost: None,
    };
    let call = Call::of(tool, arguments);
    tokio::select! {
        outcome = app.catalogue.call(&caller.principal, call, context) => outcome,
        Some(question) = first_question(emissions) => Err(asks(&question)),
    }
}

/// Reads what the call says on its way, of which nobody here hears, up to its first question.
async fn first_question(mut emissions: mpsc::Receiver<Emission>) -> Option<Question> {
    while let Some(emission) = emissions.recv().await {
        match emission {
            Emission::Question(question) => return Some(question),
            Emission::Progress(_) | Emission::Log(_) | Emission::Notification { .. } | Emission::Hangup => {}
        }
    }
    None
}

fn asks(question: &Question) -> Failure {
    let params = question.params.as_ref();
    let params: Option<Value> = params.and_then(|raw| serde_json::from_str(raw.get()).ok());
    needs_input(&json!({"question": {"method": question.method, "params": params}}))
}
