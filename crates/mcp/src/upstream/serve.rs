//! The way of one request to an upstream: whose connection it takes, and when it may be asked again. Before that the
//! connection has to pass [`super::vet`].

use super::{
    config::Sharing,
    errand::{Form, Reach},
    pool::{Identity, Lane, gateway_caps},
    relay,
    server::Upstream,
};
use crate::{
    call::{CallContext, LogLevel, Outcome},
    client::{ClientFault, Ear, Hooks},
    session::Owner,
    source::{Source, Wanted},
    tasks::support::Said,
};
use forebay_domain::{Code, Failure, Principal};
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json, value::RawValue};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The catalogue bounds every call; this only has to be longer.
const HOOKS_TIMEOUT: Duration = Duration::from_hours(24);
/// Requests of one owner that are under way at one upstream; further ones wait, and nobody else for them.
const UNDER_WAY_OF_OWNER_MAX: usize = 32;

/// What each owner has under way at one upstream.
#[derive(Default)]
pub(super) struct Shares(Mutex<HashMap<Owner, Arc<Semaphore>>>);

impl Shares {
    async fn of(&self, principal: &Principal) -> Result<OwnedSemaphorePermit, Failure> {
        let share = {
            let mut all = self.0.lock().expect("nobody panics while holding the shares");
            // Whoever has nothing under way leaves nothing behind.
            all.retain(|_, share| Arc::strong_count(share) > 1);
            all.entry(Owner::from(principal))
                .or_insert_with(|| Arc::new(Semaphore::new(UNDER_WAY_OF_OWNER_MAX)))
                .clone()
        };
        share
            .acquire_owned()
            .await
            .map_err(|fault| Failure::new(Code::InternalError, "A share was closed.").caused_by(fault))
    }
}

/// A request that was made, and what came of it.
struct Asked {
    answer: Result<Box<RawValue>, ClientFault>,
    /// The form of the task that its answer may be.
    form: Option<Form>,
    /// Hears what is said of it on the way, until its end.
    _ear: Option<Ear>,
}

impl Upstream {
    pub(super) async fn relay(
        &self,
        principal: &Principal,
        wanted: Wanted<'_>,
        context: CallContext,
    ) -> Result<Outcome, Failure> {
        if self.gone.is_cancelled() {
            let message = format!("The upstream `{}` has just been taken away.", self.name());
            return Err(Failure::new(Code::UpstreamFailed, message));
        }
        let _share = self.shares.of(principal).await?;
        let (modern, logs) = {
            let condition = self.lock();
            (condition.modern, condition.logs)
        };
        let shared = modern || self.settings.sharing == Sharing::Shared;
        let (identity, caps) = if shared {
            (Identity::Gateway, gateway_caps())
        } else {
            let caps = context.client.caps.for_upstreams();
            (Identity::of(principal, &context.client.caps), caps)
        };
        let reach = Reach {
            identity: &identity,
            opening: &caps,
            context: &context,
            traceparent: self.traceparent(&context),
        };
        let mut again = true;
        loop {
            let lane = self.pool.lane(&identity, &caps).await.inspect_err(|failure| {
                if failure.code != Code::Overloaded {
                    self.doubt();
                }
            })?;
            self.vet(&lane).await?;
            self.require_offered(&lane, wanted)?;
            if logs && !modern {
                self.ask_for_logs(&lane, context.client.log_level).await;
            }
            let asked = self.ask(&lane, wanted, &reach).await;
            if let Err(fault) = &asked.answer {
                self.mistrust(&lane, fault);
            }
            let lost = match &asked.answer {
                Err(ClientFault::SessionExpired | ClientFault::Unreachable { .. }) => again,
                Err(ClientFault::Broken { .. }) => again && self.may_repeat(wanted),
                Ok(_) | Err(_) => false,
            };
            if !lost {
                return self.outcome(&lane, asked, &reach).await;
            }
            again = false;
            // The connection itself may be well, and others have requests under way on it: the pool knows.
        }
    }

