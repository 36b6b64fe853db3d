//! What is known of a rental beyond what rows are searched by, as the store keeps it.

use crate::market::MachineState;
use forebay_domain::{
    id::{HoldId, KeyId, SessionId},
    money::{Usd, UsdRate},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// When it is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Paying {
    /// While it runs.
    Accrues,
    /// Whole hours before they begin.
    Prepaid,
}

/// Why a rental ends, or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Somebody wanted it gone.
    Asked,
    /// It has had its time.
    Lifetime,
    /// Nobody used it.
    Idle,
    /// Spending would have gone past a limit.
    Limit,
    /// It was made, and did not begin to run in time.
    NeverStarted,
    /// What it ran has ended by itself.
    Exited,
    /// Its provider said that it was not made, and made it.
    MadeInError,
    /// Its provider said no.
    RefusedByProvider,
    /// A limit said no.
    RefusedByLimit,
    /// The gateway ended before anybody was asked.
    NeverAsked,
    /// Nobody knew whether it was made, and it was not.
    NeverMade,
    /// Its provider has ended it, or has lost it.
    Vanished,
    /// The gateway that it ran beside has ended.
    GatewayEnded,
}

impl Why {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Lifetime => "lifetime",
            Self::Idle => "idle",
            Self::Limit => "limit",
            Self::NeverStarted => "never_started",
            Self::Exited => "exited",
            Self::MadeInError => "made_in_error",
            Self::RefusedByProvider => "refused_by_provider",
            Self::RefusedByLimit => "refused_by_limit",
            Self::NeverAsked => "never_asked",
            Self::NeverMade => "never_made",
            Self::Vanished => "vanished",
            Self::GatewayEnded => "gateway_ended",
        }
    }
}

/// What was rented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ordered {
    pub gpu: String,
    pub gpus: u32,
    pub vram_gb: u32,
    pub country: Option<String>,
    pub image: String,
    pub disk_gb: u32,
    pub hours: u32,
    pub ports: Vec<u16>,
    /// It got no address of ours, and runs no agent.
    pub bare: bool,
}

/// What its provider said of it last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub at: Timestamp,
    pub state: MachineState,
    pub status: String,
    pub nanos_per_hour: Option<i64>,
    pub paid: Option<Usd>,
    pub started_at: Option<Timestamp>,
    pub ends_at: Option<Timestamp>,
    pub endpoints: BTreeMap<u16, String>,
}

/// Prepaid time that was posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub hold: HoldId,
    pub amount: Usd,
}

/// More prepaid time that was asked for, while nobody knows whether it was sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extension {
    /// The name under which it is set aside; there before anything is.
    #[serde(default)]
    pub key: String,
    /// The name that somebody gave to the wish, and how much was wished for.
    #[serde(default)]
    pub wish: Option<String>,
    #[serde(default)]
    pub asked: Duration,
    /// What is set aside for it; nobody is asked before it is written here.
    pub hold: Option<HoldId>,
    pub amount: Usd,
    pub hours: u32,
    pub asked_at: Timestamp,
    /// What was paid in all before, where the provider says so.
    pub paid_before: Option<Usd>,
    pub ended_before: Option<Timestamp>,
    /// Complete listings since that showed no more than before.
    pub unchanged: u32,
}

/// More time that was given under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extended {
    pub key: String,
    pub by: Duration,
}

/// How its end goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    /// When it was first wanted gone.
    pub since: Option<Timestamp>,
    /// How often its provider was asked.
    pub asked: u32,
    /// How often in a row that failed.
    pub failures: u32,
    pub next_at: Option<Timestamp>,
}

/// What it costs since its provider last named another price, where that was ever more than was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Priced {
    pub since: Timestamp,
    /// Never below what was agreed on.
    pub nanos_per_hour: i64,
    /// What had accrued until then.
    pub before: Usd,
}

