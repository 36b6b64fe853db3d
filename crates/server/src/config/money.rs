//! The section `budgets:`: what may be spent, by whom, in which time.

use forebay_domain::{
    id::TenantId,
    ledger::{BudgetRule, Enforcement, PurseName, Scope, Window},
    money::{Rounding, Usd},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// Limits on what is spent. Each of them counts by itself; the one with the least left decides.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct BudgetsConfig(pub Vec<BudgetConfig>);

/// So much in so much time, for one scope. The window slides: it always ends now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetConfig {
    /// What it counts: all that a tenant spends, or a project, a key or a session of it.
    #[schemars(with = "String", extend("enum" = ["tenant", "project", "key", "session"], "x-forebay-reload" = "live"))]
    pub scope: Scope,
    /// How far back it looks: minutes, hours or days, such as `60m`, `24h` or `7d`.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub window: WindowLength,
    /// The most that may be spent within that time, in US dollars.
    #[serde(deserialize_with = "limit")]
    #[schemars(with = "f64", range(min = 0), extend("x-forebay-reload" = "live"))]
    pub limit_usd: Usd,
    /// `hard` refuses what would go beyond it; `soft` lets it pass and tells.
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["hard", "soft"], "x-forebay-reload" = "live"))]
    pub enforcement: Enforcement,
    /// The tenant that it is for; every tenant where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("x-forebay-reload" = "live"))]
    pub tenant: Option<TenantId>,
    /// The project, key or session of that tenant that it is for; each of them for itself where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub id: Option<String>,
}

/// The length of a window, in whole minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9]+[mhd]$", "examples" = ["60m", "24h", "7d"]))]
pub struct WindowLength(pub u32);

/// What is no length of a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a window is a number of minutes, hours or days, such as 60m, 24h or 7d")]
pub struct WindowLengthFault;

impl FromStr for WindowLength {
    type Err = WindowLengthFault;

    fn from_str(text: &str) -> Result<Self, WindowLengthFault> {
        let unit = text.char_indices().next_back().ok_or(WindowLengthFault)?;
        let minutes = match unit.1 {
            'm' => 1,
            'h' => 60,
            'd' => 24 * 60,
            _ => return Err(WindowLengthFault),
        };
        let count = &text[..unit.0];
        if !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(WindowLengthFault);
        }
        let count: u32 = count.parse().map_err(|_| WindowLengthFault)?;
        count.checked_mul(minutes).map(Self).ok_or(WindowLengthFault)
    }
}

impl fmt::Display for WindowLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}m", self.0)
    }
}

impl Serialize for WindowLength {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WindowLength {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A limit is rounded down: nobody means to allow a fraction of a micro-dollar.
fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    Usd::parse(&number.to_string(), Rounding::Down).map_err(de::Error::custom)
}

/// Why a budget means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct BudgetFault {
    /// Which of them, counted from 0.
    pub index: usize,
    /// The key that is at fault.
    pub key: &'static str,
    pub problem: String,
}

