//! Takes messages from the queue to their webhooks, and again where these did not take them.

use super::{Alerts, Webhook};
use forebay_domain::Failure;
use forebay_runtime::looping::Loop;
use forebay_store::alerts::Delivery;
use futures_util::StreamExt;
use http::{StatusCode, header};
use jiff::SignedDuration;
use std::time::Duration;

/// How long one webhook may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// What one pass takes, and how many of it at a time: all of it well within the lease.
const BATCH: u32 = 32;
const AT_ONCE: usize = 8;
const LEASE: Duration = Duration::from_mins(2);
/// The waits between attempts, as the specification advises; behind the last one a message is given up.
const WAITS_S: [u64; 10] = [5, 30, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

pub(super) struct Deliver {
    alerts: Alerts,
}

impl Deliver {
    pub(super) fn new(alerts: Alerts) -> Self {
        Self { alerts }
    }
}

/// What is done about one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Delivered,
    Later(Duration),
    GivenUp,
}

/// After so many attempts, of which the last one was answered so (or not at all).
fn verdict(attempts: u32, answer: Option<StatusCode>) -> Verdict {
    match answer {
        Some(status) if status.is_success() => Verdict::Delivered,
        // Whoever says so wants no more of it.
        Some(StatusCode::GONE) => Verdict::GivenUp,
        _ => {
            let done = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
            WAITS_S.get(done).map_or(Verdict::GivenUp, |seconds| {
                Verdict::Later(Duration::from_secs(*seconds))
            })
        }
    }
}

impl Loop for Deliver {
    type Seen = Vec<Delivery>;
    type Action = Vec<Delivery>;

    fn name(&self) -> &'static str {
        "alert_deliveries"
    }

    async fn observe(&mut self) -> Result<Vec<Delivery>, Failure> {
        let inner = &self.alerts.0;
        Ok(inner.store.alerts().take(inner.clock.now(), LEASE, BATCH).await?)
    }

    fn decide(&self, due: &Vec<Delivery>) -> Vec<Vec<Delivery>> {
        if due.is_empty() { Vec::new() } else { vec![due.clone()] }
    }

    async fn act(&mut self, due: Vec<Delivery>) -> Result<(), Failure> {
        let is_full = due.len() >= BATCH as usize;
        let alerts = &self.alerts;
        let outcomes: Vec<Result<(), Failure>> = futures_util::stream::iter(due)
            .map(|delivery| async move { alerts.deliver(&delivery).await })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        if is_full {
            alerts.0.nudge.nudge();
        }
        outcomes.into_iter().collect()
    }
}

impl Alerts {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Failure> {
        let settings = self.0.settings.load_full();
        // A webhook that was taken out of the configuration gets nothing more.
        let verdict = match settings.webhooks.get(&delivery.webhook) {
            Some(webhook) => verdict(delivery.attempts, self.send(webhook, delivery).await),
            None => Verdict::GivenUp,
        };
        let alerts = self.0.store.alerts();
        match verdict {
            Verdict::Delivered => {
                self.0.metrics.delivery("delivered");
                alerts.done(delivery).await?;
            }
            Verdict::Later(wait) => {
                self.0.metrics.delivery("failed");
                let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
                let due = self.0.clock.now().checked_add(wait).unwrap_or(jiff::Timestamp::MAX);
                alerts.later(delivery, due).await?;
            }
            Verdict::GivenUp => {
                self.0.metrics.delivery("given_up");
                tracing::warn!(
                    webhook = delivery.webhook,
                    webhook.id = delivery.id,
                    "an alert is given up"
                );
                alerts.done(delivery).await?;
            }
        }
        Ok(())
    }

    /// What the webhook answered, if it did. What it says beyond the status is nobody's affair.
    async fn send(&self, webhook: &Webhook, delivery: &Delivery) -> Option<StatusCode> {
        let timestamp = self.0.clock.now().as_second();
        let request = self
            .0
            .http
            .post(webhook.url.clone())
            .timeout(ANSWER_MAX)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", &delivery.id)
            .header("webhook-timestamp", timestamp)
            .header(
                "webhook-signature",
                webhook.key.sign(&delivery.id, timestamp, &delivery.body),
            )
            .body(delivery.body.clone());
        match request.send().await {
            Ok(answer) => Some(answer.status()),
            Err(error) => {
                let error = error.without_url();
                tracing::debug!(webhook = delivery.webhook, %error, "a webhook did not answer");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_tried_for_three_days_and_then_given_up() {
        let failed = Some(StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(verdict(1, Some(StatusCode::NO_CONTENT)), Verdict::Delivered);
        assert_eq!(verdict(1, failed), Verdict::Later(Duration::from_secs(5)));
        assert_eq!(verdict(2, None), Verdict::Later(Duration::from_secs(30)));
        assert_eq!(
            verdict(1, Some(StatusCode::FOUND)),
            Verdict::Later(Duration::from_secs(5))
        );
        assert_eq!(verdict(1, Some(StatusCode::GONE)), Verdict::GivenUp);
        assert_eq!(verdict(11, failed), Verdict::GivenUp);
        assert_eq!(verdict(u32::MAX, failed), Verdict::GivenUp);
        let whole: u64 = WAITS_S.iter().sum();
        assert!((3 * 86_400..4 * 86_400).contains(&whole), "{whole}");
    }
}
