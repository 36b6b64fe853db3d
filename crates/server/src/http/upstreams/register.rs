//! `POST /api/v1/upstreams`: an upstream from now on, without a restart.

use crate::{
    app::App,
    door::Caller,
    http::{ApiError, body},
};
use axum::{Extension, Json, extract::State};
use forebay_api::{UpstreamRef, UpstreamRegister};
use forebay_domain::{Code, Failure};
use forebay_mcp::upstream::UpstreamConfig;
use http::StatusCode;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Registers an upstream that is reached by URL, or changes one that was registered. Programs are named in the
/// configuration file alone.
#[utoipa::path(post, path = "/api/v1/upstreams", tag = "upstreams", request_body = UpstreamRegister,
    responses((status = 201, body = UpstreamRef), (status = 400, body = forebay_api::Problem),
        (status = 409, body = forebay_api::Problem)))]
pub(crate) async fn register(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body::Json(wanted): body::Json<Map<String, Value>>,
) -> Result<(StatusCode, Json<UpstreamRef>), ApiError> {
    let registered = async {
        let (name, config) = parse(wanted)?;
        app.upstreams
            .register(&name, &config, caller.principal.subject.clone())
            .await?;
        Ok(UpstreamRef { name })
    };
    let registered: Result<_, Failure> = registered.await;
    registered
        .map(|named| (StatusCode::CREATED, Json(named)))
        .map_err(|failure| caller.problem(failure))
}

/// The name, and beside it whatever the section of the configuration takes.
fn parse(mut wanted: Map<String, Value>) -> Result<(String, UpstreamConfig), Failure> {
    let Some(Value::String(name)) = wanted.remove("name") else {
        return Err(Failure::new(
            Code::InvalidRequest,
            "The body does not fit: `name` is missing or no text.",
        )
        .hint("Send for example `{\"name\": \"docs\", \"url\": \"https://docs.example.com/mcp\"}`."));
    };
    let config = serde_json::from_value(Value::Object(wanted)).map_err(|fault| {
        Failure::new(Code::InvalidRequest, format!("The body does not fit: {fault}."))
            .hint("`GET /openapi.json` has the schema of every body.")
    })?;
    Ok((name, config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use utoipa::PartialSchema;

    /// What is documented is what the section takes, but for what only the file may say.
    #[test]
    fn the_documented_body_has_the_keys_of_the_section() {
        let keys = |schema: Value| -> BTreeSet<String> {
            let properties = schema["properties"].as_object().unwrap();
            properties.keys().cloned().collect()
        };
        let mut section = keys(schemars::schema_for!(UpstreamConfig).to_value());
        for only_in_the_file in ["command", "args", "env", "cwd"] {
            assert!(section.remove(only_in_the_file));
        }
        section.insert("name".to_owned());
        let documented = keys(serde_json::to_value(UpstreamRegister::schema()).unwrap());
        assert_eq!(documented, section);
    }
}
