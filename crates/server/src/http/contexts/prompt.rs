//! Asking the model of a context.

use super::{
    answer::{Manner, mark},
    stream,
};
use crate::{
    app::App,
    contexts::work::{self, Gone, Shown},
    door::Caller,
    http::{ApiError, body, page},
};
use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use forebay_api::{ContextPrompt, ContextPrompted, Problem, PromptQuery, TaskInfo};
use forebay_domain::{Code, Failure};
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

/// Asks the model of a context with all that was said in it, and keeps the answer. With `stream` the answer comes as
/// events: `delta` for each piece, then one `node` or one `error`.
#[utoipa::path(post, path = "/api/v1/mcp/contexts/{id}/prompt", operation_id = "add_prompt", tag = "contexts",
    request_body = ContextPrompt, params(("id" = String, Path, description = "the context's id"), PromptQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "the same key does the same once"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`, or `wait=` and seconds")),
    responses((status = 200, content((ContextPrompted = "application/json"), (String = "text/event-stream"))),
        (status = 202, description = "the model has not answered yet", body = TaskInfo),
        (status = 402, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "the context is full", body = Problem),
        (status = 429, description = "too many requests, or too many tasks wait", body = Problem),
        (status = 507, description = "the disk is full", body = Problem)))]
pub(crate) async fn prompt(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    page::Query(query): page::Query<PromptQuery>,
    headers: HeaderMap,
    body::Json(wish): body::Json<ContextPrompt>,
) -> Result<Response, ApiError> {
    let asked = async {
        let manner = Manner::of(&app, &caller, &headers, query.wait.as_deref())?;
        let is_streamed = wish.stream;
        if is_streamed && (manner.preference.is_async || query.wait.is_some()) {
            return Err(
                Failure::new(Code::InvalidRequest, "An answer cannot be streamed and come later.")
                    .hint("Leave away `stream`, or `Prefer: respond-async` and `wait`."),
            );
        }
        let mut how = manner.asked();
        if is_streamed {
            how.wanted_by = work::claimed_here(&app);
        }
        let task = app.contexts.prompt(&caller.principal, &id, &wish, &how).await?;
        let sent = work::submit(&app, task, Shown::context(wish.return_context)).await?;
        let gone = Gone::by_connection(&app, &caller.principal, &sent, query.on_disconnect);
        if is_streamed {
            let mut response = stream::answer(&app, &caller, &sent, gone);
            mark(response.headers_mut(), &sent);
            return Ok(response);
        }
        let told = manner.wait(&app, &caller, &sent, StatusCode::OK).await;
        gone.stayed();
        Ok(told)
    };
    asked.await.map_err(|failure: Failure| caller.problem(failure))
}
