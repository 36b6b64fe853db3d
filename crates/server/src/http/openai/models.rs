//! The models that the caller may ask, as OpenAI lists them.

use crate::{
    app::App,
    door::Caller,
    errors::{self, Dialect},
};
use axum::{
    Extension, Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use forebay_domain::{Code, Failure, port::AskModel};
use serde_json::{Value, json};
use std::sync::Arc;

macro_rules! models {
    ($list:tt $show:tt) => {
        use super::{App, Arc, Caller, Extension, Json, Path, Response, State, Value};

        /// The models that the caller may ask.
        #[utoipa::path(get, path = $list, tag = "openai",
                    responses((status = 200, body = Value, description = "OpenAI's list of models")))]
        pub(crate) async fn list(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Json<Value> {
            super::all(&app, &caller)
        }

        /// One model.
        #[utoipa::path(get, path = $show, tag = "openai", params(("id" = String, Path, description = "the model's name")),
                    responses((status = 200, body = Value, description = "OpenAI's model"), (status = 404, body = Value)))]
        pub(crate) async fn show(
            State(app): State<Arc<App>>,
            Extension(caller): Extension<Caller>,
            Path(id): Path<String>,
        ) -> Response {
            super::one(&app, &caller, &id)
        }
    };
}

pub(crate) mod v1 {
    models!("/v1/models" "/v1/models/{id}");
}

pub(crate) mod bare {
    models!("/models" "/models/{id}");
}

fn all(app: &App, caller: &Caller) -> Json<Value> {
    let models = app.models.models(&caller.principal);
    let models: Vec<Value> = models.iter().map(|model| told(app, &model.name)).collect();
    Json(json!({"object": "list", "data": models}))
}

/// What the caller may not ask is not there.
fn one(app: &App, caller: &Caller, id: &str) -> Response {
    let models = app.models.models(&caller.principal);
    if let Some(model) = models.iter().find(|model| model.name == id) {
        return Json(told(app, &model.name)).into_response();
    }
    let failure = Failure::new(Code::UnknownModel, "There is no such model, or it is not yours to ask.")
        .hint("`GET /v1/models` lists the models.");
    errors::respond(Dialect::OpenAi, &failure, caller.trace)
}

fn told(app: &App, name: &str) -> Value {
    json!({"id": name, "object": "model", "created": app.started_at.as_second(), "owned_by": "forebay"})
}
