//! `GET /mcp/tools`: the tools that the caller may call, each with the server that provides it.

use super::{RawJson, listing};
use crate::{
    app::App,
    door::Caller,
    http::{ApiError, page},
};
use axum::{Extension, extract::State};
use forebay_api::McpListQuery;
use forebay_domain::{Code, Failure};
use forebay_mcp::{Catalogue, Kind, Scope};
use serde_json::{json, value::RawValue};
use std::{collections::BTreeMap, sync::Arc};

/// What provides the tools that have no prefix.
const OURSELVES: &str = "forebay";

/// A definition by its members, which stay as they were written.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// The tools that the caller may call.
#[utoipa::path(get, path = "/mcp/tools", tag = "mcp", params(McpListQuery),
    responses((status = 200, body = serde_json::Value, description = "`{\"tools\": […]}`, each as MCP defines it and with its `provider`")))]
pub(crate) async fn tools(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page::Query(query): page::Query<McpListQuery>,
) -> Result<RawJson, ApiError> {
    let cursor = query.cursor.as_deref();
    let listed = app
        .catalogue
        .list(&caller.principal, &Scope::Whole, Kind::Tools, cursor)
        .and_then(|page| {
            Ok(listing(
                "tools",
                &provided(&app.catalogue, &page.items)?,
                page.next.as_deref(),
            ))
        });
    listed.map_err(|failure| caller.problem(failure))
}

/// The list with two members more where a definition lacks them: who provides the tool, and that any output fits.
fn provided(catalogue: &Catalogue, items: &str) -> Result<String, Failure> {
    let unreadable = |fault: serde_json::Error| {
        Failure::new(Code::InternalError, "A tool's definition cannot be read.").caused_by(fault)
    };
    let definitions: Vec<Members<'_>> = serde_json::from_str(items).map_err(unreadable)?;
    let any = RawValue::from_string("{}".to_owned()).expect("it is JSON");
    let named = definitions.into_iter().map(|definition| {
        let name = definition
            .get("name")
            .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        (provider(catalogue, name.as_deref().unwrap_or_default()), definition)
    });
    let named: Vec<(Box<RawValue>, Members<'_>)> = named.collect();
    let whole: Vec<Members<'_>> = named
        .iter()
        .map(|(provider, definition)| {
            let mut whole = definition.clone();
            whole.entry("outputSchema".to_owned()).or_insert(&any);
            whole.insert("provider".to_owned(), provider);
            whole
        })
        .collect();
    serde_json::to_string(&whole).map_err(unreadable)
}

/// The server whose name stands before the tool's, where there is one.
fn provider(catalogue: &Catalogue, tool: &str) -> Box<RawValue> {
    let server = tool
        .split_once("__")
        .map(|(server, _)| server)
        .filter(|server| catalogue.has(&Scope::Server((*server).into())));
    let text = json!(server.unwrap_or(OURSELVES)).to_string();
    RawValue::from_string(text).expect("it is JSON")
}
