//! Whether something more may be spent.

use super::{Enforcement, Purse, Scope, Window};
use crate::money::{Usd, UsdRate};
use serde::Serialize;
use std::{fmt, time::Duration};

/// How one limit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub purse: Purse,
    pub window: Window,
    /// Spent within the window.
    pub posted: Usd,
    /// Set aside by whatever is not settled yet, whenever it began.
    pub held: Usd,
    /// What runs now costs.
    pub burn: UsdRate,
}

impl Standing {
    /// Whether it bounds what goes on for longer than a call. Whoever likes has a new session for each call, so that a limit
    /// of one does not.
    pub fn bounds(&self) -> bool {
        self.window.enforcement == Enforcement::Hard && self.purse.scope != Scope::Session
    }

    pub fn used(&self) -> Usd {
        self.posted.saturating_add(self.held)
    }

    /// What may still be spent; nothing rather than less.
    pub fn remaining(&self) -> Usd {
        self.window.limit.saturating_sub(self.used()).max(Usd::ZERO)
    }
}

/// What somebody wants to spend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ask {
    /// An upper bound of what it costs, or of what its first while costs.
    pub amount: Usd,
    /// What it costs for as long as it runs; zero for what has one price.
    pub rate: UsdRate,
}

/// Why a limit says no, or would if it were a hard one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overrun {
    pub standing: Standing,
    pub ask: Ask,
    pub reason: Reason,
}

