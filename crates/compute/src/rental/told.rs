//! What whoever wants a machine is told of it: the first time, and whenever they ask the same again.

use super::{
    body::{Refusal, Why},
    record::Record,
    types::{Done, Rental},
};
use crate::market::{Created, MarketFault};
use forebay_domain::{Code, Failure, market::Provider};
use forebay_store::rentals::RentalState;

/// What became of it once its provider has answered. What was written down counts, and not the answer: a look at the
/// provider, or another replica, may have been quicker.
pub(super) fn outcome(record: &Record, answer: &Created) -> Done<Rental> {
    match (record.row.state, answer) {
        (RentalState::Refused, Created::Refused(fault)) => Err(failure(record.provider, fault)),
        _ => again(record),
    }
}

/// What became of it, as far as it is written down.
pub(super) fn again(record: &Record) -> Done<Rental> {
    let provider = record.provider;
    if record.body.why == Some(Why::MadeInError) {
        let fault = record.body.fault.as_deref().unwrap_or("no reason was given");
        let message = format!("{provider} made a machine and said that it failed: {fault}");
        return Err(Failure::new(Code::UpstreamFailed, message)
            .hint("It is being destroyed. Take another offer.")
            .details(serde_json::json!({ "instance": record.id })));
    }
    if record.row.state != RentalState::Refused {
        return record.view();
    }
    let hint = "Nothing was rented. To try again use a new idempotency key, and a new quote where one is needed.";
    let refused = |code: Code, message: String| Err(Failure::new(code, message).hint(hint));
    if let Some(refusal) = &record.body.refusal {
        let mut codes = Code::ALL.iter().copied();
        let code = codes.find(|code| code.as_str() == refusal.code);
        return refused(code.unwrap_or(Code::Conflict), refusal.message.clone());
    }
    match record.body.why {
        Some(Why::NeverMade) => refused(
            Code::UpstreamFailed,
            format!("{provider} did not say whether it made the machine, and none was found"),
        ),
        why => {
            let why = why.map_or("it was given up", Why::as_str);
            refused(Code::Conflict, format!("the machine was never made: {why}"))
        }
    }
}

/// What the same wish has made before.
pub(super) fn same(earlier: &Record, request: &str) -> Done<Rental> {
    if earlier.body.request == request {
        return again(earlier);
    }
    Err(Failure::new(
        Code::Conflict,
        "this idempotency key, or this quote, has rented something else",
    )
    .hint("Use a new key, or a new quote, for another machine."))
}

/// What is kept of a refusal, so that it is one the next time too.
pub(super) fn kept(failure: &Failure) -> Refusal {
    Refusal {
        code: failure.code.as_str().to_owned(),
        message: failure.message.clone(),
    }
}

/// What a provider's refusal is to whoever asked.
pub(super) fn failure(provider: Provider, fault: &MarketFault) -> Failure {
    let message = format!("{provider}: {fault}");
    match fault {
        MarketFault::OfferGone(_) => {
            Failure::new(Code::UnknownOffer, message).hint("List offers and take another one.")
        }
        MarketFault::RateLimited { retry_after } => Failure {
            retry_after: *retry_after,
            ..Failure::new(Code::Overloaded, message)
        },
        MarketFault::Unsupported(_) => Failure::new(Code::InvalidArguments, message),
        MarketFault::LockedOut(_) => {
            Failure::new(Code::UpstreamFailed, message).hint("An operator has to look at the key under `markets:`.")
        }
        MarketFault::NoCredit(_) => {
            Failure::new(Code::UpstreamFailed, message).hint("The account at the provider has to be topped up.")
        }
        MarketFault::Unreachable(_) | MarketFault::Broken(_) | MarketFault::Refused(_) => {
            Failure::new(Code::UpstreamFailed, message)
        }
    }
}
