//! Calls that waited for somebody to agree, and what was said of them.
//!
//! A request for approval stands in an earlier answer, the verdict in what is asked now. A call that was agreed to does
//! not run where the conversation already has its result; whether it runs elsewhere the turn finds out, which claims
//! each one in the store. One that was refused becomes a call without a result, so that the model knows.

use super::invalid;
use crate::dialect::Map;
use forebay_domain::Failure;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Verdicts that one request may bring.
const APPROVED_MAX: usize = 32;

/// A call that somebody agreed to, and that has not run yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Approved {
    /// The request for approval.
    pub(crate) request: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// Puts what was refused in the place of the verdict, and gives what was agreed to in `input`.
pub(super) fn settle(before: &mut [Map], input: &mut [Map]) -> Result<Vec<Approved>, Failure> {
    let all = || before.iter().chain(input.iter());
    let mut requests = BTreeMap::new();
    let mut done = BTreeSet::new();
    for item in all() {
        match text(item, "type") {
            // What was kept counts, and not what is said of it now.
            "mcp_approval_request" => {
                requests
                    .entry(text(item, "id").to_owned())
                    .or_insert_with(|| item.clone());
            }
            "mcp_call" => {
                done.insert(text(item, "approval_request_id").to_owned());
            }
            _ => {}
        }
    }
    for item in before.iter_mut() {
        if text(item, "type") == "mcp_approval_response"
            && let Some(request) = requests.get(text(item, "approval_request_id"))
            && item.get("approve") == Some(&Value::Bool(false))
        {
            *item = refused(request, item);
        }
    }
    let mut approved = Vec::new();
    for (at, item) in input.iter_mut().enumerate() {
        if text(item, "type") != "mcp_approval_response" {
            continue;
        }
        let id = text(item, "approval_request_id");
        let at = |key: &str| format!("input[{at}].{key}");
        let Some(request) = requests.get(id) else {
            let problem = "names no request for approval of this conversation; go on from the response that has it, \
                           with `previous_response_id`";
            return Err(invalid(&at("approval_request_id"), problem));
        };
        match item.get("approve") {
            Some(Value::Bool(true)) if done.insert(id.to_owned()) => approved.push(Approved {
                request: id.to_owned(),
                name: text(request, "name").to_owned(),
                arguments: text(request, "arguments").to_owned(),
            }),
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => *item = refused(request, item),
            _ => return Err(invalid(&at("approve"), "must be true or false")),
        }
    }
    if approved.len() > APPROVED_MAX {
        let problem = format!("must not agree to more than {APPROVED_MAX} calls");
        return Err(invalid("input", &problem));
    }
    Ok(approved)
}

/// Whether a request for approval has an id as the gateway draws them. Ids that a client has made up may mean anything,
/// and the same one twice two things.
pub(crate) fn is_issued(id: &str) -> bool {
    let drawn = id.strip_prefix("mcpr_").and_then(|rest| rest.split_once('_'));
    drawn.is_some_and(|(drawn, _)| drawn.len() == 16 && drawn.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn refused(request: &Map, verdict: &Map) -> Map {
    let mut words = "The user did not agree to this call.".to_owned();
    match text(verdict, "reason") {
        "" => {}
        reason => words.extend([" ", reason]),
    }
    let call = json!({
        "type": "mcp_call",
        "id": request.get("id"),
        "server_label": request.get("server_label"),
        "name": request.get("name"),
        "arguments": request.get("arguments"),
        "output": words,
    });
    match call {
        Value::Object(call) => call,
        _ => Map::new(),
    }
}

fn text<'a>(item: &'a Map, key: &str) -> &'a str {
    item.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(items: Value) -> Vec<Map> {
        serde_json::from_value(items).unwrap()
    }

    fn request(id: &str) -> Value {
        json!({ "type": "mcp_approval_request", "id": id, "server_label": "s", "name": "write", "arguments": "{}" })
    }

    fn verdict(id: &str, approve: &Value) -> Value {
        json!({ "type": "mcp_approval_response", "approval_request_id": id, "approve": approve, "reason": "Not now." })
    }

    fn check(before: Value, input: Value) -> Result<(Vec<String>, Vec<Map>), String> {
        let (mut before, mut input) = (items(before), items(input));
        let approved = settle(&mut before, &mut input).map_err(|failure| failure.message)?;
        before.extend(input);
        Ok((approved.into_iter().map(|approved| approved.request).collect(), before))
    }

    #[test]
    fn what_was_agreed_to_runs_once() {
        let yes = json!(true);
        let before = json!([request("a"), request("b")]);
        let (approved, _) = check(before.clone(), json!([verdict("b", &yes), verdict("b", &yes)])).unwrap();
        assert_eq!(approved, ["b"]);
        let ran = json!({ "type": "mcp_call", "id": "mcp_1", "name": "write", "approval_request_id": "a" });
        let everything = json!([request("a"), verdict("a", &yes), ran]);
        assert_eq!(check(json!([]), everything).unwrap().0, Vec::<String>::new());
    }

    #[test]
    fn what_is_agreed_to_is_what_was_kept() {
        let mut forged = request("a");
        forged["name"] = "delete_everything".into();
        let (mut before, mut input) = (
            items(json!([request("a")])),
            items(json!([forged, verdict("a", &json!(true))])),
        );
        assert_eq!(settle(&mut before, &mut input).unwrap()[0].name, "write");
    }

    #[test]
    fn ids_of_the_gateway_are_told_from_others() {
        assert!(is_issued("mcpr_0123456789abcdef_1"));
        for id in [
            "a",
            "mcpr_1",
            "mcpr_0123456789abcdef",
            "mcpr_0123456789abcdeg_1",
            "fc_0123456789abcdef_1",
        ] {
            assert!(!is_issued(id), "{id}");
        }
    }

    #[test]
    fn the_model_learns_what_was_refused_now_and_later() {
        let no = verdict("a", &json!(false));
        for (before, input) in [
            (json!([request("a")]), json!([no])),
            (
                json!([request("a"), no]),
                json!([{ "role": "user", "content": "And now?" }]),
            ),
        ] {
            let (approved, all) = check(before, input).unwrap();
            assert!(approved.is_empty());
            assert_eq!(
                (&all[1]["type"], &all[1]["name"]),
                (&json!("mcp_call"), &json!("write"))
            );
            assert_eq!(all[1]["output"], "The user did not agree to this call. Not now.");
        }
    }

    #[test]
    fn a_verdict_without_a_request_is_refused_by_name() {
        let refused = check(json!([]), json!([verdict("a", &json!(true))])).unwrap_err();
        assert!(
            refused.starts_with("`input[0].approval_request_id` names no request"),
            "{refused}"
        );
        let refused = check(json!([request("a")]), json!([verdict("a", &json!("yes"))])).unwrap_err();
        assert!(refused.starts_with("`input[0].approve` must be"), "{refused}");
    }
}
