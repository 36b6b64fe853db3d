//! What sources serve: tools, resources and prompts, with as many rounds of questions as they need.
//!
//! A client of 2026-07-28 is handed a source's questions with its answer; an older one is asked at once, and the source
//! is called again with what it said. Results keep every byte that nobody here has to change.

use super::{Front, method::cancelled, state::State, turn::Turn};
use crate::{
    call::{AskFault, Capability, Client, Outcome, Retry, RpcError},
    catalogue::Call,
    raw::Members,
    rpc::{self, Dialect, Ending, Fault, object},
};
use forebay_domain::{Code, Failure};
use futures_util::future::join_all;
use serde_json::{Value, value::RawValue};
use std::borrow::Cow;

/// How often a source may ask an older client before it has to answer.
const ROUNDS_MAX: usize = 16;
/// Questions of one round at most.
const QUESTIONS_MAX: usize = 16;

/// What a request wants of a source.
pub(crate) enum Aim<'a> {
    Tool {
        name: &'a str,
        arguments: &'a RawValue,
        params: Option<&'a RawValue>,
    },
    Resource {
        uri: &'a str,
        params: Option<&'a RawValue>,
    },
    Prompt {
        name: &'a str,
        params: &'a RawValue,
    },
}

impl Aim<'_> {
    fn method(&self) -> &'static str {
        match self {
            Self::Tool { .. } => "tools/call",
            Self::Resource { .. } => "resources/read",
            Self::Prompt { .. } => "prompts/get",
        }
    }

    fn target(&self) -> &str {
        match self {
            Self::Tool { name, .. } | Self::Prompt { name, .. } => name,
            Self::Resource { uri, .. } => uri,
        }
    }
}

/// One question of a source, as it stands in `inputRequests`.
struct Input {
    key: String,
    method: String,
    params: Option<Box<RawValue>>,
}

impl Front {
    /// Asks a source until it has answered.
    pub(crate) async fn pursue(&self, aim: &Aim<'_>, turn: &Turn) -> Ending {
        let mut retry = turn.retry();
        for _ in 0..ROUNDS_MAX {
            match self.once(aim, turn, retry.take()).await {
                Ok(Outcome::Complete(complete)) => {
                    return Ok(match aim {
                        Aim::Tool { .. } | Aim::Prompt { .. } => self.dress(&complete.raw, turn.dialect),
                        Aim::Resource { .. } => self.dress_cached(&complete.raw, turn.dialect),
                    });
                }
                Ok(Outcome::InputRequired(raw)) if turn.dialect.is_modern() => {
                    return Ok(self.hand_over(aim, turn, &raw)?);
                }
                Ok(Outcome::InputRequired(raw)) => match ask_all(&raw, &turn.client).await {
                    Ok(answers) => retry = Some(answers),
                    Err(failure) => return self.told_or_failed(aim, failure, turn.dialect),
                },
                Ok(Outcome::Refused(error)) => return Err(Fault::Refused(translated(aim, error, turn.dialect))),
                Ok(Outcome::Cancelled) => return Err(cancelled().into()),
                Err(failure) => return self.told_or_failed(aim, failure, turn.dialect),
            }
        }
        let message = format!("`{}` asked {ROUNDS_MAX} times and never answered.", aim.target());
        self.told_or_failed(aim, Failure::new(Code::UpstreamFailed, message), turn.dialect)
    }

    /// A failure of a tool goes to the model where that can act on it, anything else to the client.
    fn told_or_failed(&self, aim: &Aim<'_>, failure: Failure, dialect: Dialect) -> Ending {
        if matches!(aim, Aim::Tool { .. }) && rpc::is_for_the_model(&failure, dialect) {
            return Ok(self.dress(&rpc::tool_error(&failure), dialect));
        }
        Err(failure.into())
    }

