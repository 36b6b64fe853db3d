//! Tasks of an upstream, as its version of the protocol writes them: pure reading and writing, no I/O.
//!
//! 2025-11-25 has tasks of its own, and later versions have the extension `io.modelcontextprotocol/tasks`. Nothing that
//! an upstream says of a task is trusted: names are bounded, and so are the pauses that it asks for.

use crate::{
    call::{CallContext, RpcError},
    client::Connection,
    era::Version,
    front::EXTENSION,
    raw::{Members, with_member},
    tasks::support::{Said, Support},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use std::{borrow::Cow, time::Duration};

/// The longest name of a task.
const ID_BYTES_MAX: usize = 1024;
/// How often an upstream is asked that does not say how often it wants to be.
const PAUSE_UNSAID: Duration = Duration::from_secs(1);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a result is to be kept. It is fetched as soon as it is there.
const KEPT_MS: u64 = 3_600_000;
/// What names the task that a result of 2025-11-25 belongs to.
const RELATED: &str = "io.modelcontextprotocol/related-task";

/// The form in which a server knows tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Form {
    /// Of 2025-11-25: the client asks for a task, and fetches the result by itself.
    Core,
    /// The extension: the server decides, and the result comes with the state.
    Extension,
}

/// A task as an upstream tells of it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) id: String,
    /// How long to wait before it is asked again.
    pub(super) pause: Duration,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    Working,
    /// With the extension, its questions stand in the state itself.
    Asks,
    /// It has a result or an error; with the extension that is here, but where the task has only just been made.
    Ended(Option<End>),
    Cancelled,
}

/// What became of a call that ran as a task.
pub(super) type End = Result<Box<RawValue>, RpcError>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow)]
    task_id: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    poll_interval: Option<&'a RawValue>,
    #[serde(borrow, default)]
    poll_interval_ms: Option<&'a RawValue>,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<RpcError>,
}

impl Form {
    /// The form in which the server of a connection knows tasks, by its own word.
    pub(in crate::upstream) fn of(connection: &Connection) -> Option<Self> {
        let said: Value = serde_json::from_str(connection.capabilities().get()).unwrap_or_default();
        match connection.version() {
            Version::V2025_11_25 => said["tasks"]["requests"]["tools"]["call"]
                .is_object()
                .then_some(Self::Core),
            version if version.is_modern() => said["extensions"][EXTENSION].is_object().then_some(Self::Extension),
            _ => None,
        }
    }

    /// Whether a call of a tool may become a task of its server. In 2025-11-25 that is ours to say: where there is no
    /// other way, and where whoever calls does not wait for it. With the extension it is the server's, and its client
    /// only says whether it could follow one: a client that knows that question answers it for itself.
    pub(in crate::upstream) fn suits(self, said: Said, context: &CallContext) -> bool {
        match self {
            Self::Core => match said.support {
                Support::Required => true,
                Support::Optional => context.via.in_task,
                Support::Unsaid => false,
            },
            Self::Extension => !context.client.version.is_modern() || context.client.caps.has_tasks(),
        }
    }

    /// The params of a call that may become a task.
    pub(in crate::upstream) fn params(self, params: Box<RawValue>) -> Box<RawValue> {
        match self {
            Self::Core => with_member(&params, "task", &json!({"ttl": KEPT_MS}).to_string()),
            Self::Extension => params,
        }
    }

    /// The capabilities of whoever calls, with what it takes to be told of tasks.
    pub(in crate::upstream) fn caps(self, caps: &RawValue) -> Box<RawValue> {
        match self {
            Self::Core => caps.to_owned(),
            Self::Extension => with_member(caps, "extensions", &json!({EXTENSION: {}}).to_string()),
        }
    }

    /// The task that a call became; nothing where its answer is a result. Refused where it is a task that cannot be
    /// followed.
    pub(super) fn begun(self, answer: &RawValue) -> Result<Option<Told>, &'static str> {
        #[derive(Deserialize)]
        struct Created<'a> {
            #[serde(borrow, default, rename = "resultType")]
            result_type: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            task: Option<&'a RawValue>,
        }
        let Ok(created) = serde_json::from_str::<Created<'_>>(answer.get()) else {
            return Ok(None);
        };
        match (self, created.result_type.as_deref(), created.task) {
            (Self::Core, _, Some(task)) => self.told(task).map(Some),
            (Self::Extension, Some("task"), _) => self.told(answer).map(Some),
            (Self::Core, _, None) | (Self::Extension, _, _) => Ok(None),
        }
    }

    /// Reads what an upstream says of a task.
    pub(super) fn told(self, raw: &RawValue) -> Result<Told, &'static str> {
        let wire: Wire<'_> = serde_json::from_str(raw.get()).map_err(|_| "it told of a task in a form that is none")?;
        if wire.task_id.is_empty() || wire.task_id.len() > ID_BYTES_MAX {
            return Err("it named a task by something that is no name");
        }
        let pause = match self {
            Self::Core => wire.poll_interval,
            Self::Extension => wire.poll_interval_ms,
        };
        let end = match (self, wire.result, wire.error) {
            (Self::Extension, Some(result), _) if result.get().starts_with('{') => Some(Ok(result)),
            (Self::Extension, _, Some(error)) => Some(Err(error)),
            (Self::Core | Self::Extension, _, _) => None,
        };
        let state = match &*wire.status {
            "working" => State::Working,
            "input_required" => State::Asks,
            "completed" | "failed" => State::Ended(end),
            "cancelled" => State::Cancelled,
            _ => return Err("a task is in a state that the protocol does not know"),
        };
        Ok(Told {
            id: wire.task_id.into_owned(),
            pause: bounded(pause),
            state,
        })
    }
}

