//! `subscriptions/listen`: a request that stays open, and is made again when it ends.

use super::{
    ClientFault, Hello, Hooks,
    core::Core,
    link::{Asking, Link, Speaking},
};
use serde_json::value::RawValue;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How an upstream says which part of a subscription is in force.
pub(crate) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// A subscription that lasted so long was well, so the pauses begin anew.
const WELL_AFTER: Duration = Duration::from_mins(1);
/// A subscription has no end of its own.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);

/// A subscription to changes. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    _ends: Option<DropGuard>,
}

pub(super) fn start(
    link: &Link,
    core: &Arc<Core>,
    hello: &Arc<Hello>,
    speaking: Speaking,
    filter: &RawValue,
) -> Subscription {
    if speaking == Speaking::Legacy {
        return Subscription { _ends: None };
    }
    let cancel = CancellationToken::new();
    let params = RawValue::from_string(format!(r#"{{"notifications":{filter}}}"#)).expect("raw JSON within JSON");
    let keeper = Keeper {
        link: link.clone(),
        core: core.clone(),
        hello: hello.clone(),
        speaking,
        params,
        cancel: cancel.clone(),
    };
    core.tasks.spawn("mcp-listen", |_stop| keeper.keep());
    Subscription {
        _ends: Some(cancel.drop_guard()),
    }
}

/// Of JSON-RPC.
const METHOD_NOT_FOUND: i64 = -32_601;

struct Keeper {
    link: Link,
    core: Arc<Core>,
    hello: Arc<Hello>,
    speaking: Speaking,
    params: Box<RawValue>,
    cancel: CancellationToken,
}

impl Keeper {
    async fn keep(self) {
        let mut pause = PAUSE_FIRST;
        loop {
            let begun = Instant::now();
            if let Err(ClientFault::Refused(error)) = self.listen_once().await {
                tracing::warn!(error.code, "an MCP upstream refused a subscription to its changes");
                // What has no room for one more may have it later; what knows of none never will.
                if error.code == METHOD_NOT_FOUND {
                    return;
                }
            }
            if self.cancel.is_cancelled() || !self.core.is_open() {
                return;
            }
            if begun.elapsed() > WELL_AFTER {
                pause = PAUSE_FIRST;
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = self.core.ended.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    async fn listen_once(&self) -> Result<Box<RawValue>, ClientFault> {
        let hooks = Hooks {
            cancel: self.cancel.clone(),
            ..Hooks::within(FOR_EVER)
        };
        let asking = Asking {
            speaking: self.speaking,
            method: "subscriptions/listen",
            params: Some(&self.params),
            hooks: &hooks,
        };
        self.link.ask(&self.core, &self.hello, asking).await
    }
}