    async fn once(&self, aim: &Aim<'_>, turn: &Turn, retry: Option<Retry>) -> Result<Outcome, Failure> {
        let stripped = retry.is_some().then(|| without_rounds(aim)).flatten();
        let (catalogue, principal, scope) = (self.catalogue(), &turn.principal, &turn.scope);
        let context = turn.context(retry);
        match aim {
            Aim::Tool {
                name,
                arguments,
                params,
            } => {
                let call = Call {
                    scope,
                    tool: name,
                    arguments,
                    params: stripped.as_deref().or(*params),
                };
                catalogue.call(principal, call, context).await
            }
            Aim::Resource { uri, params } => {
                let params = stripped.as_deref().or(*params);
                catalogue.read(principal, scope, uri, params, context).await
            }
            Aim::Prompt { name, params } => {
                let params = stripped.as_deref().unwrap_or(params);
                catalogue.prompt(principal, scope, name, params, context).await
            }
        }
    }

    /// A source's questions on their way to a modern client, its state under our signature.
    fn hand_over(&self, aim: &Aim<'_>, turn: &Turn, raw: &RawValue) -> Result<String, Failure> {
        for input in inputs(raw)? {
            if let Some(needed) = Capability::of(&input.method)
                && !turn.client.caps.has(needed)
            {
                return Err(AskFault::Unable(needed).into());
            }
        }
        let mut members = Members::of(raw).ok_or_else(no_questions)?;
        let state: Option<String> = members
            .get("requestState")
            .and_then(|state| serde_json::from_str(state).ok());
        if let Some(state) = state {
            let owner = crate::session::Owner::from(&turn.principal);
            let about = super::state::About {
                owner: &owner,
                scope: &turn.scope,
                method: aim.method(),
                target: aim.target(),
            };
            let state = self.states().sign(State::Source(state), about);
            members.set("requestState", Value::from(state).to_string());
        }
        members.set("resultType", "\"input_required\"");
        let meta = self.signed_meta(members.get("_meta"));
        members.set("_meta", meta);
        Ok(members.write().get().to_owned())
    }

    /// A finished result as this client's version writes it.
    pub(crate) fn dress(&self, raw: &RawValue, dialect: Dialect) -> String {
        self.dressed(raw, dialect, &[])
    }

    /// The same for what clients may keep for a while: not at all, where its source says nothing.
    fn dress_cached(&self, raw: &RawValue, dialect: Dialect) -> String {
        self.dressed(raw, dialect, &[("ttlMs", "0"), ("cacheScope", "\"private\"")])
    }

    fn dressed(&self, raw: &RawValue, dialect: Dialect, defaults: &[(&'static str, &'static str)]) -> String {
        let text = raw.get();
        if !dialect.is_modern() {
            return undressed(raw);
        }
        let bare = |name: &str| !text.contains(name);
        if bare("\"resultType\"") && bare("\"_meta\"") && defaults.iter().all(|(name, _)| bare(name)) {
            // Nothing of ours stands in it already, wherever: ours comes first, the rest as it is.
            let own = [("resultType", "\"complete\""), ("_meta", self.signature())];
            let head = object(&[&own, defaults].concat());
            let rest = text.trim_start().trim_start_matches('{').trim_start();
            let comma = if rest.starts_with('}') { "" } else { "," };
            return [&head[..head.len() - 1], comma, rest].concat();
        }
        let Some(mut members) = Members::of(raw) else {
            return text.to_owned();
        };
        for (name, value) in [("resultType", "\"complete\"")].iter().chain(defaults) {
            if members.get(name).is_none() {
                members.set(name, *value);
            }
        }
        let meta = self.signed_meta(members.get("_meta"));
        members.set("_meta", meta);
        members.write().get().to_owned()
    }

    /// The `_meta` of a result with who we are, unless it names its server already.
    fn signed_meta(&self, meta: Option<&str>) -> Cow<'static, str> {
        const SERVER: &str = "io.modelcontextprotocol/serverInfo";
        let raw = meta.and_then(|meta| serde_json::from_str::<&RawValue>(meta).ok());
        let Some(mut members) = raw.and_then(Members::of) else {
            return Cow::Owned(self.signature().to_owned());
        };
        if members.get(SERVER).is_none() {
            members.set(SERVER, self.server().to_json());
        }
        Cow::Owned(members.write().get().to_owned())
    }
}

