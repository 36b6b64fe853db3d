//! Sending a request to an engine, and no more often than once.
//!
//! Backends are tried in the order of the configuration. The next one is tried only where no connection came about, so
//! that nothing can have been sent. What goes upstream is written here from nothing: no header of a caller is known.

use crate::{
    fault::Place,
    reading::Begun,
    request::{Outgoing, Streams},
    settings::{Backend, Model},
};
use forebay_domain::{Code, Failure};
use reqwest::{
    Client, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;

const OUR_NAME: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));
const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// One request to one model.
pub(crate) struct Asking<'a> {
    pub(crate) http: &'a Client,
    pub(crate) model: &'a Arc<Model>,
    pub(crate) outgoing: &'a Outgoing<'a>,
    pub(crate) traceparent: &'a str,
    /// When the answer has to be complete.
    pub(crate) deadline: Instant,
}

impl Asking<'_> {
    /// Asks one backend after the other until one takes the request.
    pub(crate) async fn send(&self) -> Result<Begun, Failure> {
        let begin = Instant::now() + self.model.timeouts.begin;
        let mut unreachable = None;
        for backend in &self.model.backends {
            let place = Place {
                model: self.model.clone(),
                backend: backend.index,
            };
            let request = self.request(backend);
            match tokio::time::timeout_at(begin.min(self.deadline), request.send()).await {
                Err(_) => return Err(place.timed_out("did not begin to answer", self.model.timeouts.begin, "begin_s")),
                Ok(Err(error)) if error.is_connect() => unreachable = Some(error),
                Ok(Err(error)) => return Err(place.lost(error)),
                Ok(Ok(response)) => return self.judge(response, place).await,
            }
        }
        let error = unreachable.expect("a model has at least one backend, checked by the settings");
        let count = self.model.backends.len();
        let message = format!(
            "No backend of model `{}` can be reached; {count} tried.",
            self.model.name
        );
        Err(Failure::new(Code::UpstreamFailed, message)
            .hint("Nothing was sent. Try again once the engine runs.")
            .details(json!({ "model": self.model.name }))
            .caused_by(error.without_url()))
    }

    fn request(&self, backend: &Backend) -> reqwest::RequestBuilder {
        let request = self
            .http
            .post(backend.chat_url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static(JSON))
            .header(ACCEPT, HeaderValue::from_static(self.wanted()))
            .header(USER_AGENT, HeaderValue::from_static(OUR_NAME))
            .header("traceparent", self.traceparent)
            .body(self.outgoing.body_for(backend));
        match &backend.credential {
            Some(credential) => request.header(AUTHORIZATION, credential.header.clone()),
            None => request,
        }
    }

    /// Lets through a success of the form that was asked for.
    async fn judge(&self, response: Response, place: Place) -> Result<Begun, Failure> {
        if !response.status().is_success() {
            return Err(place.refused(response).await);
        }
        let begun = Begun {
            response,
            place,
            deadline: self.deadline,
        };
        let wanted = self.wanted();
        let got = begun.media_type();
        match got.as_str() {
            got if got == wanted => Ok(begun),
            // Some engines answer with an error document in place of events, and with a status that says success.
            JSON => Err(begun.error_document().await),
            "" => Err(begun
                .place
                .fails(Code::UpstreamFailed, "answered without a content type")),
            got => Err(begun.place.fails(
                Code::UpstreamFailed,
                format_args!("answered with `{got}` where `{wanted}` was expected"),
            )),
        }
    }

    fn wanted(&self) -> &'static str {
        match self.outgoing.streams {
            Streams::No => JSON,
            Streams::WithUsage | Streams::WithoutUsage => EVENTS,
        }
    }
}
