//! What words of a provider mean: amounts, times, credit that is lacking, and whether a no is a no.

use super::{Created, MarketFault, names, wire::Answer};
use forebay_domain::money::Usd;
use http::StatusCode;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::Value;

/// An amount that is none below zero.
pub(super) fn amount(value: &Value) -> Option<Usd> {
    serde_json::from_value(value.clone())
        .ok()
        .filter(|amount: &Usd| !amount.is_negative())
}

/// A time in RFC 3339; without a zone it is UTC, which is what Python's services leave out.
pub(super) fn time(text: Option<&str>) -> Option<Timestamp> {
    let text = text?.trim();
    let zoned = text.parse().ok();
    zoned.or_else(|| {
        text.parse::<DateTime>()
            .ok()?
            .to_zoned(TimeZone::UTC)
            .ok()
            .map(|time| time.timestamp())
    })
}

/// Whether any of these stands in it, in whatever case.
pub(super) fn mentions(text: &str, words: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    words.iter().any(|word| text.contains(word))
}

pub(super) fn is_about_credit(text: &str) -> bool {
    let lacks = mentions(text, &["insufficient", "not enough", "too little", "too low", "out of"]);
    mentions(text, &["payment_required", "payment required"])
        || (lacks && mentions(text, &["credit", "balance", "fund"]))
}

/// Whether nothing was made for certain: whoever is not let in, has no money or asks too often was stopped before; else
/// it takes the provider's own word, and the status of a refusal.
pub(super) fn is_definite(status: StatusCode, why: &MarketFault) -> bool {
    match why {
        MarketFault::LockedOut(_)
        | MarketFault::RateLimited { .. }
        | MarketFault::NoCredit(_)
        | MarketFault::OfferGone(_)
        | MarketFault::Refused(_) => status.is_client_error(),
        MarketFault::Broken(_) | MarketFault::Unreachable(_) | MarketFault::Unsupported(_) => false,
    }
}

/// Why it did not do what it was asked; `own` is what it said in words of its own, and not in those of a proxy.
pub(super) fn fault(answer: &Answer, own: Option<String>) -> MarketFault {
    let status = answer.status;
    let is_refusal = own.is_some() && status.is_client_error() && !matches!(status.as_u16(), 404 | 408);
    let text = own.unwrap_or_else(|| answer.words());
    match status.as_u16() {
        429 => MarketFault::RateLimited {
            retry_after: answer.retry_after(),
        },
        402 => MarketFault::NoCredit(text),
        _ if status.is_client_error() && is_about_credit(&text) => MarketFault::NoCredit(text),
        401 | 403 => MarketFault::LockedOut(text),
        _ if is_refusal => MarketFault::Refused(text),
        _ => MarketFault::Broken(format!("{status}: {text}")),
    }
}

/// What became of an order that was not accepted: where an id is named, that may be there all the same.
pub(super) fn not_accepted(answer: &Answer, why: MarketFault, id: Option<String>) -> Created {
    match id {
        None if is_definite(answer.status, &why) => Created::Refused(why),
        id => Created::Ambiguous { why, id },
    }
}

/// The first id that stands at one of these places.
pub(super) fn id_at(answer: &Answer, places: &[&str]) -> Option<String> {
    let json = answer.json()?;
    let mut ids = places.iter().filter_map(|place| json.pointer(place)?.as_str());
    ids.find(|id| names::is_id(id)).map(str::to_owned)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use http::HeaderMap;

    pub(in crate::market) fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        let body: Vec<u8> = body.into();
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.into(),
        }
    }

    /// What an order became, in words.
    pub(in crate::market) fn meaning(created: Created) -> String {
        match created {
            Created::Confirmed { id } => format!("confirmed {id}"),
            Created::Refused(why) => format!("refused: {why}"),
            Created::Ambiguous { id: None, .. } => "ambiguous".to_owned(),
            Created::Ambiguous { id: Some(id), .. } => format!("ambiguous {id}"),
        }
    }
}
