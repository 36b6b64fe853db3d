//! What an answer of io.net means: what was done, what was not, and what nobody knows. Pure.

use super::shape;
use crate::market::{
    Created, Destroyed, MarketFault, names,
    said::{self, is_about_credit, mentions},
    wire::Answer,
};
use serde_json::Value;

/// What FastAPI says of a path that it does not know: of a route that is no more, not of a deployment.
const NO_SUCH_ROUTE: &str = "Not Found";

/// An id that may stand in a path, or the reason why none is asked for.
pub(super) fn id(id: &str) -> Result<&str, MarketFault> {
    let broken = || MarketFault::Broken(MarketFault::words(&format!("{id:?} is no id of a deployment")));
    names::is_id(id).then_some(id).ok_or_else(broken)
}

/// Its own words: a sentence, or what is wrong with each field.
fn words(answer: &Answer) -> Option<String> {
    let json = answer.json()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let said = match json.get("detail") {
        Some(Value::Array(faults)) => {
            let one = |fault: &Value| {
                let at = fault.get("loc").and_then(Value::as_array);
                let at = at
                    .into_iter()
                    .flatten()
                    .map(|part| text(part).unwrap_or_else(|| part.to_string()));
                let at = at.collect::<Vec<_>>().join(".");
                Some(format!("{at}: {}", text(fault.get("msg")?)?))
            };
            Some(faults.iter().filter_map(one).collect::<Vec<_>>().join("; "))
        }
        detail => detail
            .or_else(|| json.get("message"))
            .or_else(|| json.get("error"))
            .and_then(text),
    };
    said.filter(|said| !said.is_empty())
        .map(|said| MarketFault::words(&said))
}

/// Whether it is io.net's own word on what was asked for, and not that of a proxy or of a path that is no more.
pub(super) fn says_something(answer: &Answer) -> bool {
    words(answer).is_some_and(|said| said != NO_SUCH_ROUTE)
}

/// Whether it says that there is no room, which it words as an error of the request.
pub(super) fn is_no_room(answer: &Answer) -> bool {
    let is_no = matches!(answer.status.as_u16(), 400 | 404 | 409 | 410 | 422);
    let said = words(answer).unwrap_or_default();
    is_no && (mentions(&said, &["replica", "available", "capacity"]) || mentions(&said, &["hardware not found"]))
}

/// Why it did not do what it was asked.
pub(super) fn fault(answer: &Answer) -> MarketFault {
    let own = words(answer);
    match said::fault(answer, own.clone()) {
        MarketFault::Refused(_) | MarketFault::Broken(_) if is_no_room(answer) => {
            MarketFault::OfferGone(own.unwrap_or_default())
        }
        other => other,
    }
}

/// What became of an order.
pub(super) fn created(answer: &Answer) -> Created {
    // Wherever its several specifications put it.
    let id = said::id_at(answer, &["/deployment_id", "/data/deployment_id", "/data/id", "/id"]);
    if !answer.status.is_success() {
        return said::not_accepted(answer, fault(answer), id);
    }
    let json = answer.json().unwrap_or_default();
    let status = json.get("status").and_then(Value::as_str).unwrap_or_default();
    let why = match status.trim().to_ascii_lowercase().as_str() {
        status if is_about_credit(status) => Some(MarketFault::NoCredit(status.to_owned())),
        "failed" | "error" | "rejected" => Some(MarketFault::Broken(format!("it says {status:?}"))),
        _ => None,
    };
    match (id, why) {
        (Some(id), None) => Created::Confirmed { id },
        (None, Some(why @ MarketFault::NoCredit(_))) => Created::Refused(why),
        (id, why) => Created::Ambiguous {
            why: why.unwrap_or_else(|| MarketFault::Broken("it accepts, and names no deployment".to_owned())),
            id,
        },
    }
}

/// What became of a wish to end one, where it was not refused.
pub(super) fn destroyed(answer: &Answer) -> Result<Destroyed, MarketFault> {
    let json = shape::unwrapped(&answer.body)?;
    match json.get("status").and_then(Value::as_str) {
        Some(_) => Ok(Destroyed::Accepted),
        None => Err(MarketFault::Broken("an answer without a status".to_owned())),
    }
}

