//! What is held against one backend: failures in a row, a refusal for now, a probe that finds it down.
//!
//! Three things put a backend out of use, each with its own way back. *Ejected*: so many failures in a row, or a
//! rejected credential; after a time that grows it gets one request on trial, whose end decides. *Resting*: it said
//! that it takes no more for now. *Unhealthy*: probes find it down, until one finds it up.
//!
//! Times are those of a clock that never goes back.

use std::time::Duration;

/// So many failures in a row put a backend out of use.
const FAILURES_MAX: u32 = 3;
/// How long at first; it doubles each time.
const EJECTED_FIRST: Duration = Duration::from_secs(5);
const EJECTED_MAX: Duration = Duration::from_mins(5);
/// A rejected credential mends no sooner than an administrator does.
const REJECTED: Duration = Duration::from_secs(30);
/// Whoever stayed in use so long begins anew with the shortest time.
const FORGIVEN_AFTER: Duration = Duration::from_mins(10);
/// How long a backend rests that does not say how long.
const REST_UNSAID: Duration = Duration::from_secs(1);
/// A backend that asks for a longer rest is asked again all the same.
const REST_MAX: Duration = Duration::from_mins(1);
/// So many probes in a row have to fail: one may be lost in a busy moment.
const PROBES_MAX: u32 = 2;

/// The state of one backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    failures: u32,
    ejected: Option<Ejected>,
    /// How often it was ejected of late, and until when the last time.
    times: u32,
    last_until: Duration,
    resting_until: Option<Duration>,
    failed_probes: u32,
    down: Option<(Duration, Unhealthy)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ejected {
    since: Duration,
    until: Duration,
    cause: Cause,
    is_on_trial: bool,
}

/// What put a backend out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It failed several times in a row.
    Failures,
    /// It rejected the gateway's own credentials.
    Credentials,
}

/// What the last probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unhealthy {
    Unreachable,
    TimedOut,
    /// It answered with this status.
    Status(u16),
}

/// Whether a backend can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Up,
    /// It may have one request, whose end decides.
    DueForTrial,
    OnTrial,
    Ejected {
        since: Duration,
        until: Duration,
        cause: Cause,
    },
    Resting {
        until: Duration,
    },
    Unhealthy {
        since: Duration,
        found: Unhealthy,
    },
}

impl Standing {
    pub fn is_usable(self) -> bool {
        match self {
            Self::Up | Self::DueForTrial => true,
            Self::OnTrial | Self::Ejected { .. } | Self::Resting { .. } | Self::Unhealthy { .. } => false,
        }
    }

    /// Larger is worse: a hint of how likely a request is to fail there.
    pub(super) fn badness(self) -> u8 {
        match self {
            Self::Up | Self::DueForTrial => 0,
            Self::Resting { .. } | Self::OnTrial => 1,
            Self::Ejected { .. } => 2,
            Self::Unhealthy { .. } => 3,
        }
    }
}

/// As what a request was sent to a backend; it says so again when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    at: Duration,
    is_trial: bool,
}

impl Health {
    pub fn standing(&self, now: Duration) -> Standing {
        if let Some((since, found)) = self.down {
            return Standing::Unhealthy { since, found };
        }
        match (self.ejected, self.resting_until) {
            (
                Some(Ejected {
                    since, until, cause, ..
                }),
                _,
            ) if until > now => Standing::Ejected { since, until, cause },
            // Whoever asked for a rest has it before the trial.
            (_, Some(until)) if until > now => Standing::Resting { until },
            (Some(Ejected { is_on_trial: true, .. }), _) => Standing::OnTrial,
            (Some(_), _) => Standing::DueForTrial,
            (None, _) => Standing::Up,
        }
    }

    /// A request goes there.
    pub fn take(&mut self, now: Duration) -> Taken {
        let is_trial = self.standing(now) == Standing::DueForTrial;
        if let Some(ejected) = &mut self.ejected {
            ejected.is_on_trial |= is_trial;
        }
        Taken { at: now, is_trial }
    }

    /// An answer has begun as it should. Whoever was out is back in, but the next failure puts it out again. True where
    /// this brought it back.
    pub fn began(&mut self, taken: Taken) -> bool {
        let is_back = self.is_news(taken) && self.ejected.take().is_some();
        if is_back {
            self.failures = FAILURES_MAX - 1;
        }
        is_back
    }

