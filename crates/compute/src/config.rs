//! The sections `markets:` and `rentals:` of the configuration, as they are written.

use crate::{
    market::{ionet::IoNetConfig, local::LocalConfig, runpod::RunPodConfig, vast::VastConfig},
    rental::bounds::IDLE_MINUTES_MAX,
};
use forebay_domain::{
    Code, Failure,
    money::{Usd, UsdRate},
};
use forebay_runtime::http::AllowList;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A year.
const HOURS_MAX: u32 = 8_760;
const DISK_GB_MAX: u32 = 16_384;

/// Where machines can be rented. What is not named here is not asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MarketsConfig {
    /// vast.ai.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vast: Option<VastConfig>,
    /// io.net.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ionet: Option<IoNetConfig>,
    /// RunPod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runpod: Option<RunPodConfig>,
    /// The machine that the gateway runs on: its GPUs, or shares of its CPU where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalConfig>,
}

/// How machines are rented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RentalsConfig {
    /// Whether renting is agreed to first: `never`, `always`, or where the whole lifetime costs more than `above_usd`.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub approval: ApprovalConfig,
    /// How long a machine lives where nobody says otherwise, in hours. Then it is destroyed.
    #[schemars(range(min = 1, max = 8760), extend("x-forebay-reload" = "live"))]
    pub lifetime_hours: u32,
    /// The longest that a machine may live, in hours.
    #[schemars(range(min = 1, max = 8760), extend("x-forebay-reload" = "live"))]
    pub lifetime_max_hours: u32,
    /// A machine that nobody used through the gateway for so many minutes is destroyed; never for that, where this is
    /// not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 525_600), extend("x-forebay-reload" = "live"))]
    pub idle_minutes: Option<u32>,
    /// A machine that does not run so many minutes after it was rented is destroyed.
    #[schemars(range(min = 1), extend("x-forebay-reload" = "live"))]
    pub boot_minutes: u32,
    /// A machine whose container has ended by itself is destroyed so many minutes later; until then its log can be read.
    #[schemars(range(min = 1), extend("x-forebay-reload" = "live"))]
    pub exited_minutes: u32,
    /// Disk that a machine gets where nobody says otherwise, in GB.
    #[schemars(range(min = 1, max = 16384), extend("x-forebay-reload" = "live"))]
    pub disk_gb: u32,
    /// The image that a machine runs where nobody names one.
    #[schemars(length(min = 1, max = 1024), extend("x-forebay-reload" = "live"))]
    pub image: String,
    /// How long a quote is good, in minutes.
    #[schemars(range(min = 1, max = 1440), extend("x-forebay-reload" = "live"))]
    pub quote_minutes: u32,
    /// How long a list of offers waits for one provider, in milliseconds. What it does not say in time is in the next list.
    #[schemars(range(min = 100, max = 30000), extend("x-forebay-reload" = "live"))]
    pub offers_timeout_ms: u32,
    /// Addresses and networks at which machines may be reached through the gateway although they are not public.
    #[schemars(extend("x-forebay-reload" = "restart"))]
    pub allow_addresses: AllowList,
}

impl Default for RentalsConfig {
    fn default() -> Self {
        Self {
            approval: ApprovalConfig::default(),
            lifetime_hours: 24,
            lifetime_max_hours: 7 * 24,
            idle_minutes: None,
            boot_minutes: 30,
            exited_minutes: 10,
            disk_gb: 20,
            image: "nvidia/cuda:12.0.0-base-ubuntu22.04".to_owned(),
            quote_minutes: 10,
            offers_timeout_ms: 5_000,
            allow_addresses: AllowList::default(),
        }
    }
}

/// Whether renting is agreed to first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalConfig {
    /// The limits of `budgets:` are enough.
    #[default]
    #[schemars(extend("x-forebay-reload" = "live"))]
    Never,
    /// Each time.
    #[schemars(extend("x-forebay-reload" = "live"))]
    Always,
    /// Where the machine costs more than this over its whole lifetime, in US dollars.
    #[schemars(extend("x-forebay-reload" = "live"))]
    AboveUsd(#[schemars(with = "f64")] Usd),
}

