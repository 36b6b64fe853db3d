//! A response that nobody waits for, as a worker makes it: asked for and kept, once.

use super::{
    Input, Router, TYPE,
    told::{PREFIX, output, promised},
    unreadable,
};
use bytes::Bytes;
use forebay_domain::{
    Code, ErrorKind, Failure, Principal,
    event::Surface,
    model::{Endpoint, Hints, ModelRequest, Priority},
    port::{BoxFuture, RunTask, TaskRun, Via},
    task::{Retry, Share, TaskFault, TypeLimits},
};
use forebay_store::{
    queue::{Body, Scope},
    responses::ResponseOwner,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{sync::Arc, time::Duration};

/// How long one may take.
const TIME_MAX: Duration = Duration::from_hours(1);
/// Responses of one process that are made at one time while nobody waits.
const CONCURRENCY: u32 = 16;

/// Larger than any answer that is kept, and than any that its task could hold.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Runs tasks of the type `responses`.
pub struct RespondLater {
    router: Arc<Router>,
}

impl RespondLater {
    pub fn new(router: &Arc<Router>) -> Self {
        Self { router: router.clone() }
    }
}

impl RunTask for RespondLater {
    fn task_type(&self) -> &str {
        TYPE
    }

    fn limits(&self) -> TypeLimits {
        TypeLimits {
            concurrency: CONCURRENCY,
            timeout: TIME_MAX,
            retry: Retry::NEVER,
        }
    }

    /// It waits for an engine, and for tools.
    fn share(&self) -> Share {
        Share::Half
    }

    fn accept(&self, _principal: &Principal, _input: &[u8]) -> Result<(), Failure> {
        let message = "Tasks of the type `responses` are not submitted this way.";
        Err(Failure::new(Code::InvalidRequest, message).hint("Send `POST /v1/responses` with `\"background\": true`."))
    }

    fn run<'a>(&'a self, run: TaskRun<'a>) -> BoxFuture<'a, Result<Bytes, TaskFault>> {
        Box::pin(async move {
            tokio::select! {
                biased;
                ended = self.respond(run) => ended.map_err(fault),
                () = run.cancelled.cancelled() => {
                    Err(TaskFault::lasting(Failure::new(Code::Cancelled, "The response was cancelled.")))
                }
            }
        })
    }
}

impl RespondLater {
    async fn respond(&self, run: TaskRun<'_>) -> Result<Bytes, Failure> {
        let promised = promised(run.id);
        let id = format!("{PREFIX}{}", promised.name);
        let books = &self.router.desk.books;
        let owner = ResponseOwner::from(run.principal);
        // A run before this one may have come so far, and no further.
        if books.shelf.get(&id, &owner, books.clock.now()).await?.is_some() {
            return Ok(output(id, None));
        }
        self.check_wanted(&run).await?;
        let input: Input<'_> = serde_json::from_slice(run.input).map_err(|_| unreadable())?;
        let request = ModelRequest {
            endpoint: Endpoint::Responses,
            model: model_of(input.request)?,
            body: Bytes::from(input.request.get().to_owned()),
            hints: Hints {
                context: input.context.map(Bytes::from),
                base_url: input.base_url,
                priority: input.priority.as_deref().and_then(Priority::parse).unwrap_or_default(),
            },
        };
        let via = Via {
            surface: Surface::OpenAi,
            trace: run.trace,
            in_task: true,
        };
        let answer = self.router.ask_now(run.principal, request, via, Some(promised)).await?;
        let body = answer.whole(ANSWER_BYTES_MAX).await?;
        let response: &RawValue = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        let is_kept = is_kept(response);
        Ok(output(id, (!is_kept).then_some(response)))
    }

    /// Nothing was kept of a run before this one: that run did not come so far, or the response has been deleted since. The
    /// task goes before its response does, so whoever still finds it was not asked to forget.
    async fn check_wanted(&self, run: &TaskRun<'_>) -> Result<(), Failure> {
        let Some(later) = self.router.later.get() else {
            return Ok(());
        };
        let task = later.queue.get(&Scope::All, run.id, Body::Output).await?;
        match task {
            Some(task) if !task.cancel_wanted => Ok(()),
            Some(_) | None => Err(Failure::new(Code::Cancelled, "The response is not wanted any more.")),
        }
    }
}

/// What found no room may be tried again, where the request may be begun again at all.
fn fault(failure: Failure) -> TaskFault {
    match failure.kind() {
        ErrorKind::Unavailable | ErrorKind::RateLimited => TaskFault::passing(failure),
        _ => TaskFault::lasting(failure),
    }
}

fn model_of(request: &RawValue) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Looked {
        model: String,
    }
    let looked = serde_json::from_str::<Looked>(request.get());
    looked.map(|looked| looked.model).map_err(|_| unreadable())
}

/// A response that could not be kept says so itself.
fn is_kept(response: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Looked {
        store: bool,
    }
    serde_json::from_str::<Looked>(response.get()).is_ok_and(|looked| looked.store)
}
