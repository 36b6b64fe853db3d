//! Whether an offer is what somebody looks for.

use super::Wanted;
use forebay_domain::market::Offer;

impl Wanted {
    /// Every bound. What an offer does not say it does not have: whoever asks for a country, or for a reliability, must not
    /// get what may be anything.
    pub(crate) fn takes(&self, offer: &Offer) -> bool {
        let plain = |name: &str| name.replace([' ', '_', '-'], "").to_ascii_lowercase();
        let at_least = |least: Option<u32>, has: u32| least.is_none_or(|least| has >= least);
        let country = |wanted: &str| {
            offer
                .country
                .as_deref()
                .is_some_and(|own| own.eq_ignore_ascii_case(wanted))
        };
        self.gpu
            .as_deref()
            .is_none_or(|gpu| plain(&offer.gpu).contains(&plain(gpu)))
            && at_least(self.vram_gb_min, offer.vram_gb)
            && at_least(self.gpus_min, offer.gpus)
            && self.rate_max.is_none_or(|most| offer.rate <= most)
            && self
                .reliability_min
                .is_none_or(|least| offer.reliability.is_some_and(|has| has >= least))
            && self.country.as_deref().is_none_or(country)
    }

    /// Those that fit, cheapest first, as many as are wanted.
    pub(crate) fn choose(&self, mut offers: Vec<Offer>) -> Vec<Offer> {
        offers.retain(|offer| self.takes(offer));
        offers.sort_by(|one, other| (one.rate, &one.id).cmp(&(other.rate, &other.id)));
        offers.dedup_by(|later, earlier| later.id == earlier.id);
        offers.truncate(self.limit);
        offers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::{
        market::{Billing, OfferId, Provider},
        money::UsdRate,
    };

    fn offer() -> Offer {
        Offer {
            id: OfferId::new(Provider::Vast, "1").unwrap(),
            gpu: "RTX 4090".to_owned(),
            gpus: 1,
            vram_gb: 24,
            cpu_cores: None,
            memory_gb: None,
            disk_gb: 20,
            rate: UsdRate::per_hour("0.4".parse().unwrap()),
            billing: Billing::Accrues,
            country: Some("CA".to_owned()),
            place: None,
            reliability: Some(0.99),
            tier: None,
            longest: None,
        }
    }

    #[test]
    fn an_offer_fits_by_all_that_was_wanted() {
        let wants = |edit: fn(&mut Wanted)| {
            let mut wanted = Wanted::default();
            edit(&mut wanted);
            wanted.takes(&offer())
        };
        assert!(wants(|_| {}));
        assert!(wants(|wanted| wanted.gpu = Some("rtx_4090".to_owned())));
        assert!(!wants(|wanted| wanted.gpu = Some("A100".to_owned())));
        assert!(wants(|wanted| wanted.vram_gb_min = Some(24)));
        assert!(!wants(|wanted| wanted.vram_gb_min = Some(25)));
        assert!(!wants(|wanted| wanted.gpus_min = Some(2)));
        assert!(!wants(
            |wanted| wanted.rate_max = Some(UsdRate::per_hour("0.399999".parse().unwrap()))
        ));
        assert!(!wants(|wanted| wanted.reliability_min = Some(0.995)));
        assert!(wants(|wanted| wanted.country = Some("ca".to_owned())));
        assert!(!wants(|wanted| wanted.country = Some("US".to_owned())));
        let silent = Offer {
            reliability: None,
            country: None,
            ..offer()
        };
        let wanted = |reliability_min: Option<f64>, country: Option<&str>| Wanted {
            reliability_min,
            country: country.map(str::to_owned),
            ..Wanted::default()
        };
        assert!(wanted(None, None).takes(&silent));
        assert!(
            !wanted(Some(0.5), None).takes(&silent),
            "nobody says how reliable it is"
        );
        assert!(!wanted(None, Some("CA")).takes(&silent), "nobody says where it is");
    }
}
