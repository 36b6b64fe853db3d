//! `mcp.delete_context`.

use super::{fault, limits, may_write, output};
use crate::contexts::{
    Inner,
    input::{self, About, Whole},
    metrics::Change,
    unknown,
};
use bytes::Bytes;
use forebay_api::ContextDeleted;
use forebay_domain::{
    Failure, Principal,
    port::{BoxFuture, RunTask, TaskRun},
    task::{Queued, TaskFault, TypeLimits},
};
use std::sync::Arc;

pub(super) struct Delete(pub(super) Arc<Inner>);

impl RunTask for Delete {
    fn task_type(&self) -> &str {
        input::DELETE
    }

    fn limits(&self) -> TypeLimits {
        limits(input::DELETE)
    }

    fn accept(&self, _principal: &Principal, input: &[u8]) -> Result<(), Failure> {
        input::read_about::<Whole>(input).map(drop)
    }

    fn queued(&self, input: &[u8]) -> Queued {
        input::queued(input, self.limits().retry)
    }

    fn run<'a>(&'a self, run: TaskRun<'a>) -> BoxFuture<'a, Result<Bytes, TaskFault>> {
        Box::pin(self.delete(run))
    }
}

impl Delete {
    async fn delete(&self, run: TaskRun<'_>) -> Result<Bytes, TaskFault> {
        may_write(&run).map_err(TaskFault::lasting)?;
        let About { context, .. } = input::read_about::<Whole>(run.input).map_err(TaskFault::lasting)?;
        let deleted = self.0.conversations.delete(&context, &run.principal.into()).await;
        let is_gone = deleted.map_err(|error| fault(error.into()))?;
        // An earlier run may have done it, and was not heard of again.
        if !is_gone && run.attempt == 1 {
            return Err(TaskFault::lasting(unknown(&context)));
        }
        if is_gone {
            self.0.metrics.changed(Change::Deleted, 1);
            self.0.tell(&context);
        }
        output(&ContextDeleted {
            id: context,
            deleted: true,
            task_id: None,
        })
        .map_err(TaskFault::lasting)
    }
}
