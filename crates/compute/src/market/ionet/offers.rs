//! What can be rented, and for how much: the hardware with its prices, joined with what runs containers.

use super::{
    CONTAINERS, IoNet, MACHINES,
    shape::{ContainerHardware, Detail, Hardware, IntOrText, Place, state},
};
use crate::market::{MachineState, MarketFault, Wanted, names, wire::Call};
use forebay_domain::{
    market::{Billing, Offer, OfferId, Provider},
    money::{Usd, UsdRate},
};
use futures_util::try_join;
use http::Method;
use std::{collections::BTreeMap, fmt, time::Duration};

/// More GPUs than this no container has.
const GPUS_MAX: u32 = 8;
/// So many offers are asked for their price until one says which fee is put on top.
const FEE_TRIES: usize = 3;
/// Never given back.
const FIRST: Duration = Duration::from_hours(1);

/// What the id of an offer says: `caas:203:1:US`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OfferKey {
    pub(super) hardware: IntOrText,
    pub(super) gpus: u32,
    /// A country, or io.net's own id of a place.
    pub(super) location: String,
}

impl fmt::Display for OfferKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hardware = match &self.hardware {
            IntOrText::Int(number) => number.to_string(),
            // A text of digits is another id than the number.
            IntOrText::Text(text) if is_number(text) => format!("%{:02X}{}", text.as_bytes()[0], &text[1..]),
            IntOrText::Text(text) => names::encoded(text),
        };
        write!(f, "caas:{hardware}:{}:{}", self.gpus, names::encoded(&self.location))
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl OfferKey {
    pub(super) fn parse(id: &str) -> Option<Self> {
        let mut parts = id.strip_prefix("caas:")?.split(':');
        let (hardware, gpus, location) = (parts.next()?, parts.next()?, parts.next()?);
        let hardware = if is_number(hardware) {
            IntOrText::Int(hardware.parse().ok()?)
        } else {
            IntOrText::Text(names::decoded(hardware)?)
        };
        let gpus = gpus.parse().ok().filter(|gpus| (1..=GPUS_MAX).contains(gpus))?;
        let location = names::decoded(location).filter(|location| !location.is_empty())?;
        let key = Self {
            hardware,
            gpus,
            location,
        };
        (parts.next().is_none() && key.to_string() == id).then_some(key)
    }

    fn of(hardware: &Hardware) -> Option<Self> {
        Some(Self {
            hardware: hardware.deploy_id.clone(),
            gpus: Some(hardware.cards()).filter(|gpus| (1..=GPUS_MAX).contains(gpus))?,
            location: hardware.location.clone().filter(|location| !location.is_empty())?,
        })
    }
}

/// Two letters, or nothing.
fn country(text: Option<&str>) -> Option<String> {
    let text = text?.trim();
    let is_code = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_code.then(|| text.to_ascii_uppercase())
}

/// An offer of this hardware at this rate, if its id can be written.
fn offer(key: &OfferKey, hardware: &Hardware, rate: UsdRate, place: Option<&Place>) -> Option<Offer> {
    Some(Offer {
        id: OfferId::new(Provider::IoNet, &key.to_string()).ok()?,
        gpu: hardware.name.clone().unwrap_or_default().trim().to_owned(),
        gpus: key.gpus,
        vram_gb: hardware.vram_gb(),
        cpu_cores: hardware.vcpu,
        memory_gb: hardware.memory,
        disk_gb: hardware.disk_gb().unwrap_or(0),
        rate,
        billing: Billing::Prepaid { first: FIRST },
        country: country(place.and_then(|place| place.iso2.as_deref())).or_else(|| country(Some(&key.location))),
        place: place.and_then(|place| place.name.clone()),
        reliability: None,
        tier: hardware.supplier.clone(),
        longest: None,
    })
}

impl IoNet {
    async fn hardware(&self) -> Result<Vec<Hardware>, MarketFault> {
        let answer = self
            .read(Call::new(Method::GET, format!("{MACHINES}/hardware")))
            .await?;
        Hardware::list(&answer.body)
    }

