//! Alerts: what happens to money and machines that somebody should hear of, told once and not every time.
//!
//! Each becomes an event, a count, and a message to every webhook that wants it. Telling and queueing are one commit; the
//! messages go out from the store's queue, so that a restart loses none. A failure to tell keeps nothing from happening.

mod deliver;
mod feed;
mod kind;
mod machines;
mod sign;
#[cfg(test)]
mod tests;

pub use kind::{Alert, Kind};

use crate::config::{AddressConfig, AlertsConfig, WebhookConfig};
use arc_swap::ArcSwap;
use forebay_domain::{
    Code, Event, Failure,
    event::{Actor, Class, Outcome, Surface},
    id::{SubjectId, TraceId},
};
use forebay_runtime::{
    Clock, Entropy, Tasks,
    looping::{Nudge, drive},
    secret::SecretReader,
};
use forebay_store::{
    Store,
    alerts::{NewAlert, Told},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use url::Url;

/// The queue is looked at as often as this, besides when something is put into it.
const DELIVER_EVERY: Duration = Duration::from_secs(5);
/// Names of webhooks stand in rows and logs.
const NAME_BYTES_MAX: usize = 64;

/// What alerts stand on.
pub struct AlertsParts {
    pub store: Store,
    pub clock: Clock,
    pub entropy: Entropy,
    pub tasks: Tasks,
    pub secrets: SecretReader,
    /// Webhooks are the operator's own choice, so their client may go anywhere.
    pub http: reqwest::Client,
    pub metrics: Metrics,
}

/// Cheap to clone; all clones tell the same people.
#[derive(Clone)]
pub struct Alerts(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    entropy: Entropy,
    secrets: SecretReader,
    http: reqwest::Client,
    metrics: Metrics,
    settings: ArcSwap<Settings>,
    nudge: Nudge,
}

/// Who is told what, under one configuration.
struct Settings {
    webhooks: BTreeMap<String, Webhook>,
    again_after: Duration,
}

struct Webhook {
    url: Url,
    key: sign::SigningKey,
    config: WebhookConfig,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Cheap to clone; all clones count the same things.
#[derive(Clone, Default)]
pub struct Metrics {
    raised: Family<KindLabel, Counter>,
    told: Family<KindLabel, Counter>,
    deliveries: Family<OutcomeLabel, Counter>,
    missed: Counter,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "forebay_alerts_raised",
            "Causes of alerts, by kind; most of a storm are told once",
            metrics.raised.clone(),
        );
        registry.register(
            "forebay_alerts_told",
            "Alerts that were told, by kind",
            metrics.told.clone(),
        );
        registry.register(
            "forebay_alert_deliveries",
            "Messages to webhooks, by outcome",
            metrics.deliveries.clone(),
        );
        registry.register(
            "forebay_alerts_missed",
            "Causes of alerts that came faster than they could be told",
            metrics.missed.clone(),
        );
        metrics
    }

    fn delivery(&self, outcome: &'static str) {
        self.deliveries.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

impl Alerts {
    /// Says why nobody could be told under this configuration.
    pub fn check(config: &AlertsConfig, secrets: &SecretReader) -> Result<(), Failure> {
        Settings::new(config, secrets).map(drop)
    }

    pub fn start(config: &AlertsConfig, parts: AlertsParts) -> Result<Self, Failure> {
        let settings = Settings::new(config, &parts.secrets)?;
        let alerts = Self(Arc::new(Inner {
            store: parts.store,
            clock: parts.clock,
            entropy: parts.entropy,
            secrets: parts.secrets,
            http: parts.http,
            metrics: parts.metrics,
            settings: ArcSwap::from_pointee(settings),
            nudge: Nudge::new(),
        }));
        let deliver = deliver::Deliver::new(alerts.clone());
        drive(&parts.tasks, deliver, DELIVER_EVERY, alerts.0.nudge.clone());
        Ok(alerts)
    }

    /// Takes another configuration, or leaves the one before in force.
    pub fn reconfigure(&self, config: &AlertsConfig) -> Result<(), Failure> {
        let settings = Settings::new(config, &self.0.secrets)?;
        self.0.settings.store(Arc::new(settings));
        Ok(())
    }

    /// Tells it, unless it was told a while ago.
    pub async fn raise(&self, alert: Alert) {
        let kind = alert.kind.as_str();
        self.0.metrics.raised.get_or_create(&KindLabel { kind }).inc();
        if let Err(error) = self.tell(&alert).await {
            tracing::warn!(alert.kind = kind, %error, "an alert could not be told");
        }
    }

    async fn tell(&self, alert: &Alert) -> Result<(), forebay_store::StoreError> {
        let (now, settings) = (self.0.clock.now(), self.0.settings.load_full());
        let kind = alert.kind.as_str();
        let id = format!("msg_{:032x}", u128::from_be_bytes(self.0.entropy.bytes()));
        let body = json!({"type": kind, "timestamp": now, "data": alert.data()}).to_string();
        let new = NewAlert {
            id,
            tenant: alert.tenant.clone(),
            kind,
            thing: alert.thing.clone(),
            is_urgent: alert.kind.is_urgent(),
            body,
            at: now,
        };
        let wants = |webhook: &Webhook| webhook.config.events.is_empty() || webhook.config.events.contains(kind);
        let wanted = settings.webhooks.iter().filter(|(_, webhook)| wants(webhook));
        let webhooks: Vec<String> = wanted.map(|(name, _)| name.clone()).collect();
        let wished = webhooks.len();
        let told = self.0.store.alerts().tell(new, webhooks, settings.again_after).await?;
        let Told::New { queued } = told else {
            return Ok(());
        };
        self.0.metrics.told.get_or_create(&KindLabel { kind }).inc();
        for _ in usize::try_from(queued).unwrap_or(wished)..wished {
            self.0.metrics.delivery("dropped");
        }
        tracing::warn!(
            alert.kind = kind,
            tenant = alert.tenant.as_ref().map(tracing::field::display),
            "{}",
            alert.words
        );
        self.record(alert);
        self.0.nudge.nudge();
        Ok(())
    }

    fn record(&self, alert: &Alert) {
        let actor = alert.tenant.clone().map(|tenant| Actor {
            tenant,
            project: None,
            subject: SubjectId::try_from("forebay").expect("a word is a name"),
            key: None,
            session: None,
        });
        self.0.store.events().record(Event {
            at: self.0.clock.now(),
            class: Class::Activity,
            surface: Surface::System,
            trace: TraceId::new(self.0.clock.now(), self.0.entropy.bytes()),
            actor,
            action: format!("alert:{}", alert.kind.as_str()),
            outcome: Outcome::Ok,
            reason: Some(alert.words.clone()),
            duration_us: 0,
            bytes_in: 0,
            bytes_out: 0,
            usage: None,
            cost: None,
            count: 1,
        });
    }
}

impl Settings {
    fn new(config: &AlertsConfig, secrets: &SecretReader) -> Result<Self, Failure> {
        let webhooks = config.webhooks.iter().map(|(name, webhook)| {
            let webhook = Webhook::new(name, webhook, secrets)?;
            Ok((name.clone(), webhook))
        });
        Ok(Self {
            webhooks: webhooks.collect::<Result<_, Failure>>()?,
            again_after: Duration::from_mins(u64::from(config.repeat_minutes)),
        })
    }
}

impl Webhook {
    fn new(name: &str, config: &WebhookConfig, secrets: &SecretReader) -> Result<Self, Failure> {
        let unfit = |problem: String| {
            let message = format!("alerts.webhooks.{name}: {problem}.");
            Failure::new(Code::InvalidConfig, message)
        };
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(unfit(format!("its name must have 1 to {NAME_BYTES_MAX} bytes")));
        }
        let url = address(&config.url, secrets).map_err(|problem| unfit(format!("`url`: {problem}")))?;
        let known = |event: &&String| !Kind::ALL.iter().any(|kind| kind.as_str() == **event);
        if let Some(unknown) = config.events.iter().find(known) {
            let all = Kind::ALL.map(Kind::as_str).join("`, `");
            return Err(unfit(format!("`events`: there is no alert {unknown:?}")).hint(format!("There are `{all}`.")));
        }
        let secret = secrets
            .read(&config.secret)
            .map_err(|fault| unfit(format!("`secret`: {fault}")))?;
        let key = sign::SigningKey::parse(&secret)
            .ok_or_else(|| unfit("`secret`: it is no `whsec_` with 24 to 64 bytes in Base64 behind it".to_owned()))?;
        Ok(Self {
            url,
            key,
            config: config.clone(),
        })
    }
}

/// An address that messages can go to. What is secret of it is in no problem.
fn address(config: &AddressConfig, secrets: &SecretReader) -> Result<Url, String> {
    let url = match config {
        AddressConfig::Text(url) => url.clone(),
        AddressConfig::Secret(reference) => {
            let secret = secrets.read(reference).map_err(|fault| fault.to_string())?;
            Url::parse(secret.expose()).map_err(|fault| format!("{reference} holds no address: {fault}"))?
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must not contain a user name or password".to_owned());
    }
    Ok(url)
}