    /// An answer came whole, or the backend had good reason to refuse the request. True where this brought it back.
    pub fn succeeded(&mut self, taken: Taken) -> bool {
        if !self.is_news(taken) {
            return false;
        }
        self.failures = 0;
        self.ejected.take().is_some()
    }

    /// No connection, no answer in time, an error of its own, or an answer that broke off. True where this put it out.
    pub fn failed(&mut self, taken: Taken, now: Duration) -> bool {
        if !self.is_news(taken) || self.is_out_for_others(taken) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_MAX && !taken.is_trial {
            return false;
        }
        self.eject(Cause::Failures, now);
        true
    }

    /// It rejected the gateway's credentials. True where this put it out.
    pub fn rejected(&mut self, taken: Taken, now: Duration) -> bool {
        if !self.is_news(taken) || self.is_out_for_others(taken) {
            return false;
        }
        self.eject(Cause::Credentials, now);
        true
    }

    /// It takes no more requests for now.
    pub fn rests(&mut self, taken: Taken, asked_for: Option<Duration>, now: Duration) {
        self.given_up(taken);
        self.resting_until = Some(now + asked_for.unwrap_or(REST_UNSAID).min(REST_MAX));
    }

    /// The request ended without telling anything, as when its client has gone.
    pub fn given_up(&mut self, taken: Taken) {
        if let Some(ejected) = &mut self.ejected
            && taken.is_trial
            && taken.at > ejected.since
        {
            ejected.is_on_trial = false;
        }
    }

    /// What a probe found; `None` where it found it up.
    pub fn probed(&mut self, found: Option<Unhealthy>, now: Duration) {
        let Some(found) = found else {
            self.failed_probes = 0;
            self.down = None;
            return;
        };
        self.failed_probes = self.failed_probes.saturating_add(1);
        if self.failed_probes >= PROBES_MAX {
            let since = self.down.map_or(now, |(since, _)| since);
            self.down = Some((since, found));
        }
    }

    /// Whether the request was sent after the ejection: what was under way before says nothing about now.
    fn is_news(&self, taken: Taken) -> bool {
        self.ejected.is_none_or(|ejected| taken.at > ejected.since)
    }

    /// It is out, and this request was none on trial: it went there for want of a better one, and its failure makes
    /// nothing worse.
    fn is_out_for_others(&self, taken: Taken) -> bool {
        self.ejected.is_some() && !taken.is_trial
    }

