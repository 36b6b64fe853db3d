//! `/api/v1/mcp`: plain JSON-RPC for clients that know nothing of sessions, streams or `Accept`.
//!
//! One POST, one JSON answer; batches are taken. A client may still speak a protocol version of its own, with
//! `initialize` or in `_meta`.

use crate::{
    begun::Begun,
    envelope::{self, Element, Incoming, Message, Notification, Refused, Request},
    era::{Version, unsupported},
    front::{BATCH_MAX, Front, HttpIn},
    params::{Params, text},
    reply::Reply,
    rpc::{self, Answered, Dialect, array},
};
use bytes::Bytes;
use forebay_domain::Failure;
use futures_util::{StreamExt, stream};
use http::StatusCode;

/// The version of clients that name none.
const DEFAULT: Version = Version::V2024_11_05;
/// Messages of one batch that run at the same time.
const BATCH_CONCURRENCY: usize = 8;

impl Front {
    /// `POST /api/v1/mcp`. Dropping the future cancels the call.
    pub async fn plain(&self, input: HttpIn<'_>) -> Reply {
        let begin = || Begun {
            version: DEFAULT,
            principal: input.principal.clone(),
            trace: input.trace,
            session: None,
            opened: None,
            token: None,
        };
        match envelope::read(&input.body, BATCH_MAX) {
            Err(refused) => answer_refused(&refused).reply(),
            Ok(Incoming::One(Message::Request(request))) => self
                .answer_plain(request, Dialect::Plain(DEFAULT), begin())
                .await
                .reply(),
            Ok(Incoming::One(Message::Notification(_) | Message::Response)) => Reply::empty(StatusCode::ACCEPTED),
            Ok(Incoming::Batch(elements)) => {
                match self.run_batch(elements, Dialect::Plain(DEFAULT), begin, |_| {}).await {
                    Some(body) => Reply::json(StatusCode::OK, body),
                    None => Reply::empty(StatusCode::ACCEPTED),
                }
            }
        }
    }

    async fn answer_plain(&self, request: Request, dialect: Dialect, begun: Begun) -> Answered {
        let dialect = match dialect {
            Dialect::Plain(default) => match version_of(&request, default) {
                Ok(version) => Dialect::Plain(version),
                Err(failure) => return rpc::failed(Some(&request.id), &failure, dialect),
            },
            Dialect::Streamable(_) => dialect,
        };
        begun.run(self.clone(), request, dialect).call.await
    }

    /// Answers a batch: an array of answers in the order of the requests, or nothing where none was asked for.
    pub(crate) async fn run_batch(
        &self,
        elements: Vec<Element>,
        dialect: Dialect,
        begin: impl Fn() -> Begun,
        heed: impl Fn(&Notification),
    ) -> Option<Bytes> {
        let mut answers = Vec::with_capacity(elements.len());
        for element in elements {
            match element {
                Ok(Message::Request(request)) => {
                    answers.push(futures_util::future::Either::Left(self.answer_plain(
                        request,
                        dialect,
                        begin(),
                    )));
                }
                Ok(Message::Notification(notification)) => heed(&notification),
                Ok(Message::Response) => {}
                Err(refused) => {
                    let answered = answer_refused(&refused);
                    answers.push(futures_util::future::Either::Right(std::future::ready(answered)));
                }
            }
        }
        let answers: Vec<Answered> = stream::iter(answers).buffered(BATCH_CONCURRENCY).collect().await;
        let texts = answers
            .iter()
            .filter_map(|answered| std::str::from_utf8(&answered.message).ok());
        (!answers.is_empty()).then(|| array(texts).into())
    }
}

fn answer_refused(refused: &Refused) -> Answered {
    rpc::failed(refused.id.as_ref(), &refused.failure, Dialect::Plain(DEFAULT))
}

/// The version that a request speaks: its handshake's, its own, or the oldest.
fn version_of(request: &Request, default: Version) -> Result<Version, Failure> {
    let params = Params::read(request.params.as_ref())?;
    if request.method == "initialize" {
        return match params.protocol_version {
            None => Ok(default),
            Some(raw) => text("protocolVersion", Some(raw)).map(|asked| Version::negotiate(&asked)),
        };
    }
    match params.meta().version() {
        None => Ok(default),
        Some(named) => Version::parse(&named).ok_or_else(|| *unsupported(&named).failure),
    }
}
