//! The built-in server `compose`, through the catalogue.

mod batch;
mod chain;
mod lab;
mod paying;
mod search;
mod telling;

use crate::support::{Gate, Wish, principal, trace};
use forebay_domain::{Failure, Principal, Role, event::Surface, port::Via};
use forebay_mcp::{Call, CallContext, Client, Outcome};
use lab::Lab;
use serde_json::{Value, value::RawValue};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A gateway with a laboratory behind it.
struct Bench {
    gate: Gate,
    lab: Arc<Lab>,
    user: Principal,
}

impl Bench {
    async fn open() -> Self {
        let gate = Gate::open(Wish::default()).await;
        let lab = Arc::new(Lab::new("lab"));
        gate.catalogue.join(lab.clone());
        Self {
            gate,
            lab,
            user: principal(Role::User),
        }
    }

    async fn call_in(
        &self,
        principal: &Principal,
        tool: &str,
        arguments: &Value,
        context: CallContext,
    ) -> Result<Outcome, Failure> {
        let arguments = raw(&arguments.to_string());
        self.gate
            .catalogue
            .call(principal, Call::of(tool, &arguments), context)
            .await
    }

    /// Calls as the user, and returns the result as it stands.
    async fn call(&self, tool: &str, arguments: &Value) -> Got {
        got(self.call_in(&self.user, tool, arguments, context()).await)
    }

    async fn refusal(&self, tool: &str, arguments: &Value) -> Failure {
        self.call_in(&self.user, tool, arguments, context()).await.unwrap_err()
    }
}

/// A finished result.
#[derive(Debug)]
struct Got {
    raw: String,
    is_error: bool,
    /// `structuredContent`.
    told: Value,
}

fn got(outcome: Result<Outcome, Failure>) -> Got {
    let complete = match outcome {
        Ok(Outcome::Complete(complete)) => Ok(complete),
        other => Err(other),
    };
    let complete = complete.unwrap();
    let result: Value = serde_json::from_str(complete.raw.get()).unwrap();
    let text = result["content"][0]["text"].as_str().unwrap();
    let told = result["structuredContent"].clone();
    assert_eq!(
        serde_json::from_str::<Value>(text).unwrap(),
        told,
        "the structure stands in a text block too"
    );
    assert_eq!(result["isError"], complete.is_error);
    Got {
        raw: complete.raw.get().to_owned(),
        is_error: complete.is_error,
        told,
    }
}

fn context() -> CallContext {
    CallContext {
        via: Via {
            surface: Surface::Mcp,
            trace: trace(),
            in_task: false,
        },
        cancel: CancellationToken::new(),
        deadline: None,
        client: Client::nobody(),
        retry: None,
        cost: None,
    }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn with_grants(principal: &Principal, grants: &[&str]) -> Principal {
    Principal {
        grants: grants.iter().map(|grant| grant.parse().unwrap()).collect(),
        ..principal.clone()
    }
}
