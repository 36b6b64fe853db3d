//! Answers of the Responses API that were kept: read again, or deleted, by whoever asked for them.

use crate::{
    app::App,
    door::Caller,
    errors::{self, Dialect},
};
use axum::{
    Extension, Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use forebay_domain::{Action, Code, Failure};
use forebay_store::{
    queue::Scope,
    responses::{ResponseOwner, StoredResponse},
};
use http::header;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};
use utoipa::IntoParams;

/// How long a request waits for the end of what it cancels.
const CANCEL_PATIENCE: Duration = Duration::from_secs(15);
const ITEMS_DEFAULT: usize = 20;
const ITEMS_MAX: usize = 100;

macro_rules! kept {
    ($one:tt $cancel:tt $items:tt) => {
        use super::{
            App, Arc, Caller, Extension, ItemsQuery, OneQuery, Path, Query, QueryRejection, Response, State,
        };

        /// An answer that was kept for the caller.
        #[utoipa::path(get, path = $one, tag = "openai", params(("id" = String, Path, description = "the response's id"), OneQuery),
                    responses((status = 200, body = Value, description = "OpenAI's response"), (status = 404, body = Value)))]
        pub(crate) async fn get(
            State(app): State<Arc<App>>,
            Extension(caller): Extension<Caller>,
            Path(id): Path<String>,
            query: Result<Query<OneQuery>, QueryRejection>,
        ) -> Response {
            super::spoken(super::one(&app, &caller, &id, query).await, &caller)
        }

        /// Deletes an answer that was kept for the caller.
        #[utoipa::path(delete, path = $one, tag = "openai", params(("id" = String, Path, description = "the response's id")),
                    responses((status = 200, body = Value), (status = 404, body = Value)))]
        pub(crate) async fn delete(
            State(app): State<Arc<App>>,
            Extension(caller): Extension<Caller>,
            Path(id): Path<String>,
        ) -> Response {
            super::spoken(super::gone(&app, &caller, &id).await, &caller)
        }

        /// Ends an answer that nobody waits for; one that has ended stays as it is.
        #[utoipa::path(post, path = $cancel, tag = "openai", params(("id" = String, Path, description = "the response's id")),
                    responses((status = 200, body = Value, description = "OpenAI's response"), (status = 404, body = Value)))]
        pub(crate) async fn cancel(
            State(app): State<Arc<App>>,
            Extension(caller): Extension<Caller>,
            Path(id): Path<String>,
        ) -> Response {
            super::spoken(super::cancelled(&app, &caller, &id).await, &caller)
        }

        /// What was asked for it, item by item.
        #[utoipa::path(get, path = $items, tag = "openai", params(("id" = String, Path, description = "the response's id"), ItemsQuery),
                    responses((status = 200, body = Value, description = "OpenAI's list of items"), (status = 404, body = Value)))]
        pub(crate) async fn items(
            State(app): State<Arc<App>>,
            Extension(caller): Extension<Caller>,
            Path(id): Path<String>,
            query: Result<Query<ItemsQuery>, QueryRejection>,
        ) -> Response {
            super::spoken(super::listed(&app, &caller, &id, query).await, &caller)
        }
    };
}

pub(crate) mod v1 {
    kept!("/v1/responses/{id}" "/v1/responses/{id}/cancel" "/v1/responses/{id}/input_items");
}

pub(crate) mod bare {
    kept!("/responses/{id}" "/responses/{id}/cancel" "/responses/{id}/input_items");
}

/// How one answer is wanted. Clients send more than this; what changes nothing is left alone.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OneQuery {
    /// An answer that was kept is not streamed again.
    #[serde(default)]
    stream: bool,
}

/// Which items are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ItemsQuery {
    /// Items at most, from 1 to 100; 20 where it is not said.
    limit: Option<usize>,
    /// `asc` or `desc`; the newest come first where it is not said.
    order: Option<ItemsOrder>,
    /// Those that come after the item of this id.
    after: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ItemsOrder {
    Asc,
    Desc,
}

fn spoken(answer: Result<Response, Failure>, caller: &Caller) -> Response {
    answer.unwrap_or_else(|failure| errors::respond(Dialect::OpenAi, &failure, caller.trace))
}

async fn one(
    app: &App,
    caller: &Caller,
    id: &str,
    query: Result<Query<OneQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    if fitting(query)?.stream {
        return Err(
            Failure::new(Code::InvalidRequest, "An answer that was kept is not streamed again.")
                .hint("Ask for it without `stream`.")
                .details(json!({"param": "stream"})),
        );
    }
    let kept = find(app, caller, id).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], kept.body.get().to_owned()).into_response())
}

async fn cancelled(app: &App, caller: &Caller, id: &str) -> Result<Response, Failure> {
    find(app, caller, id).await?;
    let task = app.models.cancel_response(&caller.principal, id).await?;
    // Its run may come to its end all the same; what it came to is known a moment later.
    let scope = Scope::own(&caller.principal);
    app.work.watch().wait(&scope, &task, CANCEL_PATIENCE).await?;
    let ended = find(app, caller, id).await?;
    Ok((
        [(header::CONTENT_TYPE, "application/json")],
        ended.body.get().to_owned(),
    )
        .into_response())
}

