//! `GET /mcp/resources`: the resources that the caller may read. `POST /mcp/resources`: the same, or one of them.

use super::{RawJson, finished, listing};
use crate::{
    app::App,
    door::Caller,
    http::{ApiError, body, page},
};
use axum::{
    Extension,
    extract::{Request, State},
};
use forebay_api::{McpListQuery, McpResourceRead};
use forebay_domain::{Failure, event::Surface, port::Via};
use forebay_mcp::{CallContext, Client, Kind, Scope};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The resources that the caller may read.
#[utoipa::path(get, path = "/mcp/resources", tag = "mcp", params(McpListQuery),
    responses((status = 200, body = serde_json::Value, description = "`{\"resources\": […]}`, each as MCP defines it")))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<McpListQuery>,
) -> Result<RawJson, ApiError> {
    page_of(&app, &caller, query.cursor.as_deref()).map_err(|failure| caller.problem(failure))
}

/// Reads the resource `uri`. Without one, or without a body, it lists them.
#[utoipa::path(post, path = "/mcp/resources", tag = "mcp", request_body = McpResourceRead,
    responses((status = 200, body = serde_json::Value, description = "`{\"contents\": […]}`, as MCP defines it"),
        (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<RawJson, ApiError> {
    let answered = async {
        let wanted = wanted(&app, request).await?;
        let Some(uri) = &wanted.uri else {
            return page_of(&app, &caller, wanted.cursor.as_deref());
        };
        let context = CallContext {
            via: Via {
                surface: Surface::Mcp,
                trace: caller.trace,
                in_task: false,
            },
            cancel: CancellationToken::new(),
            deadline: None,
            client: Client::nobody(),
            retry: None,
            cost: None,
        };
        let outcome = app
            .catalogue
            .read(&caller.principal, &Scope::Whole, uri, None, context)
            .await?;
        Ok(RawJson(finished(outcome)?.get().to_owned()))
    };
    answered.await.map_err(|failure: Failure| caller.problem(failure))
}

async fn wanted(app: &App, request: Request) -> Result<McpResourceRead, Failure> {
    let (parts, stream) = request.into_parts();
    let bytes = body::read(stream, app.body_bytes_max).await?;
    if bytes.is_empty() {
        return Ok(McpResourceRead::default());
    }
    body::require_json(&parts.headers)?;
    body::parse(&bytes)
}

fn page_of(app: &App, caller: &Caller, cursor: Option<&str>) -> Result<RawJson, Failure> {
    let page = app
        .catalogue
        .list(&caller.principal, &Scope::Whole, Kind::Resources, cursor)?;
    Ok(listing("resources", &page.items, page.next.as_deref()))
}
