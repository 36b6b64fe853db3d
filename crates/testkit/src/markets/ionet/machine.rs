//! One deployment, from its request to its end.

use super::Hardware;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;

/// From the request until it runs.
const BOOT: SignedDuration = SignedDuration::from_secs(130);
/// From then until its address is known.
const HEALTHY: SignedDuration = SignedDuration::from_secs(20);
/// From the wish to end it until it is gone.
const ENDING: SignedDuration = SignedDuration::from_secs(30);
const HOUR: i64 = 3_600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Requested,
    Running,
    Failed,
    Terminating { since: Timestamp },
    Destroyed,
    Completed,
}

#[derive(Debug, Clone)]
pub struct Deployment {
    pub id: String,
    /// `resource_private_name`.
    pub name: String,
    pub hardware: Hardware,
    pub phase: Phase,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// What was bought.
    pub hours: i64,
    /// In micro-dollars, whatever was given back.
    pub paid: i64,
    pub refunded: i64,
    pub config: Value,
    pub image: String,
    /// Never shown again.
    pub secrets: BTreeMap<String, String>,
    pub fails_boot: bool,
    /// Listings that do not show it yet.
    pub unseen: u32,
}

impl Deployment {
    pub(super) fn pass(&mut self, now: Timestamp) {
        if self.phase == Phase::Requested && now >= self.created_at + BOOT {
            let at = self.created_at + BOOT;
            if self.fails_boot {
                (self.phase, self.finished_at) = (Phase::Failed, Some(at));
            } else {
                (self.phase, self.started_at) = (Phase::Running, Some(at));
            }
        }
        let end = self.ends_at();
        match self.phase {
            Phase::Running if end.is_some_and(|end| now >= end) => {
                (self.phase, self.finished_at) = (Phase::Completed, end);
            }
            Phase::Terminating { since } if now >= since + ENDING => {
                self.phase = Phase::Destroyed;
            }
            _ => {}
        }
    }

    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        Some(self.started_at? + SignedDuration::from_secs(self.hours * HOUR))
    }

    /// Begins its end, and gives what goes back to the account: all but the first hour and the time that it ran.
    pub(super) fn terminate(&mut self, now: Timestamp) -> i64 {
        if !matches!(self.phase, Phase::Requested | Phase::Running) {
            return 0;
        }
        let bought = self.hours * HOUR;
        let used = self.served(now).clamp(HOUR, bought.max(HOUR));
        // To the exact second; what is broken stays with the provider.
        self.refunded = self.paid * (bought - used).max(0) / bought;
        (self.phase, self.finished_at) = (Phase::Terminating { since: now }, Some(now));
        self.refunded
    }

    /// Seconds that it ran.
    pub(super) fn served(&self, now: Timestamp) -> i64 {
        let until = self.finished_at.unwrap_or(now);
        let ran = self
            .started_at
            .map_or(0, |started| until.duration_since(started).as_secs());
        ran.clamp(0, self.hours * HOUR)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Failed | Phase::Destroyed | Phase::Completed)
    }

    pub(super) fn is_healthy(&self, now: Timestamp) -> bool {
        self.phase == Phase::Running && self.started_at.is_some_and(|started| now >= started + HEALTHY)
    }

    pub(super) fn status(&self) -> &'static str {
        match self.phase {
            Phase::Requested => "deployment requested",
            Phase::Running => "running",
            Phase::Failed => "failed",
            Phase::Terminating { .. } => "termination requested",
            Phase::Destroyed => "destroyed",
            Phase::Completed => "completed",
        }
    }
}
