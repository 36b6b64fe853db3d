//! What becomes an alert: news of the ledger, in words.

use super::{Alert, Alerts, Kind};
use forebay_domain::ledger::Overrun;
use forebay_runtime::Tasks;
use forebay_store::ledger::{Lapse, LedgerNews};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};

impl Alerts {
    /// Listens from now on, until everything drains.
    pub(crate) fn feed(&self, tasks: &Tasks, mut ledger: Receiver<LedgerNews>) {
        let alerts = self.clone();
        tasks.spawn("alerts.ledger", |stop| async move {
            loop {
                let news = tokio::select! {
                    news = ledger.recv() => news,
                    () = stop.draining() => return,
                };
                match news {
                    Ok(news) => alerts.raise(of_ledger(&news)).await,
                    Err(RecvError::Lagged(missed)) => alerts.missed(missed),
                    Err(RecvError::Closed) => return,
                }
            }
        });
    }

    /// A storm of news: of what it was about, the rest has been told, or is about to be.
    pub(super) fn missed(&self, missed: u64) {
        self.0.metrics.missed.inc_by(missed);
        tracing::warn!(missed, "news came faster than alerts could be told");
    }
}

fn of_ledger(news: &LedgerNews) -> Alert {
    match news {
        LedgerNews::SoftLimit(overrun) => of_limit(Kind::SoftLimit, overrun),
        LedgerNews::Refused(overrun) => of_limit(Kind::Refused, overrun),
        LedgerNews::Lapsed(lapse) => of_lapse(lapse),
    }
}

fn of_limit(kind: Kind, overrun: &Overrun) -> Alert {
    let standing = &overrun.standing;
    Alert {
        kind,
        tenant: Some(standing.purse.tenant.clone()),
        thing: format!("{} in {} minutes", standing.purse, standing.window.minutes),
        words: overrun.to_string(),
        details: details(overrun),
    }
}

pub(super) fn details(overrun: &Overrun) -> Map<String, Value> {
    let standing = &overrun.standing;
    object(json!({
        "scope": standing.purse.scope,
        "id": standing.purse.id,
        "window_minutes": standing.window.minutes,
        "limit_usd": standing.window.limit,
        "posted_usd": standing.posted,
        "held_usd": standing.held,
        "requested_usd": overrun.requested(),
        "reason": overrun.reason,
    }))
}

fn of_lapse(lapse: &Lapse) -> Alert {
    let Lapse {
        hold,
        payer,
        purpose,
        posted,
    } = lapse;
    Alert {
        kind: Kind::Lapsed,
        tenant: Some(payer.tenant.clone()),
        thing: hold.to_string(),
        words: format!("nobody said in time what {purpose} came to, so ${posted} that were held for it count as spent"),
        details: object(json!({"hold_id": hold, "purpose": purpose.kind, "name": purpose.name, "posted_usd": posted})),
    }
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
