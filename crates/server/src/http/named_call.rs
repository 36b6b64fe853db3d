//! `Idempotency-Key` before a tool call: the tool itself heeds the key, so it becomes one of the tool's arguments.
//!
//! An answer over MCP is not kept as those of the other routes are. So the key is refused wherever no tool would take it:
//! a client that sends one relies on it.

use crate::{door::named::sent_name, gpu};
use bytes::Bytes;
use forebay_domain::{Code, Failure, json::check_strict};
use http::HeaderMap;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;

/// The argument that such tools have.
const ARGUMENT: &str = "idempotency_key";

/// An object whose members stay as they were written.
type Members = BTreeMap<String, Box<RawValue>>;

/// The message, with the key of its header among the arguments.
pub(super) fn read(headers: &HeaderMap, message: Bytes) -> Result<Bytes, Failure> {
    let Some(key) = sent_name(headers)? else {
        return Ok(message);
    };
    // What is not even JSON is refused by whoever reads it next.
    if check_strict(&message).is_err() {
        return Ok(message);
    }
    let mut whole: Members = serde_json::from_slice(&message).map_err(|_| unheeded())?;
    if member::<String>(&whole, "method").as_deref() != Some("tools/call") {
        return Err(unheeded());
    }
    let mut params: Members = member(&whole, "params").ok_or_else(unheeded)?;
    let takes = member::<String>(&params, "name").is_some_and(|tool| gpu::takes(&tool, ARGUMENT));
    if !takes {
        return Err(unheeded());
    }
    let mut arguments: Members = match params.get("arguments") {
        None => Members::new(),
        Some(_) => member(&params, "arguments").ok_or_else(unheeded)?,
    };
    if let Some(other) = arguments.get(ARGUMENT)
        && member::<String>(&arguments, ARGUMENT).as_deref() != Some(&key)
    {
        let message = format!("`Idempotency-Key` says one thing, and the argument `{ARGUMENT}` says {other}.");
        return Err(Failure::new(Code::HeaderMismatch, message).hint("Send one of the two, or the same twice."));
    }
    arguments.insert(ARGUMENT.to_owned(), raw(&key)?);
    params.insert("arguments".to_owned(), raw(&arguments)?);
    whole.insert("params".to_owned(), raw(&params)?);
    Ok(Bytes::from(raw(&whole)?.get().to_owned()))
}

fn member<T: serde::de::DeserializeOwned>(object: &Members, name: &str) -> Option<T> {
    serde_json::from_str(object.get(name)?.get()).ok()
}

fn raw<T: serde::Serialize>(value: &T) -> Result<Box<RawValue>, Failure> {
    to_raw_value(value)
        .map_err(|fault| Failure::new(Code::InternalError, "The message cannot be written anew.").caused_by(fault))
}

fn unheeded() -> Failure {
    Failure::new(
        Code::InvalidRequest,
        "`Idempotency-Key` is heeded here only with a call of a tool that has the argument `idempotency_key`.",
    )
    .hint("Leave the header away, or send one call of `create_gpu_instance`.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read_with(key: &str, message: &str) -> Result<String, Code> {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", key.parse().unwrap());
        let read = read(&headers, Bytes::from(message.to_owned()));
        read.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
            .map_err(|failure| failure.code)
    }

    fn call(tool: &str, arguments: &str) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
        )
    }

    #[test]
    fn the_key_becomes_an_argument_and_the_rest_stays_as_it_was() {
        let sent = call("create_gpu_instance", r#"{"max_hourly_usd":0.10000000000000000001}"#);
        let read = read_with("k1", &sent).unwrap();
        assert!(read.contains("0.10000000000000000001"), "{read}");
        let read: Value = serde_json::from_str(&read).unwrap();
        assert_eq!(read["params"]["arguments"]["idempotency_key"], "k1");
        assert_eq!((&read["id"], &read["method"]), (&json!(1), &json!("tools/call")));
        let alone = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create_gpu_instance"}}"#;
        assert!(read_with("k1", alone).unwrap().contains(r#""idempotency_key":"k1""#));
        let same = call("create_gpu_instance", r#"{"idempotency_key":"k1"}"#);
        assert!(read_with("k1", &same).is_ok());
        assert_eq!(read_with("k2", &same), Err(Code::HeaderMismatch));
        // Without the header nothing is looked at.
        let bytes = Bytes::from_static(b"nonsense");
        assert_eq!(super::read(&HeaderMap::new(), bytes.clone()).unwrap(), bytes);
    }

    #[test]
    fn where_nobody_would_heed_it_it_is_refused() {
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.to_owned();
        let batch = format!("[{}]", call("create_gpu_instance", "{}"));
        for message in [call("destroy_gpu_instance", "{}"), call("nobodys", "{}"), list, batch] {
            assert_eq!(read_with("k", &message), Err(Code::InvalidRequest), "{message}");
        }
        assert_eq!(
            read_with("", &call("create_gpu_instance", "{}")),
            Err(Code::InvalidRequest)
        );
    }
}