    async fn container_hardware(&self) -> Result<BTreeMap<IntOrText, u32>, MarketFault> {
        let path = format!("{CONTAINERS}/hardware/max-gpus-per-container");
        let answer = self.read(Call::new(Method::GET, path)).await?;
        let rows = ContainerHardware::list(&answer.body)?.into_iter();
        Ok(rows.map(|row| (row.hardware_id, row.max_gpus_per_container)).collect())
    }

    pub(super) async fn all_offers(&self, wanted: &Wanted) -> Result<Vec<Offer>, MarketFault> {
        let (hardware, containers) = try_join!(self.hardware(), self.container_hardware())?;
        let has_disk = |hardware: &Hardware| hardware.disk_gb().is_none_or(|disk| disk >= wanted.disk_gb);
        let mut rows: Vec<(OfferKey, Hardware)> = hardware
            .into_iter()
            .filter(|hardware| {
                containers
                    .get(&hardware.deploy_id)
                    .is_some_and(|most| *most >= hardware.cards())
            })
            .filter(has_disk)
            .filter_map(|hardware| Some((OfferKey::of(&hardware)?, hardware)))
            .collect();
        rows.sort_by_key(|(_, hardware)| hardware.price());
        self.learn_fee(&rows).await?;
        let fee = *self.fee();
        let all_in = |price: Usd| fee.map_or(Some(price), |fee| fee.on(price));
        let offers = rows.iter().filter_map(|(key, hardware)| {
            let rate = UsdRate::per_hour(all_in(hardware.price()?)?);
            offer(key, hardware, rate, None)
        });
        Ok(wanted.choose(offers.collect()))
    }

