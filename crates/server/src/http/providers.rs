//! Providers of context over REST: see, register, remove, try.
//!
//! What is registered here may reach public addresses alone, and those that `mcp.allow_addresses` names.

use crate::{
    app::App,
    door::Caller,
    http::{ApiError, body},
};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use forebay_api::{
    ProviderCreate, ProviderDetail, ProviderInfo, ProviderItem, ProviderList, ProviderRef, ProviderTest,
    ProviderTested, ProviderTrouble,
};
use forebay_context::{ProviderConfig, ProviderStatus};
use forebay_domain::{
    Code, Failure,
    context::{Context, ProviderFailure, Strategy},
    event::Surface,
    port::Via,
};
use http::StatusCode;
use serde_json::json;
use std::sync::Arc;

/// All providers, and how they are.
#[utoipa::path(get, path = "/api/v1/providers", tag = "context", responses((status = 200, body = ProviderList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<ProviderList> {
    Json(ProviderList {
        providers: app.providers.list().iter().map(info).collect(),
    })
}

/// Registers a provider. One that is there already is not changed.
#[utoipa::path(post, path = "/api/v1/providers", tag = "context", request_body = ProviderCreate,
    responses((status = 201, body = ProviderRef), (status = 400, body = forebay_api::Problem),
        (status = 409, body = forebay_api::Problem)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body::Json(wanted): body::Json<ProviderCreate>,
) -> Result<(StatusCode, Json<ProviderRef>), ApiError> {
    let created = async {
        let name = wanted.name.clone();
        let mut section = serde_json::to_value(wanted).expect("what was read can be written");
        let members = section.as_object_mut().expect("a provider is an object");
        members.remove("name");
        let config: ProviderConfig = serde_json::from_value(section).map_err(|fault| {
            Failure::new(Code::InvalidRequest, format!("The body does not fit: {fault}."))
                .hint("docs/context.md has the keys of each type.")
        })?;
        app.providers
            .create(&name, &config, caller.principal.subject.clone())
            .await?;
        Ok(ProviderRef { name })
    };
    let created: Result<_, Failure> = created.await;
    created
        .map(|named| (StatusCode::CREATED, Json(named)))
        .map_err(|failure| caller.problem(failure))
}

/// One provider, with its settings.
#[utoipa::path(get, path = "/api/v1/providers/{name}", tag = "context",
    params(("name" = String, Path, description = "the provider's name")),
    responses((status = 200, body = ProviderDetail), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<ProviderDetail>, ApiError> {
    let detail = app.providers.get(&name).map_err(|failure| caller.problem(failure))?;
    Ok(Json(ProviderDetail {
        info: info(&detail.status),
        config: serde_json::to_value(&detail.config.config).expect("a configuration is JSON"),
    }))
}

/// Takes away a provider that was registered.
#[utoipa::path(delete, path = "/api/v1/providers/{name}", tag = "context",
    params(("name" = String, Path, description = "the provider's name")),
    responses((status = 200, body = ProviderRef), (status = 404, body = forebay_api::Problem),
        (status = 409, body = forebay_api::Problem)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<ProviderRef>, ApiError> {
    let removed = app.providers.delete(&name).await;
    removed.map_err(|failure| caller.problem(failure))?;
    Ok(Json(ProviderRef { name }))
}

/// Asks a provider a question, past every cache. That it fails is an answer, too.
#[utoipa::path(post, path = "/api/v1/providers/{name}/test", tag = "context", request_body = ProviderTest,
    params(("name" = String, Path, description = "the provider's name")),
    responses((status = 200, body = ProviderTested), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn test(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body::Json(wanted): body::Json<ProviderTest>,
) -> Result<Json<ProviderTested>, ApiError> {
    let tested = async {
        let strategy = wanted.strategy.as_deref().map(strategy).transpose()?;
        let via = Via {
            surface: Surface::Api,
            trace: caller.trace,
            in_task: false,
        };
        let found = app
            .providers
            .test(&caller.principal, &name, &wanted.query, strategy, via);
        found.await.map(told)
    };
    let tested: Result<_, Failure> = tested.await;
    tested.map(Json).map_err(|failure| caller.problem(failure))
}

fn strategy(word: &str) -> Result<Strategy, Failure> {
    Strategy::parse(word).ok_or_else(|| {
        Failure::new(Code::InvalidRequest, "There is no such strategy.")
            .hint("There are `keyword`, `semantic_search` and `hybrid`.")
            .details(json!({"field": "strategy"}))
    })
}

fn told(found: Context) -> ProviderTested {
    let report = found.reports.into_iter().next();
    let items = found.items.into_iter().map(|item| ProviderItem {
        id: item.id,
        text: item.text,
        score: item.score,
        source: item.source,
        title: item.title,
    });
    ProviderTested {
        items: items.collect(),
        left_out: found.left_out,
        took_ms: report
            .as_ref()
            .map_or(0, |report| u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX)),
        strategy: report
            .as_ref()
            .map_or_else(String::new, |report| report.strategy.to_string()),
        failure: report.and_then(|report| report.failure).as_ref().map(trouble),
    }
}

fn info(status: &ProviderStatus) -> ProviderInfo {
    ProviderInfo {
        name: status.name.clone(),
        kind: status.kind.as_str().to_owned(),
        origin: if status.registered { "api" } else { "config" }.to_owned(),
        condition: status.condition.as_str().to_owned(),
        strategies: status.strategies.iter().map(ToString::to_string).collect(),
        asked_at: status.asked_at,
        trouble: status.trouble.as_ref().map(trouble),
        note: status.note.clone(),
    }
}

fn trouble(failure: &ProviderFailure) -> ProviderTrouble {
    ProviderTrouble {
        code: failure.code.to_string(),
        message: failure.message.clone(),
    }
}
