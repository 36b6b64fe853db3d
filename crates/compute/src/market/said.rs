//! What words of a provider mean: amounts, times, credit that is lacking, and whether a no is a no.

use super::MarketFault;
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