impl Overrun {
    /// What of the wish goes beyond the limit: its amount, or what it costs an hour.
    pub fn requested(&self) -> Usd {
        match self.reason {
            Reason::Amount => self.ask.amount,
            Reason::Rate => self.ask.rate.hourly(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// What is posted and held, and this, are more than the limit.
    Amount,
    /// All that would run, run for the length of the window, costs more than the limit.
    Rate,
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing {
            purse,
            window,
            posted,
            held,
            burn,
        } = &self.standing;
        let (limit, minutes) = (window.limit, window.minutes);
        match self.reason {
            Reason::Amount => write!(
                f,
                "${} more would be above ${limit} in {minutes} minutes for {purse}: ${posted} are posted and ${held} held",
                self.ask.amount
            ),
            Reason::Rate => write!(
                f,
                "what runs costs ${} an hour, and ${} an hour more would be above ${limit} in {minutes} minutes for {purse}",
                burn.hourly(),
                self.ask.rate.hourly()
            ),
        }
    }
}

/// What was let in, and which soft limits it goes beyond.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    pub warnings: Vec<Overrun>,
}

/// Judges one wish by all limits that it counts for. Refused by any hard one, it is refused; told is the one that has the
/// least left.
pub fn admit(standings: &[Standing], ask: Ask) -> Result<Admission, Overrun> {
    let overruns = standings.iter().filter_map(|standing| overrun(standing, ask));
    let (refusals, warnings): (Vec<_>, Vec<_>) =
        overruns.partition(|overrun| overrun.standing.window.enforcement == Enforcement::Hard);
    match refusals.into_iter().min_by_key(|overrun| overrun.standing.remaining()) {
        Some(refusal) => Err(refusal),
        None => Ok(Admission { warnings }),
    }
}

fn overrun(standing: &Standing, ask: Ask) -> Option<Overrun> {
    let overrun = |reason| {
        Some(Overrun {
            standing: standing.clone(),
            ask,
            reason,
        })
    };
    let limit = standing.window.limit;
    if standing.used().saturating_add(ask.amount) > limit {
        return overrun(Reason::Amount);
    }
    let running = standing.burn.saturating_add(ask.rate).cost_of(standing.window.length());
    if ask.rate > UsdRate::ZERO && running > limit {
        return overrun(Reason::Rate);
    }
    None
}

/// For how long what runs can go on until the first hard limit is met, if nothing else is spent and nothing leaves a
/// window meanwhile: sooner than the truth, never later. `None` where nothing runs, or nothing limits it.
pub fn lasts(standings: &[Standing]) -> Option<Duration> {
    let hard = standings
        .iter()
        .filter(|standing| standing.window.enforcement == Enforcement::Hard);
    hard.filter_map(|standing| {
        let nanos_per_hour = u128::try_from(standing.burn.nanos_per_hour())
            .ok()
            .filter(|rate| *rate > 0)?;
        let left = standing.window.limit.saturating_sub(standing.posted).max(Usd::ZERO);
        // Micro-dollars to nano-dollars, and hours to nanoseconds.
        let nanoseconds = u128::try_from(left.micros()).ok()? * 1_000 * 3_600_000_000_000 / nanos_per_hour;
        Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    })
    .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Scope;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    fn standing(minutes: u32, limit: &str, posted: &str, held: &str, hourly: &str) -> Standing {
        Standing {
            purse: Purse {
                tenant: "acme".parse().unwrap(),
                scope: Scope::Tenant,
                id: "acme".to_owned(),
            },
            window: Window::new(minutes, usd(limit), Enforcement::Hard).unwrap(),
            posted: usd(posted),
            held: usd(held),
            burn: UsdRate::per_hour(usd(hourly)),
        }
    }

    fn once(amount: &str) -> Ask {
        Ask {
            amount: usd(amount),
            rate: UsdRate::ZERO,
        }
    }

    #[test]
    fn up_to_the_limit_and_not_a_micro_dollar_more() {
        let limits = [standing(60, "50", "49.99", "0", "0")];
        assert!(admit(&limits, once("0.01")).is_ok());
        let refused = admit(&limits, once("0.010001")).unwrap_err();
        assert_eq!(refused.reason, Reason::Amount);
        assert_eq!(
            refused.to_string(),
            "$0.010001 more would be above $50.00 in 60 minutes for tenant acme: $49.99 are posted and $0.00 held"
        );
    }

    #[test]
    fn what_is_held_counts_as_what_is_posted_does() {
        assert!(admit(&[standing(60, "1", "0.40", "0.50", "0")], once("0.10")).is_ok());
        assert!(admit(&[standing(60, "1", "0.40", "0.60", "0")], once("0.000001")).is_err());
        assert!(
            admit(&[standing(60, "0", "0", "0", "0")], once("0")).is_ok(),
            "what is free passes a limit of nothing"
        );
    }

    #[test]
    fn the_window_with_the_least_left_is_told() {
        let limits = [
            standing(60, "10", "9", "0", "0"),
            standing(1440, "20", "19.5", "0", "0"),
            standing(5, "100", "0", "0", "0"),
        ];
        let refused = admit(&limits, once("5")).unwrap_err();
        assert_eq!(refused.standing.window.minutes, 1440);
    }

    #[test]
    fn a_soft_limit_warns() {
        let mut soft = standing(60, "1", "0.9", "0", "0");
        soft.window.enforcement = Enforcement::Soft;
        let hard = standing(60, "2", "0.9", "0", "0");
        let admission = admit(&[soft.clone(), hard], once("0.5")).unwrap();
        assert_eq!(admission.warnings.len(), 1);
        assert_eq!(admission.warnings[0].standing, soft);
    }

    #[test]
    fn what_would_run_for_the_whole_window_has_to_fit() {
        let renting = |hourly: &str| Ask {
            amount: usd(hourly),
            rate: UsdRate::per_hour(usd(hourly)),
        };
        let day = [standing(1440, "24", "0", "0", "0.50")];
        assert!(admit(&day, renting("0.50")).is_ok());
        assert_eq!(admit(&day, renting("0.51")).unwrap_err().reason, Reason::Rate);
        assert!(
            admit(&[standing(1440, "1", "0", "0", "5")], once("0.1")).is_ok(),
            "a chat is not judged by what machines cost"
        );
    }

    #[test]
    fn what_runs_lasts_until_the_first_limit() {
        let limits = [
            standing(60, "1", "0.5", "0.1", "0.25"),
            standing(1440, "10", "2", "0", "4"),
        ];
        assert_eq!(lasts(&limits).unwrap().as_secs(), 7_200);
        assert_eq!(lasts(&[standing(60, "1", "2", "0", "1")]), Some(Duration::ZERO));
        assert_eq!(lasts(&[standing(60, "1", "0", "0", "0")]), None);
    }

    #[test]
    fn sums_beyond_all_counting_are_refused() {
        let mut full = standing(60, "1", "0", "0", "0");
        full.posted = Usd::from_micros(i64::MAX);
        full.held = Usd::from_micros(i64::MAX);
        assert!(admit(&[full.clone()], once("0.01")).is_err());
        full.burn = UsdRate::from_nanos_per_hour(i64::MAX);
        assert_eq!(full.remaining(), Usd::ZERO);
    }
}