impl BudgetsConfig {
    /// What they mean, or all that is wrong with them.
    pub fn rules(&self) -> Result<Vec<BudgetRule>, Vec<BudgetFault>> {
        let (mut rules, mut faults, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (index, budget) in self.0.iter().enumerate() {
            let fault = |(key, problem): (&'static str, String)| BudgetFault { index, key, problem };
            match budget.rule() {
                Ok(rule) => rules.push(rule),
                Err(what) => faults.push(fault(what)),
            }
            let same = (budget.scope, budget.tenant.clone(), budget.id.clone(), budget.window);
            if !seen.insert(same) {
                let problem = "there is a budget of this scope and window already".to_owned();
                faults.push(fault(("window", problem)));
            }
        }
        if faults.is_empty() { Ok(rules) } else { Err(faults) }
    }
}

impl BudgetsConfig {
    /// What they leave open, though nothing is wrong with any of them.
    pub fn gap(&self) -> Option<&'static str> {
        let is_wide = |one: &BudgetConfig| matches!(one.scope, Scope::Tenant | Scope::Project);
        (!self.0.is_empty() && !self.0.iter().any(is_wide)).then_some(
            "`budgets` has limits of keys or sessions only: callers with a token have no key, and those without an MCP session \
             none of these, so nothing limits them. Set one for the tenant or its projects too",
        )
    }
}

impl BudgetConfig {
    fn rule(&self) -> Result<BudgetRule, (&'static str, String)> {
        let window = Window::new(self.window.0, self.limit_usd, self.enforcement);
        Ok(BudgetRule {
            scope: self.scope,
            of: purse_name(self.scope, self.tenant.as_ref(), self.id.as_deref())?,
            window: window.map_err(|fault| ("window", fault.to_string()))?,
        })
    }
}

/// Whom a budget is for; nothing where it is for each one of its scope.
pub(crate) fn purse_name(
    scope: Scope,
    tenant: Option<&TenantId>,
    id: Option<&str>,
) -> Result<Option<PurseName>, (&'static str, String)> {
    let named = |tenant: &TenantId, id: Option<&str>| {
        Ok(Some(PurseName {
            tenant: tenant.clone(),
            id: id.map(str::to_owned),
        }))
    };
    match (scope, tenant, id) {
        (_, None, None) => Ok(None),
        (_, Some(tenant), None) => named(tenant, None),
        (Scope::Tenant, Some(tenant), Some(id)) if id == tenant.as_str() => named(tenant, None),
        (Scope::Tenant, _, Some(_)) => Err(("id", "a tenant is named by `tenant` alone".to_owned())),
        (scope, None, Some(_)) => Err(("tenant", format!("which tenant's {scope} it is has to be said"))),
        // The names of all scopes have one form.
        (scope, Some(tenant), Some(id)) => match TenantId::try_from(id) {
            Ok(_) => named(tenant, Some(id)),
            Err(fault) => Err(("id", format!("it is no {scope}: {fault}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> Result<BudgetsConfig, String> {
        serde_json::from_value(value).map_err(|fault| fault.to_string())
    }

    #[test]
    fn windows_are_read_in_minutes_hours_and_days() {
        for (text, minutes) in [("60m", 60), ("1440m", 1440), ("24h", 1440), ("7d", 10_080)] {
            assert_eq!(text.parse(), Ok(WindowLength(minutes)), "{text}");
        }
        for text in [
            "",
            "m",
            "60",
            "1.5h",
            "-1m",
            "1w",
            "60 m",
            "4294967295d",
            "99999999999m",
            "1µ",
        ] {
            assert_eq!(text.parse::<WindowLength>(), Err(WindowLengthFault), "{text:?}");
        }
    }

    #[test]
    fn a_budget_is_for_all_or_for_one() {
        let all = read(json!([{"scope": "tenant", "window": "60m", "limit_usd": 50},
            {"scope": "key", "tenant": "acme", "id": "k1", "window": "24h", "limit_usd": 0.1, "enforcement": "soft"}]));
        let rules = all.unwrap().rules().unwrap();
        assert_eq!((rules[0].scope, &rules[0].of), (Scope::Tenant, &None));
        assert_eq!(rules[0].window.limit.to_string(), "50.00");
        let one = rules[1].of.as_ref().unwrap();
        assert_eq!((one.tenant.as_str(), one.id.as_deref()), ("acme", Some("k1")));
        assert_eq!(rules[1].window.enforcement, Enforcement::Soft);
        assert_eq!(rules[1].window.limit.micros(), 100_000, "a decimal and no float");
    }

    #[test]
    fn narrow_limits_alone_leave_a_gap() {
        let gap = |scopes: &[&str]| {
            let of = |scope: &&str| json!({"scope": scope, "window": "60m", "limit_usd": 1});
            read(scopes.iter().map(of).collect()).unwrap().gap().is_some()
        };
        assert!(gap(&["key"]) && gap(&["session", "key"]));
        assert!(!gap(&[]) && !gap(&["key", "tenant"]) && !gap(&["project"]));
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_place() {
        let faults = |value| {
            let faults = read(value).unwrap().rules().unwrap_err();
            let shown = faults.iter().map(|fault| format!("{}.{}", fault.index, fault.key));
            shown.collect::<Vec<_>>()
        };
        let budget = |more: Value| {
            let mut budget = json!({"scope": "key", "window": "60m", "limit_usd": 1});
            budget
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            budget
        };
        assert_eq!(faults(json!([budget(json!({"id": "k1"}))])), ["0.tenant"]);
        assert_eq!(
            faults(json!([budget(json!({"tenant": "acme", "id": "a b"}))])),
            ["0.id"]
        );
        assert_eq!(faults(json!([budget(json!({"window": "0m"}))])), ["0.window"]);
        assert_eq!(
            faults(json!([budget(json!({})), budget(json!({"window": "1h"}))])),
            ["1.window"]
        );
        assert_eq!(faults(json!([budget(json!({"scope": "tenant", "id": "x"}))])), ["0.id"]);
        for wrong in [json!("50"), json!(null), json!(1e12)] {
            assert!(read(json!([budget(json!({"limit_usd": wrong}))])).is_err(), "{wrong}");
        }
    }
}
