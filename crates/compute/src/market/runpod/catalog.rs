//! What can be rented, and for how much: kinds of GPU, by the cloud that has them and by their number.

use super::{RunPod, judge};
use crate::market::{MarketFault, Wanted, names, said::amount, wire::Call};
use forebay_domain::{
    market::{Billing, Offer, OfferId, Provider},
    money::{Usd, UsdRate},
};
use futures_util::future::try_join_all;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use std::fmt;

/// How many GPUs of a kind are offered together, unless somebody wants another number of them.
const COUNTS: [u32; 4] = [1, 2, 4, 8];
/// More than this no pod has.
const COUNT_MAX: u32 = 16;
/// First parts of ids of data centres that are no countries: those name a country in their second part.
const REGIONS: [&str; 9] = ["EU", "EUR", "AP", "OC", "SEA", "AS", "AF", "SA", "NA"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cloud {
    Secure,
    Community,
}

impl Cloud {
    const ALL: [Self; 2] = [Self::Secure, Self::Community];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Secure => "SECURE",
            Self::Community => "COMMUNITY",
        }
    }
}

/// What the id of an offer says: `NVIDIA%20L4:SECURE:1`, and after one more colon the country where it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OfferKey {
    pub(super) gpu: String,
    pub(super) cloud: Cloud,
    pub(super) count: u32,
    pub(super) country: Option<String>,
}

impl fmt::Display for OfferKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}",
            names::encoded(&self.gpu),
            self.cloud.as_str(),
            self.count
        )?;
        match &self.country {
            Some(country) => write!(f, ":{country}"),
            None => Ok(()),
        }
    }
}

impl OfferKey {
    pub(super) fn parse(id: &str) -> Option<Self> {
        let mut parts = id.split(':');
        let (gpu, cloud, count) = (parts.next()?, parts.next()?, parts.next()?);
        let key = Self {
            gpu: names::decoded(gpu).filter(|gpu| !gpu.is_empty())?,
            cloud: Cloud::ALL.into_iter().find(|known| known.as_str() == cloud)?,
            count: count.parse().ok().filter(|count| (1..=COUNT_MAX).contains(count))?,
            country: parts.next().map(str::to_owned),
        };
        let is_country = |country: &String| country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
        let is_canonical = key.country.iter().all(is_country) && key.to_string() == id;
        (parts.next().is_none() && is_canonical).then_some(key)
    }
}

/// A kind of GPU.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Gpu {
    id: String,
    #[serde(default)]
    name: Option<String>,
    /// Of one, in GB.
    #[serde(default)]
    memory: Option<f64>,
    #[serde(default)]
    secure: Option<bool>,
    #[serde(default)]
    community: Option<bool>,
    #[serde(default)]
    price: Option<Pair<Value>>,
    #[serde(default)]
    max_count: Option<Pair<Option<u32>>>,
    #[serde(default)]
    availability: Option<String>,
    #[serde(default)]
    data_centers: Option<Vec<DataCenter>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Pair<T> {
    #[serde(default)]
    secure: T,
    #[serde(default)]
    community: T,
}