/// Whether hours were bought.
pub(super) fn extended(answer: &Answer) -> Result<(), MarketFault> {
    if !answer.status.is_success() {
        return Err(fault(answer));
    }
    let json = shape::unwrapped(&answer.body)?;
    match json.get("status").and_then(Value::as_str) {
        Some(status) if is_about_credit(status) => Err(MarketFault::NoCredit(status.to_owned())),
        Some(_) => Ok(()),
        None => Err(MarketFault::Broken("an answer without a status".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::said::tests::{answer, meaning};
    use proptest::prelude::*;

    #[test]
    fn each_answer_to_an_order_means_one_thing() {
        for (status, body, expected) in [
            (
                200,
                r#"{"status":"deployment requested","deployment_id":"a-1"}"#,
                "confirmed a-1",
            ),
            (200, r#"{"data":{"id":"a-1"}}"#, "confirmed a-1"),
            (200, r#"{"status":"deployment requested"}"#, "ambiguous"),
            (200, r#"{"deployment_id":"../x"}"#, "ambiguous"),
            (200, "", "ambiguous"),
            (200, "<html>", "ambiguous"),
            (200, r#"{"status":"payment_required"}"#, "refused"),
            (
                200,
                r#"{"status":"payment_required","deployment_id":"a-1"}"#,
                "ambiguous a-1",
            ),
            (200, r#"{"status":"failed","deployment_id":"a-1"}"#, "ambiguous a-1"),
            (302, "", "ambiguous"),
            (400, r#"{"detail":"No available replicas"}"#, "refused"),
            (400, "<html>", "ambiguous"),
            (401, "", "refused"),
            (402, "", "refused"),
            (403, r#"{"detail":"x","deployment_id":"a-1"}"#, "ambiguous a-1"),
            (404, r#"{"detail":"Hardware not found"}"#, "refused"),
            (404, r#"{"detail":"Not Found"}"#, "ambiguous"),
            (408, r#"{"detail":"timed out"}"#, "ambiguous"),
            (
                422,
                r#"{"detail":[{"loc":["body","image"],"msg":"Extra inputs"}]}"#,
                "refused",
            ),
            (429, "", "refused"),
            (
                500,
                r#"{"detail":"Internal error","deployment_id":"a-1"}"#,
                "ambiguous a-1",
            ),
            (502, "<html>", "ambiguous"),
        ] {
            let told = meaning(created(&answer(status, body)));
            let is_it = told == expected || (expected == "refused" && told.starts_with("refused"));
            assert!(is_it, "{status} {body}: {told}");
        }
    }

    #[test]
    fn faults_are_told_apart() {
        let kind = |status, body| fault(&answer(status, body));
        assert!(matches!(kind(401, "{}"), MarketFault::LockedOut(_)));
        assert!(matches!(
            kind(403, r#"{"detail":"Insufficient IO credits balance"}"#),
            MarketFault::NoCredit(_)
        ));
        assert!(matches!(
            kind(404, r#"{"detail":"Deployment not found"}"#),
            MarketFault::Broken(_)
        ));
        assert!(matches!(
            kind(400, r#"{"detail":"No available replicas"}"#),
            MarketFault::OfferGone(_)
        ));
        assert!(matches!(
            kind(503, r#"{"detail":"no available replicas"}"#),
            MarketFault::Broken(_)
        ));
        let said = kind(422, r#"{"detail":[{"loc":["body","hours",0],"msg":"Field required"}]}"#);
        assert_eq!(said, MarketFault::Refused("body.hours.0: Field required".to_owned()));
    }

    #[test]
    fn only_its_own_word_ends_or_extends_anything() {
        assert_eq!(destroyed(&answer(200, r#"{"status":"x"}"#)), Ok(Destroyed::Accepted));
        for body in ["", "<html>", "[]", "{}", "null", r#"{"status":1}"#] {
            assert!(destroyed(&answer(200, body)).is_err(), "{body}");
            assert!(extended(&answer(200, body)).is_err(), "{body}");
        }
        assert_eq!(extended(&answer(200, r#"{"data":{"status":"running"}}"#)), Ok(()));
        let unpaid = extended(&answer(200, r#"{"status":"payment_required"}"#));
        assert!(matches!(unpaid, Err(MarketFault::NoCredit(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_machine(status in 200_u16..600, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let answer = answer(status, body);
            let is_confirmed = matches!(created(&answer), Created::Confirmed { .. });
            prop_assert!(!is_confirmed || answer.json().is_some());
            let _ = (fault(&answer), destroyed(&answer), extended(&answer), is_no_room(&answer));
        }
    }
}
