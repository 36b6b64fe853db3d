//! Declared tools over REST: see, declare, delete. Calling them is calling any tool.

use crate::{
    app::App,
    door::Caller,
    http::{ApiError, body},
};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use forebay_api::{DeclaredTool, DeclaredToolList, ToolRef};
use forebay_domain::{Code, Failure};
use forebay_mcp::declared::{self, Origin, ToolConfig};
use http::StatusCode;
use std::sync::Arc;

/// The declared tools, of the configuration and of this API. `GET /mcp/tools` lists all that may be called.
#[utoipa::path(get, path = "/api/v1/tools", tag = "tools", responses((status = 200, body = DeclaredToolList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<DeclaredToolList> {
    Json(DeclaredToolList {
        tools: app.declared.list().into_iter().map(told).collect(),
    })
}

/// Declares a tool: its `name`, and whatever one of the section `mcp.tools` takes. One that is there already is not
/// changed.
#[utoipa::path(post, path = "/api/v1/tools", tag = "tools", request_body = Value,
    responses((status = 201, body = DeclaredTool), (status = 400, body = forebay_api::Problem),
        (status = 409, body = forebay_api::Problem)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body::Json(wanted): body::Json<ToolConfig>,
) -> Result<(StatusCode, Json<DeclaredTool>), ApiError> {
    let created = async {
        let name = wanted
            .name
            .clone()
            .ok_or_else(|| Failure::new(Code::InvalidRequest, "The body does not fit: `name` is missing."))?;
        app.declared.create(&name, &wanted, &caller.principal).await
    };
    created
        .await
        .map(|tool| (StatusCode::CREATED, Json(told(tool))))
        .map_err(|failure| caller.problem(failure))
}

/// Deletes a tool that was declared here.
#[utoipa::path(delete, path = "/api/v1/tools/{name}", tag = "tools",
    params(("name" = String, Path, description = "the tool's name")),
    responses((status = 200, body = ToolRef), (status = 404, body = forebay_api::Problem),
        (status = 409, body = forebay_api::Problem)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<ToolRef>, ApiError> {
    let removed = app.declared.delete(&name).await;
    removed.map_err(|failure| caller.problem(failure))?;
    Ok(Json(ToolRef { name }))
}

fn told(tool: declared::DeclaredTool) -> DeclaredTool {
    DeclaredTool {
        origin: match tool.origin {
            Origin::File => "config",
            Origin::Api => "api",
        }
        .to_owned(),
        offered: tool.is_offered,
        config: serde_json::to_value(&tool.config).expect("a configuration is JSON"),
        name: tool.name,
    }
}
