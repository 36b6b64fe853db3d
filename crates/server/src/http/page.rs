//! Reading query parameters: bounded pages, checked ids, faults in plain words.

use crate::{app::App, door::Caller, http::ApiError};
use axum::extract::{FromRequestParts, Query as AxumQuery};
use forebay_domain::{Code, Failure, id::IdFault};
use http::request::Parts;
use serde::de::DeserializeOwned;
use std::sync::Arc;

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

/// Query parameters of Forebay's own API, read into their wire type. Unknown ones are refused.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = parts
            .extensions
            .get::<Caller>()
            .expect("only routes behind a gate read queries")
            .clone();
        AxumQuery::from_request_parts(parts, app)
            .await
            .map(|AxumQuery(query)| Self(query))
            .map_err(|error| {
                let message = format!("The query does not fit: {}.", error.body_text());
                caller.problem(
                    Failure::new(Code::InvalidRequest, message).hint("`GET /openapi.json` lists the parameters."),
                )
            })
    }
}

/// How many rows a page has: what was asked for, within bounds.
pub(crate) fn limit(asked: Option<u32>) -> u32 {
    asked.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX)
}

/// An identifier given as a parameter.
pub(crate) fn id<T>(text: Option<&str>, name: &str) -> Result<Option<T>, Failure>
where
    T: for<'a> TryFrom<&'a str, Error = IdFault>,
{
    text.map(T::try_from)
        .transpose()
        .map_err(|fault| Failure::new(Code::InvalidRequest, format!("`{name}`: {fault}.")))
}
