//! What an answer of RunPod means: what was done, what was not, and what nobody knows. Pure.

use crate::market::{
    Created, Destroyed, MarketFault, names,
    said::{self, mentions},
    wire::Answer,
};
use http::StatusCode;
use serde_json::Value;

/// How it words that nobody has such a machine free.
const NO_ROOM: [&str; 7] = [
    "no longer any instances",
    "no instances",
    "no available",
    "not available",
    "unavailable",
    "out of stock",
    "capacity",
];

/// An id that may stand in a path, or the reason why none is asked for.
pub(super) fn id(id: &str) -> Result<&str, MarketFault> {
    let broken = || MarketFault::Broken(MarketFault::words(&format!("{id:?} is no id of a pod")));
    names::is_id(id).then_some(id).ok_or_else(broken)
}

/// A problem in the sense of RFC 9457, about this answer: what a proxy says is none.
fn problem(answer: &Answer) -> Option<Value> {
    let json = answer.json()?;
    let says = |key: &str| json.get(key).is_some_and(Value::is_string);
    let status = json.get("status").and_then(Value::as_u64);
    let is_about_it = status.is_none_or(|status| status == u64::from(answer.status.as_u16()));
    ((says("title") || says("detail")) && is_about_it).then_some(json)
}

pub(super) fn is_problem(answer: &Answer) -> bool {
    problem(answer).is_some()
}

fn words(problem: &Value) -> String {
    let text = |key: &str| problem.get(key).and_then(Value::as_str);
    let errors = problem.get("errors").and_then(Value::as_array);
    let errors = errors.into_iter().flatten().filter_map(Value::as_str);
    let said: Vec<&str> = text("detail")
        .or_else(|| text("title"))
        .into_iter()
        .chain(errors)
        .collect();
    MarketFault::words(&said.join("; "))
}

/// Why it did not do what it was asked.
pub(super) fn fault(answer: &Answer) -> MarketFault {
    said::fault(answer, problem(answer).as_ref().map(words))
}

/// What became of an order.
pub(super) fn created(answer: &Answer) -> Created {
    let id = said::id_at(answer, &["/id", "/podId", "/pod/id"]);
    if !answer.status.is_success() {
        return said::not_accepted(answer, order_fault(answer), id);
    }
    let status = answer
        .json()
        .and_then(|json| Some(json.get("status")?.as_str()?.to_ascii_uppercase()));
    match (id, status.as_deref()) {
        (Some(id), Some("ERROR" | "TERMINATED")) => Created::Ambiguous {
            why: MarketFault::Broken("the pod failed at once".to_owned()),
            id: Some(id),
        },
        (Some(id), _) => Created::Confirmed { id },
        (None, _) => Created::Ambiguous {
            why: MarketFault::Broken("it accepts, and names no pod".to_owned()),
            id: None,
        },
    }
}

/// A kind of GPU that is not known, or that nobody has free, is an offer that is gone.
fn order_fault(answer: &Answer) -> MarketFault {
    match fault(answer) {
        MarketFault::Refused(text) if mentions(&text, &NO_ROOM) => MarketFault::OfferGone(text),
        MarketFault::Broken(text) if answer.status == StatusCode::NOT_FOUND && is_problem(answer) => {
            MarketFault::OfferGone(text)
        }
        other => other,
    }
}

/// What became of a wish to end one, where it was not refused.
pub(super) fn destroyed(answer: &Answer) -> Result<Destroyed, MarketFault> {
    if answer.body.is_empty() || answer.json().is_some_and(|json| json.is_object()) {
        return Ok(Destroyed::Accepted);
    }
    Err(MarketFault::Broken("a success that is none of its own".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::said::tests::{answer, meaning};
    use proptest::prelude::*;

    #[test]
    fn each_answer_to_an_order_means_one_thing() {
        for (status, body, expected) in [
            (201, r#"{"id":"p1","status":"PROVISIONING"}"#, "confirmed p1"),
            (200, r#"{"id":"p1"}"#, "confirmed p1"),
            (201, r#"{"id":"p1","status":"ERROR"}"#, "ambiguous p1"),
            (201, r#"{"id":"a/../b"}"#, "ambiguous"),
            (201, "", "ambiguous"),
            (200, "<html>", "ambiguous"),
            (307, "", "ambiguous"),
            (
                400,
                r#"{"title":"Bad Request","status":400,"detail":"x"}"#,
                "refused: the provider refuses",
            ),
            (400, r#"{"title":"Bad Request","status":502,"detail":"x"}"#, "ambiguous"),
            (400, "<html>", "ambiguous"),
            (
                400,
                r#"{"title":"t","detail":"There are no longer any instances available"}"#,
                "refused: the offer",
            ),
            (
                400,
                r#"{"title":"t","detail":"Your balance is too low"}"#,
                "refused: the account",
            ),
            (401, "", "refused: the provider does not let"),
            (
                403,
                r#"{"title":"Forbidden","status":403}"#,
                "refused: the provider does not let",
            ),
            (
                404,
                r#"{"title":"Not Found","status":404,"detail":"gpu"}"#,
                "refused: the offer",
            ),
            (404, "<html>", "ambiguous"),
            (408, r#"{"title":"Timeout","status":408}"#, "ambiguous"),
            (
                422,
                r#"{"title":"t","status":422,"errors":["name: x"]}"#,
                "refused: the provider refuses: t; name: x",
            ),
            (429, "", "refused: it is asked as often"),
            (500, r#"{"title":"Internal","status":500}"#, "ambiguous"),
            (500, r#"{"title":"Internal","status":500,"podId":"p1"}"#, "ambiguous p1"),
            (504, "", "ambiguous"),
        ] {
            let told = meaning(created(&answer(status, body)));
            let is_it = told == expected || (expected.starts_with("refused") && told.starts_with(expected));
            assert!(is_it, "{status} {body}: {told}");
        }
    }

    #[test]
    fn a_success_that_is_somebody_elses_ends_nothing() {
        assert_eq!(destroyed(&answer(204, "")), Ok(Destroyed::Accepted));
        assert_eq!(destroyed(&answer(200, r#"{"id":"p1"}"#)), Ok(Destroyed::Accepted));
        assert!(destroyed(&answer(200, "<html>")).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_pod(status in 200_u16..600, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let answer = answer(status, body);
            let is_confirmed = matches!(created(&answer), Created::Confirmed { .. });
            prop_assert!(!is_confirmed || answer.json().is_some());
            let _ = (fault(&answer), destroyed(&answer));
        }
    }
}