impl ApprovalConfig {
    pub(crate) fn is_needed(self, rate: UsdRate, lifetime: Duration) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::AboveUsd(most) => rate.cost_of(lifetime) > most,
        }
    }
}

impl RentalsConfig {
    /// Refuses what cannot be meant, by the key's name.
    pub fn check(&self) -> Result<(), Failure> {
        let wrong = |key: &str, expected: String| {
            let message = format!("`rentals.{key}` has to be {expected}");
            Err(Failure::new(Code::InvalidConfig, message))
        };
        if !(1..=HOURS_MAX).contains(&self.lifetime_max_hours) {
            return wrong("lifetime_max_hours", format!("between 1 and {HOURS_MAX}"));
        }
        if !(1..=self.lifetime_max_hours).contains(&self.lifetime_hours) {
            return wrong(
                "lifetime_hours",
                "at least 1 and at most `lifetime_max_hours`".to_owned(),
            );
        }
        if !(1..=DISK_GB_MAX).contains(&self.disk_gb) {
            return wrong("disk_gb", format!("between 1 and {DISK_GB_MAX}"));
        }
        let minutes = [
            ("boot_minutes", self.boot_minutes),
            ("exited_minutes", self.exited_minutes),
            ("quote_minutes", self.quote_minutes),
            ("idle_minutes", self.idle_minutes.unwrap_or(1)),
        ];
        if let Some((key, _)) = minutes.into_iter().find(|(_, minutes)| *minutes == 0) {
            return wrong(key, "at least 1".to_owned());
        }
        if self.idle_minutes.is_some_and(|minutes| minutes > IDLE_MINUTES_MAX) {
            return wrong("idle_minutes", format!("at most {IDLE_MINUTES_MAX}"));
        }
        if !(100..=30_000).contains(&self.offers_timeout_ms) {
            return wrong("offers_timeout_ms", "between 100 and 30000".to_owned());
        }
        if self.image.is_empty() || self.image.len() > crate::rental::bounds::IMAGE_BYTES_MAX {
            return wrong("image", "the name of an image".to_owned());
        }
        if matches!(self.approval, ApprovalConfig::AboveUsd(most) if most.is_negative()) {
            return wrong("approval.above_usd", "zero or more".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn approval_is_a_word_or_an_amount() {
        let read = |text: &str| serde_json::from_str::<RentalsConfig>(text).unwrap().approval;
        assert_eq!(read("{}"), ApprovalConfig::Never);
        assert_eq!(read(r#"{"approval":"always"}"#), ApprovalConfig::Always);
        let above = read(r#"{"approval":{"above_usd":2.5}}"#);
        let hour = |usd: &str| UsdRate::per_hour(usd.parse().unwrap());
        assert!(!above.is_needed(hour("0.25"), Duration::from_hours(10)));
        assert!(above.is_needed(hour("0.250001"), Duration::from_hours(10)));
        assert!(serde_json::from_str::<RentalsConfig>(r#"{"approval":"sometimes"}"#).is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        assert!(RentalsConfig::default().check().is_ok());
        let wrong = [
            (r#"{"lifetime_hours":200}"#, "lifetime_hours"),
            (r#"{"lifetime_max_hours":0}"#, "lifetime_max_hours"),
            (r#"{"disk_gb":0}"#, "disk_gb"),
            (r#"{"idle_minutes":0}"#, "idle_minutes"),
            (r#"{"exited_minutes":0}"#, "exited_minutes"),
            (r#"{"image":""}"#, "image"),
            (r#"{"offers_timeout_ms":1}"#, "offers_timeout_ms"),
            (r#"{"approval":{"above_usd":-1}}"#, "approval.above_usd"),
        ];
        for (text, key) in wrong {
            let config: RentalsConfig = serde_json::from_str(text).unwrap();
            let refused = config.check().unwrap_err();
            assert!(
                refused.message.contains(&format!("`rentals.{key}`")),
                "{}",
                refused.message
            );
        }
    }
}
