//! Renting at vast.ai: one request, and one of three things known afterwards.

use super::{DISK_GB_MIN, Vast, ask::Route, ask::is_locked_out, ask::limited, ask::refusal, contract};
use crate::market::{
    Created, MarketFault, Order,
    wire::{self, Answer, Call, Lost},
};
use http::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;

const LABEL_BYTES_MAX: usize = 256;
const IMAGE_BYTES_MAX: usize = 1_024;
const ON_START_BYTES_MAX: usize = 4_048;

impl Vast {
    pub(super) async fn rent(&self, order: &Order) -> Created {
        let (id, body) = match (contract(&order.offer), body(order)) {
            (Ok(id), Ok(body)) => (id, body),
            (Err(fault), _) | (_, Err(fault)) => return Created::Refused(fault),
        };
        let call = Call::new(Method::PUT, format!("/api/v0/asks/{id}/")).json(body);
        let answer = self.ask_once(Route::Create, call).await;
        self.listing.forget();
        self.known.forget(&order.offer);
        match answer {
            Ok(answer) => outcome(&answer),
            Err(Lost {
                why,
                may_have_arrived: false,
            }) => Created::Refused(why),
            Err(Lost { why, .. }) => Created::Ambiguous { why, id: None },
        }
    }
}

/// What is sent. What would be refused, or would mean something else than it says, is refused here.
fn body(order: &Order) -> Result<Value, MarketFault> {
    let refuse = |why: String| Err(MarketFault::Refused(why));
    let too_long = |what: &str, text: &str, bytes_max: usize| {
        (text.len() > bytes_max).then(|| format!("{what} has more than {bytes_max} bytes"))
    };
    let on_start = order.on_start.as_deref().unwrap_or_default();
    let limits = [
        too_long("the label", &order.label, LABEL_BYTES_MAX),
        too_long("the image's name", &order.image, IMAGE_BYTES_MAX),
        too_long("the script for the start", on_start, ON_START_BYTES_MAX),
    ];
    if let Some(why) = limits.into_iter().flatten().next() {
        return refuse(why);
    }
    let mut env = Map::new();
    for (name, value) in order.env.iter().chain(&order.secrets) {
        // A key that begins with a hyphen would be an option for the container's start.
        if !is_variable(name) {
            return refuse(format!("{:?} is no name of a variable", MarketFault::words(name)));
        }
        env.insert(name.clone(), json!(value));
    }
    for port in &order.ports {
        env.insert(format!("-p {port}:{port}"), json!("1"));
    }
    // A price would make it interruptible; without `cancel_unavail` it might start, and cost, later.
    let mut body = json!({
        "client_id": "me",
        "image": order.image,
        "disk": order.disk_gb.max(DISK_GB_MIN),
        "label": order.label,
        "env": env,
        "target_state": "running",
        "cancel_unavail": true,
        // Only where one can log in is a script run at the start; else the image does what it is made for.
        "runtype": if order.on_start.is_some() { "ssh_direct" } else { "args" },
    });
    if let Some(script) = &order.on_start {
        body["onstart"] = json!(script);
    }
    Ok(body)
}

