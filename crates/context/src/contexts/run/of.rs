//! What four of the five types have in common: each does something to one context, which its input names beside what is to
//! be done.

use super::{limits, output};
use crate::contexts::{
    Inner,
    input::{self, About},
};
use bytes::Bytes;
use forebay_domain::{
    Action, Failure, Principal,
    port::{BoxFuture, RunTask, TaskRun},
    task::{Queued, Retry, Share, TaskFault, TypeLimits},
};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// Something that is done to a context.
pub(super) trait Deed: Send + Sync + 'static {
    const TYPE: &'static str;
    /// What its input says beside the context.
    type Body: DeserializeOwned + Send;
    type Output: Serialize;

    /// Refuses what makes no sense.
    fn check(_inner: &Inner, _body: &Self::Body) -> Result<(), Failure> {
        Ok(())
    }

    /// How often it may be begun.
    fn retry(_body: &Self::Body) -> Retry {
        input::RETRY
    }

    fn share() -> Share {
        Share::Whole
    }

    fn run(
        inner: &Inner,
        run: TaskRun<'_>,
        about: About<Self::Body>,
    ) -> impl Future<Output = Result<Self::Output, TaskFault>> + Send;
}

/// Runs such tasks.
pub(super) struct Of<D>(pub(super) Arc<Inner>, pub(super) D);

impl<D: Deed> RunTask for Of<D> {
    fn task_type(&self) -> &str {
        D::TYPE
    }

    fn limits(&self) -> TypeLimits {
        limits(D::TYPE)
    }

    fn share(&self) -> Share {
        D::share()
    }

    fn accept(&self, _principal: &Principal, input: &[u8]) -> Result<(), Failure> {
        self.0.open()?;
        let about: About<D::Body> = input::read_about(input)?;
        D::check(&self.0, &about.body)
    }

    fn queued(&self, input: &[u8]) -> Queued {
        let about = input::read_about::<D::Body>(input).ok();
        // What cannot be read is refused when it runs, once.
        let retry = about.map_or(Retry::NEVER, |about| D::retry(&about.body));
        input::queued(D::TYPE, input, retry)
    }

    fn run<'a>(&'a self, run: TaskRun<'a>) -> BoxFuture<'a, Result<Bytes, TaskFault>> {
        Box::pin(async move {
            // A key that has lost this since the task was submitted is refused.
            run.principal
                .require(&Action::CONTEXTS_WRITE)
                .map_err(TaskFault::lasting)?;
            let about = input::read_about(run.input).map_err(TaskFault::lasting)?;
            let done = D::run(&self.0, run, about).await?;
            output(&done).map_err(TaskFault::lasting)
        })
    }
}