/// Older clients know no result types.
fn undressed(raw: &RawValue) -> String {
    if raw.get().contains("\"resultType\"")
        && let Some(mut members) = Members::of(raw)
    {
        members.remove("resultType");
        return members.write().get().to_owned();
    }
    raw.get().to_owned()
}

/// The one error whose number changed between the eras: that there is no such resource.
fn translated(aim: &Aim<'_>, error: RpcError, dialect: Dialect) -> RpcError {
    const LEGACY_NOT_FOUND: i64 = -32002;
    const INVALID_PARAMS: i64 = -32602;
    if matches!(aim, Aim::Resource { .. }) && dialect.is_modern() && error.code == LEGACY_NOT_FOUND {
        return RpcError {
            code: INVALID_PARAMS,
            ..error
        };
    }
    error
}

/// The params without what belongs to the rounds: a source gets that checked and on its own.
fn without_rounds(aim: &Aim<'_>) -> Option<Box<RawValue>> {
    let params = match aim {
        Aim::Tool { params, .. } | Aim::Resource { params, .. } => (*params)?,
        Aim::Prompt { params, .. } => params,
    };
    let mut members = Members::of(params)?;
    members.remove("inputResponses");
    members.remove("requestState");
    Some(members.write())
}

/// Puts all questions of a source to an older client at once, and brings its answers into the form of a retry.
pub(crate) async fn ask_all(raw: &RawValue, client: &Client) -> Result<Retry, Failure> {
    let inputs = inputs(raw)?;
    let asked = inputs.into_iter().map(|input| async move {
        let answer = client.ask(&input.method, input.params).await;
        (input.key, answer)
    });
    let mut answers = Vec::new();
    for (key, answer) in join_all(asked).await {
        answers.push((key, answer?));
    }
    let members = answers
        .iter()
        .map(|(key, answer)| (Cow::Borrowed(key.as_str()), Cow::Borrowed(answer.get())))
        .collect();
    let state = Members::of(raw).and_then(|members| serde_json::from_str(members.get("requestState")?).ok());
    Ok(Retry {
        input_responses: (!answers.is_empty()).then(|| Members(members).write()),
        request_state: state,
    })
}

fn inputs(raw: &RawValue) -> Result<Vec<Input>, Failure> {
    let members = Members::of(raw).ok_or_else(no_questions)?;
    let Some(requests) = members.get("inputRequests") else {
        return if members.get("requestState").is_some() {
            Ok(Vec::new())
        } else {
            Err(no_questions())
        };
    };
    let requests: &RawValue = serde_json::from_str(requests).map_err(|_| no_questions())?;
    let requests = Members::of(requests).ok_or_else(no_questions)?;
    if requests.0.len() > QUESTIONS_MAX {
        let message = format!("The server asked more than {QUESTIONS_MAX} questions at once.");
        return Err(Failure::new(Code::UpstreamFailed, message));
    }
    let read = |(key, value): &(Cow<'_, str>, Cow<'_, str>)| {
        let value: &RawValue = serde_json::from_str(value).ok()?;
        let members = Members::of(value)?;
        Some(Input {
            key: key.clone().into_owned(),
            method: serde_json::from_str(members.get("method")?).ok()?,
            params: match members.get("params") {
                Some(params) => Some(RawValue::from_string(params.to_owned()).ok()?),
                None => None,
            },
        })
    };
    let inputs: Option<Vec<Input>> = requests.0.iter().map(read).collect();
    inputs.ok_or_else(no_questions)
}

fn no_questions() -> Failure {
    Failure::new(
        Code::UpstreamFailed,
        "The server asked for input in a form that is none.",
    )
}