impl<T> Pair<T> {
    fn of(&self, cloud: Cloud) -> &T {
        match cloud {
            Cloud::Secure => &self.secure,
            Cloud::Community => &self.community,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
struct DataCenter {
    id: String,
    #[serde(default)]
    availability: Option<String>,
}

#[derive(Deserialize)]
struct Catalog {
    gpus: Vec<Value>,
}

fn is_there(availability: Option<&str>) -> bool {
    availability.is_none_or(|availability| !availability.eq_ignore_ascii_case("NONE"))
}

/// The country of a data centre, as its id says it: `US-KS-2`, `EU-RO-1`.
fn country_of(data_center: &str) -> Option<&str> {
    let mut parts = data_center.split('-');
    let first = parts.next()?;
    let country = if REGIONS.contains(&first) { parts.next()? } else { first };
    let is_code = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
    is_code.then_some(country)
}

impl Gpu {
    /// One that cannot be read is not offered.
    pub(super) fn list(body: &[u8]) -> Result<Vec<Self>, MarketFault> {
        let catalog: Result<Catalog, _> = serde_json::from_slice(body);
        let catalog = catalog.map_err(|error| MarketFault::Broken(MarketFault::words(&error.to_string())))?;
        Ok(catalog
            .gpus
            .into_iter()
            .filter_map(|gpu| serde_json::from_value(gpu).ok())
            .collect())
    }

    /// Of an hour of one; `None` where this cloud does not have so many of them to offer.
    fn price(&self, cloud: Cloud, count: u32) -> Option<Usd> {
        let has = match cloud {
            Cloud::Secure => self.secure,
            Cloud::Community => self.community,
        };
        let most = self.max_count.as_ref().and_then(|most| *most.of(cloud));
        let is_offered = has != Some(false) && most.is_none_or(|most| most >= count);
        let price = amount(self.price.as_ref()?.of(cloud)).filter(|price| *price > Usd::ZERO)?;
        (is_offered && is_there(self.availability.as_deref())).then_some(price)
    }

    /// Data centres of a country that have it.
    pub(super) fn places(&self, country: &str) -> Vec<String> {
        let here =
            |place: &&DataCenter| country_of(&place.id) == Some(country) && is_there(place.availability.as_deref());
        let places = self.data_centers.iter().flatten().filter(here);
        places.map(|place| place.id.clone()).collect()
    }

    fn vram_gb(&self) -> u32 {
        let gb = self
            .memory
            .and_then(|gb| std::time::Duration::try_from_secs_f64(gb).ok());
        gb.and_then(|gb| u32::try_from(gb.as_secs()).ok()).unwrap_or(0)
    }
}

impl RunPod {
    pub(super) async fn all_offers(&self, wanted: &Wanted) -> Result<Vec<Offer>, MarketFault> {
        let least = wanted.gpus_min.unwrap_or(1).max(1);
        let mut counts: Vec<u32> = COUNTS.into_iter().filter(|count| *count >= least).collect();
        if !counts.contains(&least) && least <= COUNT_MAX {
            counts.push(least);
        }
        let country = wanted.country.as_deref().map(str::to_ascii_uppercase);
        let asked = counts.iter().map(|count| self.catalog(*count, country.as_deref()));
        let catalogs = try_join_all(asked).await?;
        let mut offers = Vec::new();
        for (count, gpus) in counts.into_iter().zip(&catalogs) {
            for (gpu, cloud) in gpus.iter().flat_map(|gpu| Cloud::ALL.map(|cloud| (gpu, cloud))) {
                let key = OfferKey {
                    gpu: gpu.id.clone(),
                    cloud,
                    count,
                    country: country.clone(),
                };
                offers.extend(self.offer_of(&key, gpu, wanted.disk_gb));
            }
        }
        Ok(wanted.choose(offers))
    }

    async fn catalog(&self, count: u32, country: Option<&str>) -> Result<Vec<Gpu>, MarketFault> {
        let mut call = availability(Self::get("/catalog/gpus"), count);
        if let Some(country) = country {
            call = call.query("countryCodes", country);
        }
        Gpu::list(&self.read(call).await?.body)
    }

    /// The kind of GPU of an offer, read anew; `None` where there is none any more.
    pub(super) async fn gpu(&self, key: &OfferKey) -> Result<Option<Gpu>, MarketFault> {
        let path = format!("/catalog/gpus/{}", names::encoded(&key.gpu));
        let call = availability(Self::get(path), key.count).query("cloud", key.cloud.as_str());
        let answer = self.api.ask(call).await?;
        if answer.status == StatusCode::NOT_FOUND && judge::is_problem(&answer) {
            return Ok(None);
        }
        if answer.status != StatusCode::OK {
            return Err(judge::fault(&answer));
        }
        let gpu: Result<Gpu, _> = serde_json::from_slice(&answer.body);
        let gpu = gpu.map_err(|error| MarketFault::Broken(MarketFault::words(&error.to_string())))?;
        if gpu.id != key.gpu {
            return Err(MarketFault::Broken("it answers with another GPU".to_owned()));
        }
        Ok(Some(gpu))
    }

    pub(super) async fn one_offer(&self, id: &str, disk_gb: u32) -> Result<Option<Offer>, MarketFault> {
        let Some(key) = OfferKey::parse(id) else {
            return Ok(None);
        };
        let gpu = self.gpu(&key).await?;
        Ok(gpu.and_then(|gpu| self.offer_of(&key, &gpu, disk_gb)))
    }

    fn offer_of(&self, key: &OfferKey, gpu: &Gpu, disk_gb: u32) -> Option<Offer> {
        let price = gpu.price(key.cloud, key.count)?;
        let is_in_place = key
            .country
            .as_deref()
            .is_none_or(|country| !gpu.places(country).is_empty());
        let disk_gb = disk_gb.max(1);
        let all = price.micros().checked_mul(i64::from(key.count)).map(Usd::from_micros)?;
        is_in_place.then_some(Offer {
            id: OfferId::new(Provider::RunPod, &key.to_string()).ok()?,
            gpu: gpu.name.clone().unwrap_or_else(|| gpu.id.clone()).trim().to_owned(),
            gpus: key.count,
            vram_gb: gpu.vram_gb(),
            cpu_cores: None,
            memory_gb: None,
            disk_gb,
            rate: UsdRate::per_hour(all).saturating_add(self.disk_rate(disk_gb)),
            billing: Billing::Accrues,
            country: key.country.clone(),
            place: None,
            reliability: None,
            tier: Some(key.cloud.as_str().to_ascii_lowercase()),
            longest: None,
        })
    }
}

fn availability(call: Call, count: u32) -> Call {
    let call = call.query("include", "AVAILABILITY").query("product", "POD");
    call.query("count", count.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_offer_is_called_by_what_it_is() {
        for id in [
            "NVIDIA%20GeForce%20RTX%204090:SECURE:1",
            "NVIDIA%20L4:COMMUNITY:2",
            "A:SECURE:8:US",
        ] {
            assert_eq!(OfferKey::parse(id).map(|key| key.to_string()).as_deref(), Some(id));
        }
        for id in [
            "",
            "A",
            "A:SECURE",
            "A:secure:1",
            "A:SECURE:0",
            "A:SECURE:17",
            "A:SECURE:01",
            "A:SECURE:1:us",
            "A:SECURE:1:USA",
            "A:SECURE:1:US:x",
            ":SECURE:1",
            "A B:SECURE:1",
            "A%2:SECURE:1",
            "A:SECURE:1:",
        ] {
            assert_eq!(OfferKey::parse(id), None, "{id}");
        }
    }

    #[test]
    fn data_centres_say_their_country() {
        for (id, country) in [
            ("US-KS-2", Some("US")),
            ("EU-RO-1", Some("RO")),
            ("CA-MTL-1", Some("CA")),
            ("EUR-IS-1", Some("IS")),
            ("AP-JP-1", Some("JP")),
            ("SEA-SG-1", Some("SG")),
            ("EU", None),
            ("somewhere", None),
            ("", None),
        ] {
            assert_eq!(country_of(id), country, "{id}");
        }
    }

    proptest! {
        #[test]
        fn every_offer_comes_back_as_it_went(gpu in "[ -~é]{1,20}", count in 1_u32..=16, at in prop::option::of("[A-Z]{2}")) {
            let key = OfferKey { gpu, cloud: Cloud::Community, count, country: at };
            prop_assert_eq!(OfferKey::parse(&key.to_string()), Some(key));
        }

        #[test]
        fn no_bytes_break_the_catalogue(body in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Gpu::list(&body).is_err());
        }
    }
}
