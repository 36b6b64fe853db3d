//! How much one turn may do, as the section `turns:` says. The model decides what it calls; these decide when it has
//! called enough.

use crate::{
    config::TurnsConfig,
    settings::{ConfigFault, check_range},
};
use forebay_domain::{Grant, money::Usd, price::Price};
use std::{num::NonZeroU32, time::Duration};

const DENIALS_MAX: usize = 100;

/// The bounds of every turn that begins while they are in force.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// So many times tools run before the model is asked once more, without tools, to answer with what it has.
    pub(super) rounds_max: u32,
    /// Calls of the gateway's tools in all.
    pub(super) calls_max: usize,
    /// Calls that run at one time.
    pub(super) parallel_max: usize,
    /// How long a turn may go on asking and calling. What is being said then is said to its end.
    pub(super) time_max: Duration,
    /// Of one result the model gets so much.
    pub(super) result_bytes_max: usize,
    /// While tools run the client of a stream hears so often that it is not forgotten.
    pub(super) keep_alive: Duration,
    /// What it may cost before it ends.
    pub(super) cost_max: Option<Usd>,
    /// What a tainted turn may not do.
    pub(super) denied: Vec<Grant>,
}

impl Bounds {
    pub(crate) fn parse(config: &TurnsConfig) -> Result<Self, ConfigFault> {
        let within = |key: &str, number: NonZeroU32, range| {
            check_range(&format!("turns.{key}"), number.get(), range).map(|()| number.get())
        };
        let seconds = |number: u32| Duration::from_secs(number.into());
        Ok(Self {
            rounds_max: within("rounds_max", config.rounds_max, 1..=64)?,
            calls_max: within("calls_max", config.calls_max, 1..=1_000)? as usize,
            parallel_max: within("parallel_max", config.parallel_max, 1..=64)? as usize,
            time_max: seconds(within("timeout_s", config.timeout_s, 1..=3_600)?),
            result_bytes_max: within("result_bytes_max", config.result_bytes_max, 1 << 10..=1 << 20)? as usize,
            keep_alive: seconds(within("keep_alive_s", config.keep_alive_s, 1..=300)?),
            cost_max: config.cost_max_usd.map(Price::usd),
            denied: denied(&config.tainted.deny)?,
        })
    }
}

impl TurnsConfig {
    /// Whether it can be used.
    pub fn check(&self) -> Result<(), ConfigFault> {
        Bounds::parse(self).map(drop)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::parse(&TurnsConfig::default()).expect("what is the default may be configured too")
    }
}

fn denied(actions: &[String]) -> Result<Vec<Grant>, ConfigFault> {
    let path = "turns.tainted.deny";
    check_range(path, actions.len(), 0..=DENIALS_MAX)?;
    let deny = |(index, action): (usize, &String)| {
        let denial = format!("!{action}").parse();
        denial.map_err(|_| {
            let problem = "is no action; one looks like `effect:write`, `tool:mail__*` or `gpu:*`, without a `!`";
            ConfigFault::new(format!("{path}[{index}]"), problem)
        })
    };
    actions.iter().enumerate().map(deny).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(config: Value) -> Result<Bounds, String> {
        let config: TurnsConfig = serde_json::from_value(config).unwrap();
        Bounds::parse(&config).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_is_not_said_has_a_bound_all_the_same() {
        let bounds = parse(json!({ "rounds_max": 2, "tainted": { "deny": [] } })).unwrap();
        assert_eq!((bounds.rounds_max, bounds.calls_max), (2, 32));
        assert_eq!(bounds.time_max, Duration::from_mins(2));
        assert!(bounds.denied.is_empty());
        assert_eq!(Bounds::default().denied.len(), 3);
    }

    #[test]
    fn bounds_have_bounds() {
        for (config, expected) in [
            (
                json!({ "rounds_max": 65 }),
                "turns.rounds_max: must be from 1 to 64, and is 65",
            ),
            (
                json!({ "result_bytes_max": 9 }),
                "turns.result_bytes_max: must be from 1024 to 1048576, and is 9",
            ),
            (
                json!({ "tainted": { "deny": ["effect:write", "!gpu:*"] } }),
                "turns.tainted.deny[1]: is no action",
            ),
            (
                json!({ "tainted": { "deny": ["write"] } }),
                "turns.tainted.deny[0]: is no action",
            ),
        ] {
            let refused = parse(config).unwrap_err();
            assert!(refused.starts_with(expected), "{refused}");
        }
    }
}