    /// One request, over one connection.
    async fn ask(&self, lane: &Lane, wanted: Wanted<'_>, reach: &Reach<'_>) -> Asked {
        let context = reach.context;
        let mut out = relay::outgoing(wanted, context);
        let mut hooks = relay::hooks(context, HOOKS_TIMEOUT, reach.traceparent.clone());
        if lane.connection.version().is_modern() {
            hooks.headers = self.param_headers(wanted);
        }
        let form = lane.tasks.filter(|form| match wanted {
            Wanted::Tool { name, .. } => form.suits(self.said_of(name), context),
            Wanted::Resource { .. } | Wanted::Prompt { .. } | Wanted::Completion { .. } => false,
        });
        let emissions = context.client.emissions().filter(|_| form.is_some());
        let ear = emissions.map(|emissions| lane.connection.ear(emissions));
        if let Some(form) = form {
            out.params = form.params(out.params);
            hooks.caps = hooks.caps.map(|caps| form.caps(&caps));
            hooks.token = ear.as_ref().map(Ear::token);
        }
        let answer = lane.connection.request(out.method, Some(&out.params), hooks).await;
        Asked {
            answer,
            form,
            _ear: ear,
        }
    }

    /// What became of a request, once that is settled.
    async fn outcome(&self, lane: &Arc<Lane>, asked: Asked, reach: &Reach<'_>) -> Result<Outcome, Failure> {
        if let (Some(form), Ok(answer)) = (asked.form, &asked.answer)
            && let Some(outcome) = self.follow(lane, form, answer, reach).await?
        {
            return Ok(outcome);
        }
        relay::outcome(asked.answer, |fault| self.failure(fault))
    }

    /// What a tool says about tasks.
    fn said_of(&self, name: &str) -> Said {
        let offered = self.offered.load();
        offered
            .tools
            .get(name)
            .map_or(Said::NOTHING, |tool| Said::of(&tool.raw))
    }

    /// Who answers after the connection had trouble may be another than before: it shows its definitions first.
    pub(super) fn mistrust(&self, lane: &Lane, fault: &ClientFault) {
        match fault {
            ClientFault::Unreachable { .. } | ClientFault::SessionExpired => lane.mistrust(),
            ClientFault::Broken { source, .. } => {
                // Without a cause it is a status with which the server answered.
                if source.is_some() {
                    lane.mistrust();
                }
            }
            _ => return,
        }
        self.doubt();
    }

    /// Whether a request whose end nobody saw may be made again.
    fn may_repeat(&self, wanted: Wanted<'_>) -> bool {
        match wanted {
            Wanted::Tool { name, .. } => {
                let offered = self.offered.load();
                offered.tools.get(name).is_some_and(|tool| tool.hints.may_repeat())
            }
            Wanted::Resource { .. } | Wanted::Prompt { .. } | Wanted::Completion { .. } => true,
        }
    }

    /// A legacy server logs at a level that is set for the whole connection.
    async fn ask_for_logs(&self, lane: &Lane, wanted: Option<LogLevel>) {
        let Some(level) = wanted.filter(|level| lane.wants(*level)) else {
            return;
        };
        let params = crate::call::raw(&json!({"level": level.as_str()}));
        let hooks = Hooks::within(Duration::from_secs(10));
        if let Err(fault) = lane.connection.request("logging/setLevel", Some(&params), hooks).await {
            tracing::debug!(upstream.name = self.name(), error = %fault, "log level refused");
        }
    }

    fn traceparent(&self, context: &CallContext) -> String {
        format!("00-{}-{}-01", context.via.trace, hex::encode(self.entropy.bytes::<8>()))
    }

    /// `Mcp-Param-*`, which a modern upstream wants beside the arguments that its schema marks.
    fn param_headers(&self, wanted: Wanted<'_>) -> Vec<(HeaderName, HeaderValue)> {
        let Wanted::Tool { name, arguments, .. } = wanted else {
            return Vec::new();
        };
        let offered = self.offered.load();
        let Some(tool) = offered.tools.get(name).filter(|tool| !tool.headers.is_empty()) else {
            return Vec::new();
        };
        let arguments: Value = serde_json::from_str(arguments.get()).unwrap_or_default();
        tool.headers.iter().filter_map(|mark| mark.of(&arguments)).collect()
    }
}
