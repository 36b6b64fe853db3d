//! What somebody may want to be told at once.

use forebay_domain::{
    id::HoldId,
    ledger::{Outcome, Overrun, Payer, Purpose, Refusal, Request},
    money::Usd,
};

/// News that may wait for whoever listens; the oldest go first.
pub(super) const NEWS_MAX: usize = 1_024;

/// What somebody may want to be told at once: it is committed, and nobody waits for them.
#[derive(Debug, Clone)]
pub enum LedgerNews {
    /// Something was let in beyond a soft limit.
    SoftLimit(Box<Overrun>),
    /// A hard limit refused something.
    Refused(Box<Overrun>),
    /// Nobody said in time what became of a hold, and all of it was posted.
    Lapsed(Box<Lapse>),
}

#[derive(Debug, Clone)]
pub struct Lapse {
    pub hold: HoldId,
    pub payer: Payer,
    pub purpose: Purpose,
    pub posted: Usd,
}

/// The news in what became of a request.
pub(super) fn news(request: &Request, became: &Result<Outcome, Refusal>) -> Vec<LedgerNews> {
    match became {
        Err(Refusal::Limit(overrun)) => vec![LedgerNews::Refused(overrun.clone())],
        Err(_) => Vec::new(),
        Ok(outcome) => {
            let soft = outcome.warnings.iter().cloned();
            let mut news: Vec<LedgerNews> = soft.map(|overrun| LedgerNews::SoftLimit(Box::new(overrun))).collect();
            if let (Request::Lapse { .. }, Some(hold), false) = (request, &outcome.hold, outcome.is_repeat) {
                news.push(LedgerNews::Lapsed(Box::new(Lapse {
                    hold: hold.id.clone(),
                    payer: hold.payer.clone(),
                    purpose: hold.purpose.clone(),
                    posted: outcome.posted,
                })));
            }
            news
        }
    }
}
