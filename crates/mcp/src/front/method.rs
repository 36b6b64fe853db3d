//! The methods of the protocol: which there are, in every era.
//!
//! What is not listed here does not exist.

use super::{Front, served::Aim, turn::Turn};
use crate::{
    call::Outcome,
    envelope::Request,
    ledger::{Counted, Entry},
    params::{Params, invalid, text, whole},
    raw::Members,
    reading::Kind,
    rpc::{Dialect, Ending, Fault},
};
use forebay_domain::{Action, Code, Failure};
use serde_json::value::RawValue;
use std::sync::Arc;

/// What the events of subscriptions name. To what is the caller's own affair, and written nowhere.
const SUBSCRIBE: Action = Action::named("resources:subscribe");
const UNSUBSCRIBE: Action = Action::named("resources:unsubscribe");

impl Front {
    /// Answers one request; `Ok` is the JSON text of its result.
    pub(crate) async fn serve(&self, request: &Request, turn: &Turn) -> Ending {
        let params = Params::read(request.params.as_ref())?;
        let raw = || whole(request.params.as_ref());
        match (request.method.as_str(), Era::of(turn.dialect)) {
            ("tools/call", _) => self.call_tool(&params, raw(), turn).await,
            ("tools/list", _) => self.list("tools", Kind::Tools, &params, turn),
            ("prompts/list", _) => self.list("prompts", Kind::Prompts, &params, turn),
            ("prompts/get", _) => self.get_prompt(&params, raw(), turn).await,
            ("resources/list", _) => self.list("resources", Kind::Resources, &params, turn),
            ("resources/templates/list", _) => self.list("resourceTemplates", Kind::Templates, &params, turn),
            ("resources/read", _) => self.read_resource(&params, raw(), turn).await,
            ("completion/complete", _) => self.complete(raw(), turn).await,
            ("server/discover", Era::Modern) => Ok(self.discover(turn)?),
            ("initialize", Era::Legacy) => Ok(self.initialize(turn)?),
            ("ping", Era::Legacy) => Ok("{}".to_owned()),
            ("logging/setLevel", Era::Legacy) => Ok(self.set_level(&params, turn)?),
            ("resources/subscribe", Era::Legacy) => Ok(self.subscribe_session(&params, turn).await?),
            ("resources/unsubscribe", Era::Legacy) => Ok(self.unsubscribe_session(&params, turn).await?),
            ("tasks/get", _) => self.get_task(&params, turn).await,
            ("tasks/cancel", _) => self.cancel_task(&params, turn).await,
            ("tasks/update", Era::Modern) => self.update_task(&params, turn).await,
            ("tasks/list", Era::Legacy) => self.list_tasks(&params, turn).await,
            ("tasks/result", Era::Legacy) => self.task_result(&params, turn).await,
            _ => Err(unknown_method(&request.method).into()),
        }
    }

    async fn call_tool(&self, params: &Params<'_>, raw: Option<&RawValue>, turn: &Turn) -> Ending {
        let name = text("name", params.name)?;
        let none = no_members();
        let arguments = match params.arguments {
            None => &none,
            Some(raw) if raw.get().starts_with('{') => raw,
            Some(_) => return Err(invalid("`arguments` must be a JSON object.".to_owned()).into()),
        };
        if let (Some(kept), Some(raw)) = (self.as_task(params, &name, turn)?, raw) {
            return self.begin_task(&name, raw, kept, turn).await;
        }
        // It is about this gateway's tasks, and nobody behind it is to make one.
        let plain = raw.filter(|_| params.task.is_some()).and_then(|raw| {
            let mut members = Members::of(raw)?;
            members.remove("task");
            Some(members.write())
        });
        let raw = plain.as_deref().or(raw);
        let aim = Aim::Tool {
            name: &name,
            arguments,
            params: raw,
        };
        self.pursue(&aim, turn).await
    }

    async fn read_resource(&self, params: &Params<'_>, raw: Option<&RawValue>, turn: &Turn) -> Ending {
        let uri = text("uri", params.uri)?;
        self.pursue(&Aim::Resource { uri: &uri, params: raw }, turn).await
    }