fn is_variable(name: &str) -> bool {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// Pure: what an answer to a create means.
fn outcome(answer: &Answer) -> Created {
    let status = answer.status;
    let ambiguous = |why: MarketFault, id: Option<String>| Created::Ambiguous { why, id };
    let nonsense = |why: &str| MarketFault::Broken(format!("{} {why}", status.as_u16()));
    let body = answer.json().filter(Value::is_object);
    let id = body.as_ref().and_then(|body| wire::unsigned(body, "new_contract"));
    let id = id.filter(|id| *id > 0).map(|id| id.to_string());
    let says = |truth| {
        body.as_ref()
            .is_some_and(|body| body.get("success") == Some(&Value::Bool(truth)))
    };
    match (&body, id) {
        (Some(_), Some(id)) if status.is_success() && says(true) => Created::Confirmed { id },
        // An error that names an instance has made it.
        (Some(body), Some(id)) => ambiguous(refusal(body), Some(id)),
        _ if status.as_u16() == 429 => Created::Refused(limited(answer.retry_after().unwrap_or(PENALTY))),
        (Some(body), None) if is_definite(status.as_u16()) => {
            let name = wire::text(body, "error").unwrap_or_default();
            Created::Refused(match refusal(body) {
                MarketFault::Refused(words) if is_locked_out(status, name, Some(body)) => MarketFault::LockedOut(words),
                fault => fault,
            })
        }
        (Some(body), None) if status.is_success() && says(false) => Created::Refused(refusal(body)),
        (Some(_), None) => ambiguous(nonsense("without the id of an instance"), None),
        (None, None) if answer.body.is_empty() => ambiguous(nonsense("without a body"), None),
        (None, _) => ambiguous(nonsense(&answer.words()), None),
    }
}

/// For asking too often, where it does not say.
const PENALTY: Duration = Duration::from_secs(12);

/// An error of whoever asked, in JSON, is a no. That a request took too long is not.
fn is_definite(status: u16) -> bool {
    (400..500).contains(&status) && status != 408
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use std::collections::BTreeMap;

    fn order() -> Order {
        Order {
            offer: "21874411".to_owned(),
            label: "fb:acme:01JD3ZK7XW5Q".to_owned(),
            image: "vllm/vllm-openai:v0.11.0".to_owned(),
            disk_gb: 50,
            env: BTreeMap::from([("MODEL".to_owned(), "Qwen/Qwen3-8B".to_owned())]),
            secrets: BTreeMap::from([("FOREBAY_TOKEN".to_owned(), "s3cret".to_owned())]),
            ports: vec![8_000],
            on_start: None,
            hours: 1,
        }
    }

    #[test]
    fn an_order_says_what_was_ordered_and_no_more() {
        assert_eq!(
            body(&order()).unwrap(),
            json!({
                "client_id": "me", "image": "vllm/vllm-openai:v0.11.0", "disk": 50, "label": "fb:acme:01JD3ZK7XW5Q",
                "env": { "MODEL": "Qwen/Qwen3-8B", "FOREBAY_TOKEN": "s3cret", "-p 8000:8000": "1" },
                "target_state": "running", "cancel_unavail": true, "runtype": "args",
            })
        );
        let scripted = Order {
            on_start: Some("echo hello".to_owned()),
            disk_gb: 1,
            ..order()
        };
        let scripted = body(&scripted).unwrap();
        assert_eq!(scripted["runtype"], "ssh_direct");
        assert_eq!(scripted["onstart"], "echo hello");
        assert_eq!(scripted["disk"], 8);
    }

    #[test]
    fn an_order_that_would_mean_something_else_is_not_sent() {
        for name in ["-v /:/host", "--privileged", "A B", "1A", ""] {
            let env = BTreeMap::from([(name.to_owned(), String::new())]);
            assert!(
                matches!(body(&Order { env, ..order() }), Err(MarketFault::Refused(_))),
                "{name}"
            );
        }
        let on_start = Some("x".repeat(ON_START_BYTES_MAX + 1));
        assert!(matches!(
            body(&Order { on_start, ..order() }),
            Err(MarketFault::Refused(_))
        ));
    }

    #[test]
    fn every_answer_to_a_create_means_one_thing() {
        let made = |status: u16, body: &str| {
            outcome(&Answer {
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::new(),
                body: Bytes::from(body.to_owned()),
            })
        };
        let confirmed = made(200, r#"{"success":true,"new_contract":7}"#);
        assert_eq!(confirmed, Created::Confirmed { id: "7".to_owned() });
        for (status, body, id) in [
            (400, r#"{"success":false,"error":"x","new_contract":7}"#, Some("7")),
            (500, r#"{"success":true,"new_contract":7}"#, Some("7")),
            (429, r#"{"error":"x","new_contract":7}"#, Some("7")),
            (200, r#"{"success":false,"new_contract":7}"#, Some("7")),
            (200, r#"{"new_contract":7}"#, Some("7")),
            (200, r#"{"success":true}"#, None),
            (200, r#"{"success":true,"new_contract":0}"#, None),
            (200, r#"{"success":true,"new_contract":null}"#, None),
            (200, "", None),
            (200, "<html>", None),
            (200, "[]", None),
            (204, "", None),
            (308, "", None),
            (400, "<html>", None),
            (404, "", None),
            (408, r#"{"error":"timeout"}"#, None),
            (500, r#"{"error":"no_such_ask"}"#, None),
            (502, "<html>", None),
            (503, "", None),
        ] {
            let Created::Ambiguous { id: found, .. } = made(status, body) else {
                panic!("{status} {body} is not ambiguous");
            };
            assert_eq!(found.as_deref(), id, "{status} {body}");
        }
        for (status, body, kind) in [
            (400, r#"{"success":false,"error":"no_such_ask","msg":"x"}"#, "OfferGone"),
            (
                404,
                r#"{"success":false,"error":"invalid_args","msg":"error 404/3603: no_such_ask"}"#,
                "OfferGone",
            ),
            (410, r#"{"success":false,"error":"no_such_ask","msg":"x"}"#, "OfferGone"),
            (400, r#"{"error":"insufficient_credit"}"#, "NoCredit"),
            (400, r#"{"success":false,"error":"invalid_args","msg":"x"}"#, "Refused"),
            (
                404,
                r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#,
                "LockedOut",
            ),
            (401, r#"{"msg":"no"}"#, "LockedOut"),
            (200, r#"{"success":false,"msg":"suspended"}"#, "Refused"),
            (429, "API requests too frequent: endpoint threshold=4.5", "RateLimited"),
        ] {
            let Created::Refused(fault) = made(status, body) else {
                panic!("{status} {body} is not refused");
            };
            assert!(format!("{fault:?}").starts_with(kind), "{status} {body}: {fault:?}");
        }
    }
}