    fn eject(&mut self, cause: Cause, now: Duration) {
        if now.saturating_sub(self.last_until) > FORGIVEN_AFTER {
            self.times = 0;
        }
        let first = match cause {
            Cause::Failures => EJECTED_FIRST,
            Cause::Credentials => REJECTED,
        };
        let lasts = first.saturating_mul(1 << self.times.min(10)).min(EJECTED_MAX);
        self.times = self.times.saturating_add(1);
        self.last_until = now + lasts;
        self.ejected = Some(Ejected {
            since: now,
            until: now + lasts,
            cause,
            is_on_trial: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A request that goes there at this second and fails a moment later.
    fn fail(health: &mut Health, at: u64) -> bool {
        let taken = health.take(s(at));
        health.failed(taken, s(at) + Duration::from_millis(1))
    }

    fn fail_all(health: &mut Health, at: impl IntoIterator<Item = u64>) {
        for at in at {
            fail(health, at);
        }
    }

    fn succeed(health: &mut Health, at: u64) {
        let taken = health.take(s(at));
        health.began(taken);
        health.succeeded(taken);
    }

    fn ejected_for(health: &Health, at: u64) -> Option<u64> {
        match health.standing(s(at)) {
            Standing::Ejected { since, until, .. } => Some(until.saturating_sub(since).as_secs()),
            _ => None,
        }
    }

    #[test]
    fn failures_in_a_row_put_it_out_and_a_success_between_does_not() {
        let mut health = Health::default();
        assert!(!fail(&mut health, 1) && !fail(&mut health, 2));
        succeed(&mut health, 3);
        assert!(!fail(&mut health, 4) && !fail(&mut health, 5));
        assert_eq!(health.standing(s(5)), Standing::Up);
        assert!(fail(&mut health, 6));
        assert_eq!(ejected_for(&health, 7), Some(5));
    }

    #[test]
    fn it_comes_back_by_one_request_on_trial() {
        let mut health = Health::default();
        fail_all(&mut health, 1..=3);
        assert_eq!(health.standing(s(9)), Standing::DueForTrial);
        let trial = health.take(s(9));
        assert_eq!(health.standing(s(9)), Standing::OnTrial, "one, and no more");
        health.given_up(trial);
        assert_eq!(health.standing(s(9)), Standing::DueForTrial, "it told nothing");
        let trial = health.take(s(10));
        health.began(trial);
        assert_eq!(health.standing(s(10)), Standing::Up);
        assert!(health.failed(trial, s(11)), "it broke off: that was no recovery");
        assert_eq!(ejected_for(&health, 12), Some(10));
    }

    #[test]
    fn the_time_grows_with_each_trial_that_fails_and_is_forgiven_at_last() {
        let mut health = Health::default();
        fail_all(&mut health, 1..=3);
        let (mut at, mut lasted) = (3, Vec::new());
        for _ in 0..8 {
            lasted.push(ejected_for(&health, at + 1).unwrap());
            at += lasted.last().unwrap() + 2;
            assert!(fail(&mut health, at), "a trial that fails");
        }
        assert_eq!(lasted, [5, 10, 20, 40, 80, 160, 300, 300]);
        at += 302;
        succeed(&mut health, at);
        at += 602;
        fail_all(&mut health, at..at + 3);
        assert_eq!(ejected_for(&health, at + 3), Some(5));
    }

    #[test]
    fn what_was_under_way_when_it_went_out_changes_nothing() {
        let mut health = Health::default();
        let before: Vec<Taken> = (0..5).map(|_| health.take(s(1))).collect();
        fail_all(&mut health, 2..=4);
        let out = health;
        for taken in &before[..3] {
            assert!(!health.failed(*taken, s(5)), "it is out already");
        }
        health.began(before[3]);
        health.succeeded(before[3]);
        health.given_up(before[4]);
        assert_eq!(health, out);
    }

    #[test]
    fn a_request_for_want_of_a_better_one_can_only_help() {
        let mut health = Health::default();
        fail_all(&mut health, 1..=3);
        let out = health;
        assert!(!fail(&mut health, 4));
        assert_eq!(health, out);
        succeed(&mut health, 5);
        assert_eq!(health.standing(s(5)), Standing::Up);
    }

    #[test]
    fn a_rejected_credential_puts_it_out_at_once_and_says_so() {
        let mut health = Health::default();
        let taken = health.take(s(1));
        assert!(health.rejected(taken, s(1)));
        let standing = health.standing(s(2));
        let expected = Standing::Ejected {
            since: s(1),
            until: s(31),
            cause: Cause::Credentials,
        };
        assert_eq!(standing, expected);
    }

    #[test]
    fn it_rests_as_long_as_it_asks_within_reason() {
        for (asked_for, until) in [(None, 2), (Some(s(7)), 8), (Some(s(9_999)), 61)] {
            let mut health = Health::default();
            let taken = health.take(s(1));
            health.rests(taken, asked_for, s(1));
            assert_eq!(health.standing(s(1)), Standing::Resting { until: s(until) });
            assert_eq!(health.standing(s(until)), Standing::Up);
        }
        let mut health = Health::default();
        fail_all(&mut health, 1..=3);
        let trial = health.take(s(9));
        health.rests(trial, Some(s(7)), s(9));
        assert_eq!(health.standing(s(9)), Standing::Resting { until: s(16) });
        assert_eq!(health.standing(s(16)), Standing::DueForTrial, "it proved nothing");
    }

    #[test]
    fn probes_find_it_down_at_the_second_and_up_at_once() {
        let mut health = Health::default();
        health.probed(Some(Unhealthy::TimedOut), s(1));
        assert_eq!(health.standing(s(1)), Standing::Up);
        health.probed(Some(Unhealthy::Status(503)), s(2));
        health.probed(Some(Unhealthy::Unreachable), s(3));
        let expected = Standing::Unhealthy {
            since: s(2),
            found: Unhealthy::Unreachable,
        };
        assert_eq!(health.standing(s(4)), expected);
        health.probed(None, s(5));
        assert_eq!(health.standing(s(5)), Standing::Up);
    }
}
