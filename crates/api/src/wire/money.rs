//! What is spent, what may be, and how it came to be. Amounts are US dollars, as decimal numbers of at most six digits
//! behind the point.

use forebay_domain::{
    ledger::{Enforcement, Scope},
    money::{Rounding, Usd},
};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::{IntoParams, ToSchema};

/// Whose spending is asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SpendingQuery {
    /// A tenant, instead of whoever asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// A project of that tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// An API key of that tenant, by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// An amount: whether so much more could be spent now. It is advice; nothing is set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_cost: Option<String>,
}

/// How all windows stand that count for somebody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SpendingInfo {
    pub windows: Vec<SpendingWindow>,
    /// What runs now costs an hour, as far as one of these windows counts it.
    #[schema(value_type = f64)]
    pub burn_usd_per_hour: Usd,
    /// Whether the amount that was asked about could be spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<SpendingCheck>,
}

/// How one limit stands, over the time that ends now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SpendingWindow {
    /// `tenant`, `project`, `key` or `session`.
    #[schema(value_type = String)]
    pub scope: Scope,
    /// Which of them.
    pub id: String,
    pub window_minutes: u32,
    #[schema(value_type = f64)]
    pub limit_usd: Usd,
    /// Posted within the window.
    #[schema(value_type = f64)]
    pub spent_usd: Usd,
    /// Set aside for what is under way.
    #[schema(value_type = f64)]
    pub held_usd: Usd,
    #[schema(value_type = f64)]
    pub remaining_usd: Usd,
    /// `hard` or `soft`.
    #[schema(value_type = String)]
    pub enforcement: Enforcement,
    /// `ok`, `warning` from four fifths of the limit on, or `exceeded` where nothing is left.
    pub status: String,
}

/// What is about to be asked for, exactly one of the two. Nothing is asked, called or set aside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CostQuery {
    /// The body of a chat completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<serde_json::Map<String, serde_json::Value>>,
    /// A tool's name in the whole catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
}

/// What something would cost at most, and whether the limits would let it in now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostCheck {
    /// `model` or `tool`.
    pub kind: String,
    pub name: String,
    /// Each time that the model is asked, without what context, tools and former answers add; or the price of a call, without
    /// what the tool spends by itself. Absent where nobody can say, and no limit counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub most_usd: Option<Usd>,
    pub allowed: bool,
    /// What says no, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The soft limits that it would go beyond, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Whether an amount could be spent now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SpendingCheck {
    #[schema(value_type = f64)]
    pub estimated_cost: Usd,
    pub allowed: bool,
    /// The limit that says no, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The soft limits that it would go beyond, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetInfo {
    /// `tenant`, `project`, `key` or `session`.
    #[schema(value_type = String)]
    pub scope: Scope,
    /// The tenant that it is for; every tenant where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The project, key or session that it is for; each one where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub window_minutes: u32,
    #[schema(value_type = f64)]
    pub limit_usd: Usd,
    /// `hard` or `soft`.
    #[schema(value_type = String)]
    pub enforcement: Enforcement,
    /// `config` or `api`.
    pub origin: String,
}

/// The limits that there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetList {
    pub budgets: Vec<BudgetInfo>,
    /// Where to go on, where there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which limits are asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BudgetQuery {
    /// Only those that count for this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// At most so many of those that were set at run time; 100 where none is named. Those of the configuration are all on the
    /// first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A limit that is to count. One of the same scope, name and window is replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetSet {
    /// `tenant`, `project`, `key` or `session`.
    #[schema(value_type = String)]
    pub scope: Scope,
    /// The tenant; the caller's own where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The project, key or session; each one of the tenant where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How far back it looks: `60m`, `24h`, `7d`.
    pub window: String,
    /// Rounded down to a millionth, as in the configuration.
    #[serde(deserialize_with = "limit")]
    #[schema(value_type = f64)]
    pub limit_usd: Usd,
    /// `hard` (where nothing is said) or `soft`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub enforcement: Enforcement,
}

/// Nobody means to allow a fraction of a micro-dollar.
fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
    let text = match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    Usd::parse(&text, Rounding::Down).map_err(de::Error::custom)
}

/// The limit that is to count no longer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BudgetRef {
    /// `tenant`, `project`, `key` or `session`.
    #[param(value_type = String)]
    pub scope: Scope,
    /// The tenant; the caller's own where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The project, key or session, where it is for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How far back it looks: `60m`, `24h`, `7d`.
    pub window: String,
}

/// Which movements of money are asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TransactionQuery {
    /// Only this tenant's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Only this project's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only those of this API key, by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Only those of whoever bears this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only what was for this: `model`, `tool` or `machine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Only what was spent or given back, without holds.
    pub posted: bool,
    /// Not before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// At most so many; 100 where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `json`, or `csv` as the header `Accept: text/csv` asks for too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// One page of movements, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TransactionList {
    pub transactions: Vec<TransactionInfo>,
    /// Where the next page begins, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One movement of money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TransactionInfo {
    pub id: String,
    pub at: Timestamp,
    /// `hold`, `rehold`, `settle`, `void`, `accrue`, `refund`, `adjust` or `post`.
    pub kind: String,
    /// What it was for: `model`, `tool` or `machine`.
    pub purpose: String,
    /// The model, the tool, or the rental.
    pub name: String,
    /// What it adds to what is spent; below zero where something is given back.
    #[schema(value_type = f64)]
    pub amount_usd: Usd,
    /// What it adds to what is held.
    #[schema(value_type = f64)]
    pub held_usd: Usd,
    pub tenant: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The id of the API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The movements of one hold have one name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_id: Option<String>,
    pub trace_id: String,
    /// The amount is the gateway's guess.
    pub estimated: bool,
    /// More was spent than was held.
    pub above_hold: bool,
    /// Nobody said in time what it came to, so all that was held counts.
    pub lapsed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_limit_is_rounded_down() {
        let read = |limit: serde_json::Value| {
            let set = json!({"scope": "tenant", "window": "60m", "limit_usd": limit});
            serde_json::from_value::<BudgetSet>(set).map(|set| set.limit_usd.micros())
        };
        assert_eq!(read(json!(0.000_001_9)).unwrap(), 1);
        assert_eq!(read(json!("2.0000009")).unwrap(), 2_000_000);
        assert!(read(json!(null)).is_err() && read(json!([1])).is_err() && read(json!("much")).is_err());
    }
}
