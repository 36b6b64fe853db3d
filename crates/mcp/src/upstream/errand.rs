//! A call that its upstream runs as a task: followed until it has ended, as if it were a call like any other.
//!
//! The upstream's task is nobody's but ours. Whoever called gets the result of a call, within the time of a call; what the
//! task asks is asked as in the midst of a call. To ask about a task changes nothing, so that is done again where a
//! connection was lost. Whatever ends the waiting before the task has ended takes it back.

mod form;

pub(super) use form::Form;

use self::form::{End, State, Told, of_a_call};
use super::{
    pool::{Identity, Lane},
    server::Upstream,
};
use crate::{
    call::{CallContext, Complete, Outcome},
    client::{ClientFault, Hooks},
    front::ask_all,
    raw::Members,
};
use forebay_domain::{Code, Failure};
use forebay_runtime::Tasks;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// For one question about a task.
const ABOUT_WAIT: Duration = Duration::from_secs(30);
/// The result is fetched by a request that stays open while the task asks something. The call itself is bounded.
const RESULT_WAIT: Duration = Duration::from_hours(1);
/// How often an upstream that is not there is asked again in a row, and when.
const MISSES_MAX: u32 = 5;
const MISS_PAUSE: Duration = Duration::from_secs(1);
/// Somebody who gives up a task waits no longer for the upstream to hear of it.
const CANCEL_WAIT: Duration = Duration::from_secs(10);

/// Whose connection a call goes over, and how its client is spoken for.
pub(super) struct Reach<'a> {
    pub(super) identity: &'a Identity,
    /// The capabilities with which a connection is opened.
    pub(super) opening: &'a RawValue,
    pub(super) context: &'a CallContext,
    pub(super) traceparent: String,
}

/// A task of the upstream that somebody waits for. Dropped before it has ended, it takes the task back.
struct Errand {
    lane: Arc<Lane>,
    id: String,
    caps: Box<RawValue>,
    tasks: Tasks,
    ended: bool,
}

impl Drop for Errand {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (lane, params, caps) = (self.lane.clone(), self.params(), self.caps.clone());
        self.tasks.spawn("upstream-task-cancel", move |stop| async move {
            let hooks = Hooks {
                caps: Some(caps),
                ..Hooks::within(CANCEL_WAIT)
            };
            tokio::select! {
                () = stop.ending() => {}
                answer = lane.connection.request("tasks/cancel", Some(&params), hooks) => if let Err(fault) = answer {
                    tracing::debug!(error = %fault, "an upstream did not take back a task");
                }
            }
        });
    }
}

impl Errand {
    fn params(&self) -> Box<RawValue> {
        crate::call::raw(&json!({"taskId": self.id}))
    }
}

impl Upstream {
    /// The outcome of a call that may have become a task of the upstream.
    pub(super) async fn follow(
        &self,
        lane: &Arc<Lane>,
        form: Form,
        answer: &RawValue,
        reach: &Reach<'_>,
    ) -> Result<Option<Outcome>, Failure> {
        let Some(told) = form.begun(answer).map_err(|why| self.nonsense(why))? else {
            return Ok(None);
        };
        let mut errand = Errand {
            lane: lane.clone(),
            id: told.id.clone(),
            caps: form.caps(&reach.context.client.caps.for_upstreams()),
            tasks: self.pool.tasks().clone(),
            ended: false,
        };
        let end = self.pursue(&mut errand, form, told, reach).await?;
        errand.ended = true;
        Ok(Some(match end {
            Ok(result) => complete(of_a_call(result)),
            Err(error) => Outcome::Refused(error),
        }))
    }

    /// Asks how a task stands until it has ended.
    async fn pursue(&self, errand: &mut Errand, form: Form, mut told: Told, reach: &Reach<'_>) -> Result<End, Failure> {
        let mut answered = BTreeSet::new();
        loop {
            match (told.state, form) {
                (State::Ended(Some(end)), _) => return Ok(end),
                // In 2025-11-25 its questions come to whoever waits for the result.
                (State::Ended(None) | State::Asks, Form::Core) => {
                    return self.about(errand, "tasks/result", None, reach).await;
                }
                (State::Cancelled, _) => {
                    errand.ended = true;
                    let message = format!("The upstream `{}` has taken the call back.", self.settings.name);
                    return Err(Failure::new(Code::UpstreamFailed, message));
                }
                (State::Working | State::Asks | State::Ended(None), _) => {}
            }
            tokio::time::sleep(told.pause).await;
            let seen = match self.about(errand, "tasks/get", None, reach).await? {
                Ok(seen) => seen,
                Err(error) => {
                    errand.ended = true;
                    let message = format!(
                        "The upstream `{}` knows nothing of the task any more.",
                        self.settings.name
                    );
                    let details = json!({"code": error.code, "message": error.message});
                    return Err(Failure::new(Code::UpstreamFailed, message)
                        .hint("It may have run. Look whether it had its effect before you call again.")
                        .details(details));
                }
            };
            told = form.told(&seen).map_err(|why| self.nonsense(why))?;
            match (&told.state, form) {
                (State::Asks, Form::Extension) => self.answer(errand, &seen, &mut answered, reach).await?,
                (State::Ended(None), Form::Extension) => return Err(self.nonsense("it ended a task without a result")),
                (_, Form::Core | Form::Extension) => {}
            }
        }
    }