fn bounded(asked: Option<&RawValue>) -> Duration {
    let ms: Option<f64> = asked.and_then(|asked| asked.get().parse().ok());
    let pause = ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok());
    pause.map_or(PAUSE_UNSAID, |pause| pause.clamp(PAUSE_MIN, PAUSE_MAX))
}

/// A result without the name of a task that nobody here knows: whoever called sees that of a call.
pub(super) fn of_a_call(result: Box<RawValue>) -> Box<RawValue> {
    if !result.get().contains(RELATED) {
        return result;
    }
    let Some(mut members) = Members::of(&result) else {
        return result.clone();
    };
    let meta = members.get("_meta").and_then(|meta| {
        let meta: &RawValue = serde_json::from_str(meta).ok()?;
        let mut meta = Members::of(meta)?;
        meta.remove(RELATED);
        Some((meta.0.is_empty(), meta.write().get().to_owned()))
    });
    match meta {
        Some((true, _)) => members.remove("_meta"),
        Some((false, meta)) => members.set("_meta", meta),
        None => {}
    }
    members.write()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(value: &Value) -> Box<RawValue> {
        crate::call::raw(value)
    }

    #[test]
    fn each_form_tells_what_a_call_became() {
        let core = raw(&json!({"task": {"taskId": "t", "status": "working", "pollInterval": 250}}));
        let open = raw(&json!({"resultType": "task", "taskId": "t", "status": "working", "pollIntervalMs": 250}));
        for (form, own, other) in [(Form::Core, &core, &open), (Form::Extension, &open, &core)] {
            let told = form.begun(own).unwrap().expect("a task");
            assert_eq!((told.id.as_str(), told.pause), ("t", Duration::from_millis(250)));
            assert!(matches!(told.state, State::Working));
            assert!(form.begun(other).unwrap().is_none(), "{form:?} has another form");
        }
        let result = raw(&json!({"content": [], "task": 7}));
        assert!(Form::Core.begun(&result).is_err(), "that is no task");
        assert!(Form::Extension.begun(&result).unwrap().is_none());
    }

    #[test]
    fn the_end_of_a_task_is_its_result_or_its_error() {
        let told = |value: Value| Form::Extension.told(&raw(&value));
        let done = told(json!({"taskId": "t", "status": "completed", "result": {"content": []}})).unwrap();
        assert!(matches!(done.state, State::Ended(Some(Ok(result))) if result.get() == r#"{"content":[]}"#));
        let failed = told(json!({"taskId": "t", "status": "failed", "error": {"code": -3, "message": "no"}})).unwrap();
        assert!(matches!(failed.state, State::Ended(Some(Err(error))) if error.code == -3 && error.message == "no"));
        let long = json!({"taskId": "t", "status": "failed", "error": {"code": -3, "message": "é".repeat(9_000)}});
        assert!(matches!(told(long).unwrap().state, State::Ended(Some(Err(error))) if error.message.len() < 9_000));
        for none in [
            json!({"taskId": "t", "status": "completed"}),
            json!({"taskId": "t", "status": "failed", "result": []}),
        ] {
            assert!(
                matches!(told(none).unwrap().state, State::Ended(None)),
                "it has to be fetched"
            );
        }
        let core = json!({"taskId": "t", "status": "failed", "error": {"code": -3}});
        let core = Form::Core.told(&raw(&core)).unwrap();
        assert!(matches!(core.state, State::Ended(None)));
        assert!(told(json!({"taskId": "t", "status": "thinking"})).is_err());
        assert!(told(json!({"taskId": "t".repeat(ID_BYTES_MAX + 1), "status": "working"})).is_err());
    }

    #[test]
    fn no_upstream_decides_how_often_it_is_asked() {
        let pause = |value: Value| {
            let told = json!({"taskId": "t", "status": "working", "pollInterval": value});
            Form::Core.told(&raw(&told)).unwrap().pause
        };
        assert_eq!(pause(json!(700)), Duration::from_millis(700));
        for tiny in [json!(0), json!(1e-9)] {
            assert_eq!(pause(tiny), PAUSE_MIN);
        }
        assert_eq!(pause(json!(86_400_000)), PAUSE_MAX);
        for none in [json!(-5), json!(1e300), json!("soon"), Value::Null] {
            assert_eq!(pause(none), PAUSE_UNSAID);
        }
    }

    #[test]
    fn a_result_names_no_task_of_somebody_else() {
        let result = json!({"content": [1.0], "_meta": {RELATED: {"taskId": "t"}, "vendor/x": 1}});
        assert_eq!(
            of_a_call(raw(&result)).get(),
            r#"{"_meta":{"vendor/x":1},"content":[1.0]}"#
        );
        let result = json!({"content": [], "_meta": {RELATED: {"taskId": "t"}}});
        assert_eq!(of_a_call(raw(&result)).get(), r#"{"content":[]}"#);
        let said = json!({"content": [{"text": RELATED}]});
        assert_eq!(of_a_call(raw(&said)).get(), raw(&said).get());
    }
}