    async fn get_prompt(&self, params: &Params<'_>, raw: Option<&RawValue>, turn: &Turn) -> Ending {
        let name = text("name", params.name)?;
        let none = no_members();
        let aim = Aim::Prompt {
            name: &name,
            params: raw.unwrap_or(&none),
        };
        self.pursue(&aim, turn).await
    }

    async fn complete(&self, raw: Option<&RawValue>, turn: &Turn) -> Ending {
        let none = no_members();
        let outcome = self
            .catalogue()
            .complete(&turn.principal, &turn.scope, raw.unwrap_or(&none), turn.context(None))
            .await?;
        match outcome {
            Outcome::Complete(complete) => Ok(self.dress(&complete.raw, turn.dialect)),
            Outcome::Refused(error) => Err(Fault::Refused(error)),
            Outcome::Cancelled => Err(cancelled().into()),
            Outcome::InputRequired(_) => {
                let message = "The server asked for input where the protocol has none.";
                Err(Failure::new(Code::UpstreamFailed, message).into())
            }
        }
    }

    fn set_level(&self, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        let level = text("level", params.level)?.parse()?;
        // Without a session there is nothing that could be logged to this client.
        if let Some(session) = &turn.session {
            session.set_level(level);
            self.sessions().shelf().describe(session);
        }
        Ok("{}".to_owned())
    }

    /// Opens the entry of a request that no source serves.
    pub(crate) fn note(&self, action: &Action, turn: &Turn) -> Entry<'_> {
        let via = turn.context(None).via;
        let ledger = self.catalogue().ledger();
        ledger.open(&turn.principal, via, action.to_string(), Counted::No)
    }

    async fn subscribe_session(&self, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        let entry = self.note(&SUBSCRIBE, turn);
        let result = self.try_subscribe_session(params, turn).await;
        entry.settle(&result);
        result
    }

    async fn try_subscribe_session(&self, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        let session = turn
            .session
            .as_ref()
            .ok_or_else(|| unknown_method("resources/subscribe"))?;
        if !self.offered(&turn.scope)?.watches {
            return Err(unknown_method("resources/subscribe"));
        }
        let uri = text("uri", params.uri)?;
        let name: Arc<str> = session.id.as_str().into();
        // Nothing is watched for a session that may not listen to it.
        let known = session.is_subscribed(&uri);
        session.subscribe(&uri)?;
        let watched = self.watch(&turn.principal, &turn.scope, &uri, &name, &session.closed);
        if let Err(failure) = watched.await {
            if !known {
                session.unsubscribe(&uri);
            }
            return Err(failure);
        }
        self.sessions().shelf().describe(session);
        Ok("{}".to_owned())
    }

    async fn unsubscribe_session(&self, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        let entry = self.note(&UNSUBSCRIBE, turn);
        let result = self.try_unsubscribe_session(params, turn).await;
        entry.settle(&result);
        result
    }

    async fn try_unsubscribe_session(&self, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        let session = turn
            .session
            .as_ref()
            .ok_or_else(|| unknown_method("resources/unsubscribe"))?;
        let uri = text("uri", params.uri)?;
        if session.unsubscribe(&uri) {
            self.sessions().shelf().describe(session);
            self.unwatch(&turn.principal, &turn.scope, &uri, session.id.as_str())
                .await;
        }
        Ok("{}".to_owned())
    }
}

#[derive(Clone, Copy)]
enum Era {
    Legacy,
    Modern,
}

impl Era {
    fn of(dialect: Dialect) -> Self {
        if dialect.is_modern() {
            Self::Modern
        } else {
            Self::Legacy
        }
    }
}

fn no_members() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

pub(super) fn unknown_method(method: &str) -> Failure {
    let method: String = method.chars().take(80).collect();
    Failure::new(Code::UnknownMethod, format!("There is no method `{method}` here."))
        .hint("Its protocol version may not have it; see what the server's capabilities name.")
}

pub(crate) fn cancelled() -> Failure {
    Failure::new(Code::Cancelled, "The request was cancelled.")
}
