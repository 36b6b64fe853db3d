//! Machines for rent: offers of all providers in one form, and the names by which they are called.

use crate::money::UsdRate;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, time::Duration};

/// Longest id of an offer or an instance by its provider, in bytes.
pub const PROVIDER_ID_BYTES_MAX: usize = 200;

/// Where machines come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provider {
    Vast,
    IoNet,
    RunPod,
    /// The machine that the gateway runs on.
    Local,
}

impl Provider {
    pub const ALL: [Self; 4] = [Self::Vast, Self::IoNet, Self::RunPod, Self::Local];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vast => "vast.ai",
            Self::IoNet => "io.net",
            Self::RunPod => "runpod",
            Self::Local => "local",
        }
    }

    /// By its name, or by the one that its section of the configuration has.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "vast" | "vast.ai" => Some(Self::Vast),
            "ionet" | "io.net" => Some(Self::IoNet),
            "runpod" | "runpod.io" => Some(Self::RunPod),
            "local" => Some(Self::Local),
            _ => None,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Provider {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Provider {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(MarketIdFault::Provider(text)))
    }
}

/// An offer by its provider and the provider's own id of it: `vast.ai:21874411`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferId {
    pub provider: Provider,
    /// Means something to the provider alone.
    id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarketIdFault {
    #[error("{0:?} is no provider; there are vast.ai, io.net, runpod and local")]
    Provider(String),
    #[error("{0:?} is no id of an offer; one looks like `vast.ai:21874411`")]
    Id(String),
}

impl OfferId {
    pub fn new(provider: Provider, id: &str) -> Result<Self, MarketIdFault> {
        let is_printable = id.bytes().all(|byte| byte.is_ascii_graphic());
        if id.is_empty() || id.len() > PROVIDER_ID_BYTES_MAX || !is_printable {
            return Err(MarketIdFault::Id(id.chars().take(40).collect()));
        }
        Ok(Self {
            provider,
            id: id.to_owned(),
        })
    }

    /// The provider's own.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.provider, self.id)
    }
}

impl FromStr for OfferId {
    type Err = MarketIdFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || MarketIdFault::Id(text.chars().take(40).collect());
        let (provider, id) = text.split_once(':').ok_or_else(malformed)?;
        let provider = Provider::parse(provider).ok_or_else(malformed)?;
        Self::new(provider, id)
    }
}

impl Serialize for OfferId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OfferId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A machine that can be rented now.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    pub id: OfferId,
    /// As the trade calls it, such as `RTX 4090`; empty where it has none.
    pub gpu: String,
    pub gpus: u32,
    /// Of one GPU, in the size that it is sold as: 24 for a card that reports 24,564 MiB.
    pub vram_gb: u32,
    /// Share of the machine's cores.
    pub cpu_cores: Option<f64>,
    pub memory_gb: Option<f64>,
    /// What `rate` contains of disk.
    pub disk_gb: u32,
    /// All in: every GPU, and the disk. Traffic is not.
    pub rate: UsdRate,
    pub billing: Billing,
    /// ISO 3166-1, two letters.
    pub country: Option<String>,
    /// As the provider writes it.
    pub place: Option<String>,
    /// From 0 to 1.
    pub reliability: Option<f64>,
    /// Within what a provider tells apart, such as `secure` and `community`.
    pub tier: Option<String>,
    /// How long it can be had at most.
    pub longest: Option<Duration>,
}

/// When it is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Billing {
    /// While it runs.
    Accrues,
    /// Whole hours before they begin; `first` of them are never given back.
    Prepaid { first: Duration },
}

/// Sizes in GB that GPUs are sold with.
const NOMINAL_GB: [u32; 25] = [
    2, 3, 4, 5, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 96, 128, 141, 180, 192, 256, 288,
];

/// The size that a GPU of so many MiB is sold as. Cards report up to a tenth less, which they keep for themselves: 24,564
/// MiB and an L4's 22,528 are 24 GB, and 16,376 are 16.
pub fn nominal_vram_gb(reported_mib: u64) -> u32 {
    let fits = |nominal: &u32| {
        let whole = u64::from(*nominal) * 1024;
        reported_mib <= whole && reported_mib * 10 >= whole * 9
    };
    let floor = || u32::try_from(reported_mib / 1024).unwrap_or(u32::MAX);
    NOMINAL_GB.into_iter().find(fits).unwrap_or_else(floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_have_the_size_that_they_are_sold_as() {
        for (reported, nominal) in [
            (24_564, 24),
            (24_576, 24),
            (22_528, 24),
            (23_028, 24),
            (16_376, 16),
            (11_019, 11),
            (46_068, 48),
            (49_140, 48),
            (81_559, 80),
            (95_830, 94),
            (97_887, 96),
            (143_771, 141),
            (7_000, 6),
            (300_000, 292),
            (0, 0),
        ] {
            assert_eq!(nominal_vram_gb(reported), nominal, "{reported} MiB");
        }
    }

    #[test]
    fn ids_of_offers_come_back_as_they_went() {
        for text in [
            "vast.ai:21874411",
            "io.net:caas:gpu_1x_l40:1:US",
            "runpod:NVIDIA-L4/SECURE",
            "local:cpu-0",
        ] {
            let id: OfferId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(
                serde_json::from_value::<OfferId>(serde_json::to_value(&id).unwrap()).unwrap(),
                id
            );
        }
        assert_eq!("vast:7".parse::<OfferId>().unwrap().to_string(), "vast.ai:7");
        for text in ["21874411", "aws:1", "vast.ai:", "vast.ai:a b", "vast.ai:\n", ":1", ""] {
            assert!(text.parse::<OfferId>().is_err(), "{text:?}");
        }
        assert!(OfferId::new(Provider::Vast, &"1".repeat(PROVIDER_ID_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn providers_have_their_names() {
        for provider in Provider::ALL {
            assert_eq!(Provider::parse(provider.as_str()), Some(provider));
        }
        assert!(serde_json::from_str::<Provider>("\"aws\"").is_err());
    }
}
