//! Progress of the whole: one report for each call that ended, and in between what the calls themselves report.
//!
//! A client may count on progress that only grows. So what an inner call says moves the whole by a part of one call, and
//! the end of a call by the rest of it, whichever of them says something.

use crate::call::{Client, Step};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Mutex;

/// The most that inner reports may make of one call that has not ended.
const PART_MAX: f64 = 0.99;

/// How much of what is missing a report adds that tells no total.
const CREEP: f64 = 1.0 / 64.0;

/// The longest inner message that is passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 500;

pub(super) struct Pace {
    client: Client,
    total: usize,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    ended: usize,
    running: usize,
    /// How far the calls that run have come, as a part of one call.
    part: f64,
}

/// What an inner call reports.
#[derive(Deserialize)]
pub(super) struct Said {
    progress: f64,
    total: Option<f64>,
    message: Option<String>,
}

impl Pace {
    pub(super) fn new(client: &Client, total: usize) -> Self {
        Self {
            client: client.clone(),
            total,
            now: Mutex::default(),
        }
    }

    pub(super) fn begins(&self) {
        self.now().running += 1;
    }

    pub(super) fn ends(&self, tool: &str, ok: bool) {
        let mut now = self.now();
        now.running = now.running.saturating_sub(1);
        now.ended += 1;
        now.part = 0.0;
        let step = self.step(&now, format!("{tool}: {}", if ok { "ok" } else { "failed" }));
        // Reported under the lock, so that reports leave in the order of their numbers; reporting never waits.
        self.client.report(step);
    }

    /// Passes an inner report on.
    pub(super) fn within(&self, tool: &str, params: &RawValue) {
        let Ok(said) = serde_json::from_str::<Said>(params.get()) else {
            return;
        };
        let mut now = self.now();
        let share = said
            .total
            .filter(|total| *total > 0.0)
            .map_or(0.0, |total| said.progress / total);
        let crept = now.part + (PART_MAX - now.part) * CREEP;
        let part = (share / float(now.running.max(1))).max(crept).min(PART_MAX);
        if part <= now.part {
            return;
        }
        now.part = part;
        let words = said.message.unwrap_or_else(|| match said.total {
            Some(total) => format!("{} of {total}", said.progress),
            None => said.progress.to_string(),
        });
        let words: String = words.chars().take(MESSAGE_CHARS_MAX).collect();
        let step = self.step(&now, format!("{tool}: {words}"));
        self.client.report(step);
    }

    fn step(&self, now: &Now, message: String) -> Step {
        Step {
            progress: float(now.ended) + now.part,
            total: Some(float(self.total)),
            message: Some(message),
        }
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().expect("nobody panics while holding the progress")
    }
}

/// Counts of calls are small.
fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