    /// Puts to the client what a task asks and was not told yet, and tells the task.
    async fn answer(
        &self,
        errand: &mut Errand,
        seen: &RawValue,
        answered: &mut BTreeSet<String>,
        reach: &Reach<'_>,
    ) -> Result<(), Failure> {
        let Some(questions) = unanswered(seen, answered) else {
            return Ok(());
        };
        let answers = ask_all(&questions.raw, &reach.context.client).await?;
        if let Some(responses) = answers.input_responses {
            // What it has refused it does not ask again; whatever became of the task, its state tells.
            let _refused = self.about(errand, "tasks/update", Some(&responses), reach).await?;
        }
        answered.extend(questions.keys);
        Ok(())
    }

    /// One request about a task. It is made again where the connection was lost, or nobody was there for a while.
    async fn about(
        &self,
        errand: &mut Errand,
        method: &'static str,
        responses: Option<&RawValue>,
        reach: &Reach<'_>,
    ) -> Result<End, Failure> {
        let params = match responses {
            Some(responses) => crate::raw::with_member(&errand.params(), "inputResponses", responses.get()),
            None => errand.params(),
        };
        let mut misses = 0;
        loop {
            let failure = match self.about_once(errand, method, &params, reach).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let is_over = self.gone.is_cancelled() || reach.context.cancel.is_cancelled();
            if misses >= MISSES_MAX || is_over || !matches!(failure.code, Code::UpstreamFailed | Code::UpstreamTimedOut)
            {
                return Err(failure);
            }
            misses += 1;
            tokio::time::sleep(MISS_PAUSE).await;
        }
    }

    async fn about_once(
        &self,
        errand: &mut Errand,
        method: &'static str,
        params: &RawValue,
        reach: &Reach<'_>,
    ) -> Result<End, Failure> {
        let lane = self.pool.lane(reach.identity, reach.opening).await?;
        self.vet(&lane).await?;
        errand.lane = lane;
        let hooks = Hooks {
            cancel: reach.context.cancel.clone(),
            emissions: reach.context.client.emissions(),
            trace: Some(reach.traceparent.clone()),
            caps: Some(errand.caps.clone()),
            ..Hooks::within(if method == "tasks/result" {
                RESULT_WAIT
            } else {
                ABOUT_WAIT
            })
        };
        let answer = errand.lane.connection.request(method, Some(params), hooks).await;
        match answer {
            Ok(raw) => Ok(Ok(raw)),
            Err(ClientFault::Refused(error)) => Ok(Err(error)),
            Err(fault) => {
                self.mistrust(&errand.lane, &fault);
                Err(self.failure(fault))
            }
        }
    }

    fn nonsense(&self, why: &str) -> Failure {
        self.failure(ClientFault::Protocol(why.to_owned()))
    }
}

/// The questions of a task that nobody has answered.
struct Questions {
    /// In an object with `inputRequests`.
    raw: Box<RawValue>,
    keys: Vec<String>,
}

fn unanswered(seen: &RawValue, answered: &BTreeSet<String>) -> Option<Questions> {
    let members = Members::of(seen)?;
    let requests: &RawValue = serde_json::from_str(members.get("inputRequests")?).ok()?;
    let mut requests = Members::of(requests)?;
    requests.0.retain(|(key, _)| !answered.contains(&**key));
    let keys: Vec<String> = requests.0.iter().map(|(key, _)| key.clone().into_owned()).collect();
    let empty = RawValue::from_string("{}".to_owned()).expect("an empty object is JSON");
    let raw = crate::raw::with_member(&empty, "inputRequests", requests.write().get());
    (!keys.is_empty()).then_some(Questions { raw, keys })
}

fn complete(raw: Box<RawValue>) -> Outcome {
    #[derive(Deserialize)]
    struct Glance {
        #[serde(default, rename = "isError")]
        is_error: bool,
    }
    let glance: Option<Glance> = serde_json::from_str(raw.get()).ok();
    Outcome::Complete(Complete {
        raw,
        is_error: glance.is_some_and(|glance| glance.is_error),
        failed: None,
    })
}
