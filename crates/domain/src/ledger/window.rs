//! A limit over a time that ends now.

use crate::money::Usd;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A leap year and a day.
pub const MINUTES_MAX: u32 = 367 * 24 * 60;

/// What happens at the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// Nothing goes beyond it.
    #[default]
    Hard,
    /// Whoever listens is told.
    Soft,
}

/// So much in so many minutes. It slides: what was spent just before its beginning no longer counts, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    pub minutes: u32,
    pub limit: Usd,
    pub enforcement: Enforcement,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowFault {
    #[error("a window has 1 to {MINUTES_MAX} minutes, not {0}")]
    Length(u32),
    #[error("a limit is not below zero")]
    Limit,
}

impl Window {
    pub fn new(minutes: u32, limit: Usd, enforcement: Enforcement) -> Result<Self, WindowFault> {
        if !(1..=MINUTES_MAX).contains(&minutes) {
            return Err(WindowFault::Length(minutes));
        }
        if limit.is_negative() {
            return Err(WindowFault::Limit);
        }
        Ok(Self {
            minutes,
            limit,
            enforcement,
        })
    }

    pub fn length(&self) -> Duration {
        Duration::from_mins(u64::from(self.minutes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_a_length_and_a_limit() {
        let window = |minutes, micros| Window::new(minutes, Usd::from_micros(micros), Enforcement::Hard);
        assert_eq!(window(60, 0).unwrap().length(), Duration::from_hours(1));
        assert_eq!(window(0, 1), Err(WindowFault::Length(0)));
        assert_eq!(window(MINUTES_MAX + 1, 1), Err(WindowFault::Length(MINUTES_MAX + 1)));
        assert_eq!(window(1, -1), Err(WindowFault::Limit));
    }
}