    /// The list's prices are without io.net's fee, which only the price of one offer tells.
    async fn learn_fee(&self, rows: &[(OfferKey, Hardware)]) -> Result<(), MarketFault> {
        for (key, _) in rows.iter().take(FEE_TRIES) {
            if self.fee().is_some() {
                break;
            }
            match self.place(key).await {
                // Asking is enough: the fee is kept.
                Ok(Some(place)) => match self.price(key, &place, 1).await {
                    Err(why) if why.is_blind() => return Err(why),
                    _ => {}
                },
                Err(why) if why.is_blind() => return Err(why),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) async fn one_offer(&self, id: &str, disk_gb: u32) -> Result<Option<Offer>, MarketFault> {
        let Some(key) = OfferKey::parse(id) else {
            return Ok(None);
        };
        let Some(place) = self.place(&key).await? else {
            return Ok(None);
        };
        let (price, hardware) = try_join!(self.price(&key, &place, 1), self.hardware())?;
        let is_it = |hardware: &&Hardware| {
            let is_there = hardware.location.as_deref().is_none_or(|location| place.is(location));
            hardware.deploy_id == key.hardware && hardware.cards() == key.gpus && is_there
        };
        let (Some(price), Some(hardware)) = (price, hardware.iter().find(is_it)) else {
            return Ok(None);
        };
        if let Some(disk) = hardware.disk_gb().filter(|disk| *disk < disk_gb) {
            return Err(MarketFault::Refused(format!(
                "it has {disk} GB of disk, and no more can be had"
            )));
        }
        Ok(offer(&key, hardware, UsdRate::per_hour(price.total()?), Some(&place)))
    }
}

/// What stays paid for a deployment: all of it while it is there, and after an early end the first hour or the time that
/// it ran, whichever is more. `before` is the most that was ever said to be paid: an amount that has become less since
/// is what stays already.
pub(super) fn stays_paid(detail: &Detail, before: Option<Usd>) -> Option<Usd> {
    let paid = detail.paid()?;
    let (Some(served), Some(bought)) = (detail.served(), detail.bought()) else {
        return Some(paid);
    };
    if state(&detail.status) != MachineState::Ended || bought.is_zero() {
        return Some(paid);
    }
    let kept_of = |paid: Usd| share(paid, served.max(FIRST).min(bought), bought);
    // What was paid may have been reckoned by us, to a hair: the amount is what it is nearer to.
    let is_reduced = match before {
        Some(before) => paid.micros().abs_diff(kept_of(before)?.micros()) < paid.micros().abs_diff(before.micros()),
        None => false,
    };
    if is_reduced { Some(paid) } else { kept_of(paid) }
}

/// The part of an amount, rounded up.
fn share(amount: Usd, part: Duration, whole: Duration) -> Option<Usd> {
    let (part, whole) = (
        i128::try_from(part.as_millis()).ok()?,
        i128::try_from(whole.as_millis()).ok()?,
    );
    let share = i128::from(amount.micros())
        .checked_mul(part)?
        .checked_add(whole - 1)?
        .checked_div(whole)?;
    i64::try_from(share).ok().map(Usd::from_micros)
}

#[cfg(test)]
mod tests {
    use super::{super::shape::in_hours, *};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn an_offer_is_called_by_what_it_is() {
        for id in [
            "caas:203:1:US",
            "caas:gpu_1x_l40:1:FI",
            "caas:8H100.80S.176V:8:3",
            "caas:%3203:2:US",
        ] {
            assert_eq!(OfferKey::parse(id).map(|key| key.to_string()).as_deref(), Some(id));
        }
        let text = OfferKey::parse("caas:%3203:2:US").unwrap();
        assert_eq!(text.hardware, IntOrText::Text("203".to_owned()));
        for id in [
            "",
            "203:1:US",
            "caas:203:1",
            "caas:203:0:US",
            "caas:203:9:US",
            "caas:203:1:US:x",
            "caas:203:01:US",
            "caas:203:1:",
            "caas:%zz:1:US",
            "caas:99999999999999999999:1:US",
            "vmaas:203:1:US",
        ] {
            assert_eq!(OfferKey::parse(id), None, "{id}");
        }
    }

    #[test]
    fn hours_are_whole_however_their_minutes_are_rounded() {
        let minutes = |minutes: u64| in_hours(Duration::from_mins(minutes)).as_secs() / 60;
        assert_eq!([59, 60, 61, 178, 182].map(minutes), [60, 60, 60, 180, 180]);
        assert_eq!([0, 1, 57, 150].map(minutes), [0, 1, 57, 150]);
        assert!(in_hours(Duration::MAX) >= Duration::from_secs(u64::MAX / 2));
    }

    #[test]
    fn an_early_end_gives_back_all_but_what_was_used() {
        let detail = |status: &str, paid: f64, served: f64, remaining: f64| -> Detail {
            let detail = json!({
                "id": "a", "status": status, "amount_paid": paid,
                "compute_minutes_served": served, "compute_minutes_remaining": remaining,
            });
            serde_json::from_value(detail).unwrap()
        };
        let stays = |detail: &Detail, before: Option<&str>| {
            stays_paid(detail, before.map(|before| before.parse().unwrap()))
                .unwrap()
                .to_string()
        };
        assert_eq!(
            stays(&detail("running", 1.32, 30.0, 210.0), None),
            "1.32",
            "nothing is over yet"
        );
        assert_eq!(stays(&detail("destroyed", 1.32, 90.0, 150.0), None), "0.495");
        assert_eq!(
            stays(&detail("Destroyed", 1.32, 5.0, 235.0), None),
            "0.33",
            "the first hour stays"
        );
        assert_eq!(stays(&detail("completed", 1.32, 240.0, 0.0), None), "1.32");
        assert_eq!(
            stays(&detail("destroyed", 0.33, 5.0, 0.0), None),
            "0.33",
            "what nobody can tell is not given back"
        );
        assert_eq!(
            stays(&detail("destroyed", 0.33, 5.0, 235.0), Some("1.32")),
            "0.33",
            "it was taken off already"
        );
        let ended = detail("destroyed", 1.32, 90.0, 150.0);
        assert_eq!(stays(&ended, Some("1.320001")), "0.495", "we reckoned it to a hair");
        assert_eq!(stays(&detail("destroyed", 1.0, 1e300, 1.0), None), "1.00");
    }

    proptest! {
        #[test]
        fn every_offer_comes_back_as_it_went(text in "[ -~é]{1,20}", gpus in 1_u32..=8, location in "[ -~]{1,12}") {
            let hardware = IntOrText::Text(text);
            let key = OfferKey { hardware, gpus, location };
            prop_assert_eq!(OfferKey::parse(&key.to_string()), Some(key));
        }
    }
}