async fn gone(app: &App, caller: &Caller, id: &str) -> Result<Response, Failure> {
    let found = find(app, caller, id).await?;
    if matches!(found.status.as_str(), "queued" | "in_progress") {
        let message = "The response is not there yet, and so cannot be deleted.";
        return Err(Failure::new(Code::Conflict, message).hint("Cancel it, or wait until it is there."));
    }
    // The task goes first: a run of it that begins after this makes the response anew no more.
    let was_asked = app.models.forget_response(&caller.principal, id).await?;
    let owner = ResponseOwner::from(&caller.principal);
    if app.store.responses().delete(id, &owner).await? || was_asked {
        Ok(Json(json!({"id": id, "object": "response", "deleted": true})).into_response())
    } else {
        Err(unknown())
    }
}

async fn listed(
    app: &App,
    caller: &Caller,
    id: &str,
    query: Result<Query<ItemsQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let query = fitting(query)?;
    let kept = find(app, caller, id).await?;
    let items: Vec<Map<String, Value>> = serde_json::from_str(kept.input.get())
        .map_err(|fault| Failure::new(Code::InternalError, "What was asked cannot be read.").caused_by(fault))?;
    Ok(Json(page(id, items, &query)?).into_response())
}

/// One page of the items. An item that came without an id has one by its place, since clients go on from ids.
fn page(response: &str, items: Vec<Map<String, Value>>, query: &ItemsQuery) -> Result<Value, Failure> {
    let mut items: Vec<Map<String, Value>> = items
        .into_iter()
        .enumerate()
        .map(|(place, mut item)| {
            item.entry("id")
                .or_insert_with(|| json!(format!("item_{place}_{response}")));
            item
        })
        .collect();
    if query.order != Some(ItemsOrder::Asc) {
        items.reverse();
    }
    let begin = match &query.after {
        None => 0,
        Some(after) => {
            let place = items.iter().position(|item| item["id"] == after.as_str());
            1 + place.ok_or_else(|| {
                Failure::new(Code::InvalidRequest, "There is no such item to go on from.")
                    .details(json!({"param": "after"}))
            })?
        }
    };
    let limit = query.limit.unwrap_or(ITEMS_DEFAULT).clamp(1, ITEMS_MAX);
    let rest = &items[begin..];
    let shown = &rest[..rest.len().min(limit)];
    Ok(json!({
        "object": "list",
        "data": shown,
        "first_id": shown.first().map(|item| &item["id"]),
        "last_id": shown.last().map(|item| &item["id"]),
        "has_more": rest.len() > shown.len(),
    }))
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<StoredResponse, Failure> {
    let owner = ResponseOwner::from(&caller.principal);
    let kept = app.store.responses().get(id, &owner, app.clock.now()).await?;
    let kept = match kept {
        Some(kept) => Some(kept),
        None => app.models.unfinished(&caller.principal, id).await?,
    };
    let kept = kept.ok_or_else(unknown)?;
    // What a model said is for whoever may ask it.
    caller.principal.require(&Action::model(&kept.model))?;
    Ok(kept)
}

fn unknown() -> Failure {
    Failure::new(Code::UnknownResponse, "There is no such response, or it is not yours.")
        .hint("Answers are kept for a limited time, and not where they were asked for with `\"store\": false`.")
}

fn fitting<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Failure> {
    query.map(|Query(query)| query).map_err(|rejection| {
        Failure::new(
            Code::InvalidRequest,
            format!("The query does not fit: {}.", rejection.body_text()),
        )
        .hint("`GET /openapi.json` lists the parameters.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids of a page, and whether there is more.
    fn check(limit: Option<usize>, order: Option<ItemsOrder>, after: Option<&str>) -> Result<(String, bool), Code> {
        let item = |id: &str| Map::from_iter([("id".to_owned(), json!(id))]);
        let items = vec![item("a"), Map::new(), item("c")];
        let after = after.map(str::to_owned);
        let page = page("r", items, &ItemsQuery { limit, order, after }).map_err(|failure| failure.code)?;
        let shown = page["data"].as_array().unwrap();
        let ids: Vec<&str> = shown.iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!(page["first_id"].as_str(), ids.first().copied());
        assert_eq!(page["last_id"].as_str(), ids.last().copied());
        Ok((ids.join(" "), page["has_more"] == true))
    }

    #[test]
    fn items_come_in_pages() {
        let of = |ids: &str, more| Ok((ids.to_owned(), more));
        assert_eq!(check(None, None, None), of("c item_1_r a", false));
        assert_eq!(check(Some(1), Some(ItemsOrder::Asc), None), of("a", true));
        assert_eq!(check(Some(9), Some(ItemsOrder::Asc), Some("item_1_r")), of("c", false));
        assert_eq!(check(None, Some(ItemsOrder::Asc), Some("c")), of("", false));
        assert_eq!(check(Some(0), None, None), of("c", true));
        assert_eq!(check(None, None, Some("x")), Err(Code::InvalidRequest));
    }
}
