//! Whether an offer is what somebody looks for.

use super::Wanted;
use forebay_domain::market::Offer;

impl Wanted {
    /// Every bound that can be checked. What an offer does not say is no reason against it, but for its country: whoever
    /// asks for one must not get another.
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
                .is_none_or(|least| offer.reliability.is_none_or(|has| has >= least))
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