/// How its money stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Money {
    pub hold: Option<HoldId>,
    /// What was asked to be set aside first.
    pub first_hold: Usd,
    #[serde(default)]
    pub priced: Option<Priced>,
    /// What has accrued, as far as the ledger was told.
    pub posted: Usd,
    pub payments: Vec<Payment>,
    pub extension: Option<Extension>,
    /// What the provider's own bill changed.
    pub adjusted: Usd,
    /// Whether what it came to is posted.
    pub is_settled: bool,
    /// How often the provider was asked for its bill since the end.
    pub bills: u32,
    pub bill_at: Option<Timestamp>,
    /// Whether somebody was told that a limit comes near.
    pub is_warned: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Body {
    pub key: Option<KeyId>,
    pub session: Option<SessionId>,
    pub trace: String,
    /// Of what was asked for, so that a repeat is told from another wish.
    pub request: String,
    pub ordered: Ordered,
    pub nanos_per_hour: i64,
    pub paying: Paying,
    pub money: Money,
    pub asked_at: Option<Timestamp>,
    pub lifetime: Duration,
    pub ends_by: Timestamp,
    #[serde(default)]
    pub extended: Vec<Extended>,
    pub idle: Option<Duration>,
    pub used_at: Option<Timestamp>,
    pub reported_at: Option<Timestamp>,
    /// Of what the machine has drawn for itself and keeps on its disk, in hex.
    #[serde(default)]
    pub proof: Option<String>,
    pub seen: Option<Seen>,
    /// It was seen running at least once.
    pub has_run: bool,
    /// Since when it is shown as one whose container has ended by itself.
    #[serde(default)]
    pub exited_since: Option<Timestamp>,
    /// Complete listings in a row without it.
    pub misses: u32,
    pub missed_at: Option<Timestamp>,
    pub absent_since: Option<Timestamp>,
    pub ending: Ending,
    pub ended_at: Option<Timestamp>,
    pub why: Option<Why>,
    /// The last thing that went wrong, in its provider's words.
    pub fault: Option<String>,
    /// What whoever asked for it was told, where that was no.
    #[serde(default)]
    pub refusal: Option<Refusal>,
    /// Of the account that it was rented or seen with last.
    #[serde(default)]
    pub account: Option<String>,
}

/// A failure that is told again to whoever asks again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub code: String,
    pub message: String,
}

/// What was agreed on before anybody was asked.
pub(crate) struct Agreed {
    pub ordered: Ordered,
    pub rate: UsdRate,
    pub paying: Paying,
    pub lifetime: Duration,
    pub ends_by: Timestamp,
}

impl Body {
    /// Of a machine that nobody was asked for yet.
    pub(crate) fn new(agreed: Agreed) -> Self {
        Self {
            key: None,
            session: None,
            trace: String::new(),
            request: String::new(),
            ordered: agreed.ordered,
            nanos_per_hour: agreed.rate.nanos_per_hour(),
            paying: agreed.paying,
            money: Money::default(),
            asked_at: None,
            lifetime: agreed.lifetime,
            ends_by: agreed.ends_by,
            extended: Vec::new(),
            idle: None,
            used_at: None,
            reported_at: None,
            proof: None,
            seen: None,
            has_run: false,
            exited_since: None,
            misses: 0,
            missed_at: None,
            absent_since: None,
            ending: Ending::default(),
            ended_at: None,
            why: None,
            fault: None,
            refusal: None,
            account: None,
        }
    }

    /// What was agreed on.
    pub(crate) fn rate(&self) -> UsdRate {
        UsdRate::from_nanos_per_hour(self.nanos_per_hour)
    }

    /// What it costs now, by all that anybody has said: what was agreed on, or more.
    pub(crate) fn burn(&self) -> UsdRate {
        let priced = self.money.priced.map(|priced| priced.nanos_per_hour);
        priced.map_or(self.rate(), UsdRate::from_nanos_per_hour)
    }
}

impl Seen {
    pub(crate) fn rate(&self) -> Option<UsdRate> {
        self.nanos_per_hour.map(UsdRate::from_nanos_per_hour)
    }
}
