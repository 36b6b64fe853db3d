//! How a task is asked for over HTTP, and how what came of it is told.

use crate::{
    app::App,
    contexts::work::{self, Came, Sent, Shown},
    door::{Caller, named::sent_name},
    http::{tasks, wait},
};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use forebay_api::TaskInfo;
use forebay_context::contexts::Asked;
use forebay_domain::{Failure, id::TraceId};
use forebay_store::queue::NewTask;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};
use std::time::Duration;

const CONTEXTS: &str = "/api/v1/mcp/contexts";
const TASK: HeaderName = HeaderName::from_static("x-task-id");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// What a request says beside what it wants.
pub(super) struct Manner {
    /// How long its caller waits.
    patience: Duration,
    pub(super) preference: wait::Preference,
    /// The name under which it is done once.
    key: Option<String>,
    trace: TraceId,
}

impl Manner {
    pub(super) fn of(app: &App, caller: &Caller, headers: &HeaderMap, query: Option<&str>) -> Result<Self, Failure> {
        let preference = wait::Preference::of(headers);
        let asked = query.map(wait::span).transpose()?;
        Ok(Self {
            patience: preference.patience(asked, app.contexts.timeout()),
            preference,
            key: sent_name(headers)?,
            trace: caller.trace,
        })
    }

    /// How a task is to be made. How urgent it is, its body says.
    pub(super) fn asked(&self) -> Asked {
        Asked {
            trace: self.trace,
            priority: None,
            idempotency_key: self.key.clone(),
            run_at: None,
            wanted_by: None,
        }
    }

    /// Has a task done, and tells what came of it.
    pub(super) async fn have_done(
        &self,
        app: &App,
        caller: &Caller,
        (task, shown): (NewTask, Shown),
        done: StatusCode,
    ) -> Result<Response, Failure> {
        let sent = work::submit(app, task, shown).await?;
        Ok(self.wait(app, caller, &sent, done).await)
    }

    /// Waits for a task, and tells what came of it: with this status where it came in time. Whatever it is, it says which
    /// task that was.
    pub(super) async fn wait(&self, app: &App, caller: &Caller, sent: &Sent, done: StatusCode) -> Response {
        let mut response = match work::wait(app, &caller.principal, sent, self.patience).await {
            Ok(Came::Done(output)) => {
                let place = created(sent, &output);
                let mut response = (done, Json(output)).into_response();
                response
                    .headers_mut()
                    .extend(place.map(|place| (header::LOCATION, place)));
                response
            }
            Ok(Came::Later(task)) => self.later(*task),
            Err(failure) => caller.problem(failure).into_response(),
        };
        mark(response.headers_mut(), sent);
        response
    }

    fn later(&self, task: TaskInfo) -> Response {
        let place = [(header::LOCATION, format!("{}/{}", tasks::PATH, task.id))];
        let mut response = (StatusCode::ACCEPTED, place, Json(task)).into_response();
        let applied = match (self.preference.is_async, self.preference.wait) {
            (true, _) => HeaderValue::from_static("respond-async"),
            (false, Some(wait)) => {
                HeaderValue::from_str(&format!("wait={}", wait.as_secs())).expect("a number is a header")
            }
            (false, None) => return response,
        };
        response.headers_mut().insert(APPLIED, applied);
        response
    }
}

/// Where a context is that was made.
fn created(sent: &Sent, output: &Map<String, Value>) -> Option<HeaderValue> {
    let id = output.get("id").filter(|_| sent.shown.is_of_made())?;
    HeaderValue::from_str(&format!("{CONTEXTS}/{}", id.as_str()?)).ok()
}

/// Which task it is, and whether it had been asked for before.
pub(super) fn mark(headers: &mut HeaderMap, sent: &Sent) {
    if let Ok(id) = HeaderValue::from_str(sent.id.as_str()) {
        headers.insert(TASK, id);
    }
    if sent.is_repeat {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
}
