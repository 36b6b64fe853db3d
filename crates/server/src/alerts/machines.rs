//! What becomes an alert: news of rented machines, in words.

use super::{
    Alert, Alerts, Kind,
    feed::{details, object},
};
use forebay_compute::rental::{Rental, RentalNews, Why};
use forebay_domain::ledger::Overrun;
use forebay_runtime::Tasks;
use forebay_store::rentals::Desired;
use serde_json::json;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};

impl Alerts {
    /// Listens to rentals from now on, until everything drains.
    pub(crate) fn feed_machines(&self, tasks: &Tasks, mut rentals: Receiver<RentalNews>) {
        let alerts = self.clone();
        tasks.spawn("alerts.rentals", |stop| async move {
            loop {
                let news = tokio::select! {
                    news = rentals.recv() => news,
                    () = stop.draining() => return,
                };
                match news {
                    Ok(news) => {
                        if let Some(alert) = of_rentals(&news) {
                            alerts.raise(alert).await;
                        }
                    }
                    Err(RecvError::Lagged(missed)) => alerts.missed(missed),
                    Err(RecvError::Closed) => return,
                }
            }
        });
    }
}

/// What is told of rentals. That one begins or ends as it was asked to is no alert.
fn of_rentals(news: &RentalNews) -> Option<Alert> {
    match news {
        RentalNews::AmbiguousCreate(rental) => Some(of_rental(
            Kind::AmbiguousCreate,
            rental,
            if rental.why == Some(Why::MadeInError) {
                "its provider said that it failed, and that it made this; it is destroyed once it is seen, and what is held \
                 for it stays held until then"
            } else {
                "nobody knows whether it was made; it is being found out, and what is held for it stays held"
            },
        )),
        RentalNews::DestroyFailing {
            rental,
            failures,
            since,
        } => Some(of_rental(
            Kind::DestroyFailing,
            rental,
            &format!("it does not go away: {failures} attempts failed since {since}, and it goes on costing"),
        )),
        RentalNews::PriceRise { rental, to, at } => {
            let when = at.map_or_else(|| "now".to_owned(), |at| format!("from {at} on"));
            let words = format!(
                "its provider wants ${} an hour for it {when}, not ${}; nothing was accepted",
                to.hourly(),
                rental.rate.hourly()
            );
            Some(of_rental(Kind::PriceRise, rental, &words))
        }
        RentalNews::NearLimit { rental, overrun, left } => {
            let mut alert = of_rental(Kind::BreachAhead, rental, &near_limit(rental, overrun, *left));
            alert.details.extend(details(overrun));
            Some(alert)
        }
        RentalNews::Blind { provider, since, fault } => Some(Alert {
            kind: Kind::BlindProvider,
            tenant: None,
            thing: provider.to_string(),
            words: format!(
                "{provider} has not shown what machines there are since {since}, and they go on costing: {fault}"
            ),
            details: object(json!({"provider": provider, "since": since})),
        }),
        RentalNews::Orphan {
            provider,
            machine,
            label,
        } => Some(Alert {
            kind: Kind::Orphan,
            tenant: None,
            thing: format!("{provider}:{machine}"),
            words: format!(
                "machine {machine} of {provider} bears a label of ours that nobody rents any more; it is destroyed"
            ),
            details: object(json!({"provider": provider, "machine": machine, "label": label})),
        }),
        RentalNews::Found(_) | RentalNews::Ending(_) | RentalNews::Ended(_) => None,
    }
}

/// A machine may be ended now, or only if nothing makes room before.
pub(super) fn near_limit(rental: &Rental, overrun: &Overrun, left: Option<Duration>) -> String {
    let minutes = left.map_or_else(String::new, |left| format!(" within {} minutes", left.as_secs() / 60));
    match rental.desired {
        Desired::Gone => format!("it is being destroyed, before a limit is met{minutes}: {overrun}"),
        Desired::Up => format!(
            "it goes on, and a limit would be met{minutes}; unless there is room by then it is destroyed before: {overrun}"
        ),
    }
}

fn of_rental(kind: Kind, rental: &Rental, what: &str) -> Alert {
    Alert {
        kind,
        tenant: Some(rental.tenant().clone()),
        thing: rental.id.clone(),
        words: format!("machine {} of {}: {what}", rental.id, rental.provider()),
        details: object(json!({
            "instance": rental.id,
            "provider": rental.provider(),
            "subject": rental.subject(),
            "price_per_hour_usd": rental.rate.hourly(),
        })),
    }
}
