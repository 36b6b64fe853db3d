//! Machines in the one form that every surface shows, and wishes as every surface says them.

use forebay_api::{
    GpuCreate, GpuCreated, GpuEndpoint, GpuInstance, GpuMarket, GpuOffer, GpuOfferList, GpuOfferQuery, GpuQuote,
};
use forebay_compute::{
    market::Wanted,
    rental::{Advice, CreateOutcome, CreateRequest, Mode, OffersReport, Quote, QuoteRequest, Quoted, Rental, What},
};
use forebay_domain::{
    Code, Failure,
    event::Surface,
    id::TraceId,
    market::{Billing, Offer, OfferId, Provider},
    money::{Usd, UsdRate},
};
use serde_json::json;
use std::time::Duration;

const OFFERS_DEFAULT: u32 = 100;
const OFFERS_MAX: u32 = 2_000;
const DISK_GB_DEFAULT: u32 = 20;

pub(crate) fn unfit(field: &str, problem: &str) -> Failure {
    Failure::new(Code::InvalidArguments, format!("`{field}`: {problem}."))
        .details(serde_json::Value::String(format!("{field}: {problem}")))
}

/// One provider by its name; nothing for all of them.
pub(crate) fn provider(name: Option<&str>) -> Result<Option<Provider>, Failure> {
    match name {
        None | Some("all") => Ok(None),
        Some(name) => Provider::parse(name)
            .map(Some)
            .ok_or_else(|| unfit("provider", "it is vast.ai, io.net, runpod, local, or all")),
    }
}

/// What somebody looks for.
pub(crate) fn wanted(query: &GpuOfferQuery) -> Result<Wanted, Failure> {
    let fraction = query.min_reliability.filter(|share| !(0.0..=1.0).contains(share));
    if fraction.is_some() {
        return Err(unfit("min_reliability", "it is from 0 to 1"));
    }
    if query.max_price.is_some_and(Usd::is_negative) {
        return Err(unfit("max_price", "it is not below zero"));
    }
    let is_country = |text: &String| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    if query.country.as_ref().is_some_and(|country| !is_country(country)) {
        return Err(unfit("country", "it is two letters, such as DE (ISO 3166-1)"));
    }
    Ok(Wanted {
        gpu: query.gpu.clone(),
        vram_gb_min: query.min_vram.map(whole_gb).transpose()?,
        gpus_min: query.min_gpus,
        rate_max: query.max_price.map(UsdRate::per_hour),
        reliability_min: query.min_reliability,
        country: query.country.as_ref().map(|country| country.to_uppercase()),
        disk_gb: query.disk_gb.unwrap_or(DISK_GB_DEFAULT),
        limit: query.limit.unwrap_or(OFFERS_DEFAULT).clamp(1, OFFERS_MAX) as usize,
    })
}

fn whole_gb(size: f64) -> Result<u32, Failure> {
    if !(0.0..=10_000.0).contains(&size) {
        return Err(unfit("min_vram", "it is a number of GB"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be positive and small"
    )]
    let whole = size.ceil() as u32;
    Ok(whole)
}

pub(crate) fn offers(report: &OffersReport) -> GpuOfferList {
    let markets = report.markets.iter().map(|market| GpuMarket {
        provider: market.provider,
        state: market.state.as_str().to_owned(),
        offers: market.offers,
        age_s: market.age.map(|age| age.as_secs()),
        trouble: market.fault.clone(),
    });
    GpuOfferList {
        offers: report.offers.iter().map(offer).collect(),
        providers: markets.collect(),
    }
}

fn offer(offer: &Offer) -> GpuOffer {
    GpuOffer {
        id: offer.id.clone(),
        provider: offer.id.provider,
        instance_id: offer.id.id().to_owned(),
        gpu: offer.gpu.clone(),
        gpus: offer.gpus,
        vram_gb: offer.vram_gb,
        price_per_hour_usd: offer.rate.hourly(),
        disk_gb: offer.disk_gb,
        billing: match offer.billing {
            Billing::Accrues => "accrues",
            Billing::Prepaid { .. } => "prepaid",
        }
        .to_owned(),
        cpu_cores: offer.cpu_cores,
        memory_gb: offer.memory_gb,
        country: offer.country.clone(),
        place: offer.place.clone(),
        reliability: offer.reliability,
        tier: offer.tier.clone(),
        longest_hours: offer.longest.map(|longest| longest.as_secs() / 3_600),
    }
}

/// The offer that is meant: by its whole id, or by its provider and the provider's own id. An id that names its provider
/// itself must name the same one.
pub(crate) fn offer_id(wish: &GpuCreate) -> Result<OfferId, Failure> {
    let named = provider(wish.provider.as_deref())?;
    let text = wish.offer_id.as_deref().or(wish.instance_id.as_deref());
    let text = text.ok_or_else(|| unfit("instance_id", "it is required, or `offer_id`"))?;
    let whole: Result<OfferId, _> = text.parse();
    let id = match (whole, named) {
        (Ok(id), None) => id,
        (Ok(id), Some(provider)) if id.provider == provider => id,
        // An id of one provider may look like the name of another, with something behind it.
        (_, Some(provider)) if wish.offer_id.is_none() => {
            OfferId::new(provider, text).map_err(|fault| unfit("instance_id", &fault.to_string()))?
        }
        (Ok(_), Some(_)) => return Err(unfit("provider", "it is another one than that of the offer")),
        (Err(fault), _) if wish.offer_id.is_some() => return Err(unfit("offer_id", &fault.to_string())),
        (Err(_), _) => return Err(unfit("provider", "it is required")),
    };
    Ok(id)
}

pub(crate) fn quote_request(wish: &GpuCreate) -> Result<QuoteRequest, Failure> {
    Ok(QuoteRequest {
        offer: offer_id(wish)?,
        image: wish.image.clone(),
        disk_gb: wish.disk_gb,
        lifetime: wish.hours.map(hours),
        idle: wish.idle_minutes.map(minutes),
    })
}

pub(crate) fn create_request(
    wish: &GpuCreate,
    key: Option<String>,
    (surface, trace): (Surface, TraceId),
) -> Result<CreateRequest, Failure> {
    let what = match &wish.quote_id {
        Some(quote) => What::Quote(quoted(wish, quote)?),
        None => What::Offer(offer_id(wish)?),
    };
    Ok(CreateRequest {
        what,
        image: wish.image.clone(),
        disk_gb: wish.disk_gb,
        ports: wish.ports.clone(),
        env: wish.env.clone(),
        lifetime: wish.hours.map(hours),
        idle: wish.idle_minutes.map(minutes),
        idempotency_key: key.or_else(|| wish.idempotency_key.clone()),
        mode: if wish.dry_run { Mode::DryRun } else { Mode::Do },
        trace,
        surface,
    })
}

/// What is said of the offer beside its quote has to be true.
fn quoted(wish: &GpuCreate, quote: &str) -> Result<Quoted, Failure> {
    let is_named = wish.offer_id.is_some() || wish.instance_id.is_some();
    Ok(Quoted {
        id: quote.to_owned(),
        provider: provider(wish.provider.as_deref())?,
        offer: is_named.then(|| offer_id(wish)).transpose()?,
    })
}

pub(crate) fn hours(hours: u32) -> Duration {
    Duration::from_hours(u64::from(hours))
}

fn minutes(minutes: u32) -> Duration {
    Duration::from_mins(u64::from(minutes))
}

/// Why the limits would say no, if they would; and of what they would warn.
pub(super) fn advice(advice: &Advice) -> (Option<String>, Vec<String>) {
    match advice {
        Advice::Fits { warnings } => (None, warnings.iter().map(ToString::to_string).collect()),
        Advice::Above(overrun) => (Some(overrun.to_string()), Vec::new()),
        Advice::NoLimit => (
            Some("it costs money, and no spending limit counts for you; one has to be set first".to_owned()),
            Vec::new(),
        ),
    }
}

pub(crate) fn quote(quote: &Quote) -> GpuQuote {
    let (reason, warnings) = advice(&quote.advice);
    GpuQuote {
        id: quote.id.clone(),
        offer: offer(&quote.offer),
        image: quote.image.clone(),
        disk_gb: quote.disk_gb,
        hours: quote.lifetime.as_secs_f64() / 3_600.0,
        price_per_hour_usd: quote.rate.hourly(),
        first_hold_usd: quote.first_hold,
        most_usd: quote.most,
        expires_at: quote.expires_at,
        needs_approval: quote.needs_approval,
        allowed: reason.is_none(),
        reason,
        warnings,
    }
}

pub(crate) fn created(outcome: &CreateOutcome) -> GpuCreated {
    let (word, instance_of, quote_of) = match outcome {
        CreateOutcome::Rented(rental) => ("rented", Some(instance(rental)), None),
        CreateOutcome::DryRun(promised) => ("dry_run", None, Some(quote(promised))),
        CreateOutcome::NeedsApproval(promised) => ("needs_approval", None, Some(quote(promised))),
    };
    GpuCreated {
        outcome: word.to_owned(),
        instance: instance_of,
        quote: quote_of,
    }
}

pub(crate) fn instance(rental: &Rental) -> GpuInstance {
    let endpoint = |(port, url): (&u16, &String)| GpuEndpoint {
        port: *port,
        url: url.clone(),
    };
    let agent = match (rental.bare, rental.reported_at) {
        (true, _) => "none",
        (false, None) => "waited_for",
        (false, Some(_)) => "reported",
    };
    GpuInstance {
        id: rental.id.clone(),
        provider: rental.provider(),
        instance_id: rental.machine.clone(),
        offer_id: rental.offer.clone(),
        state: rental.state.as_str().to_owned(),
        status: rental.status.clone(),
        gpu: rental.gpu.clone(),
        gpus: rental.gpus,
        vram_gb: rental.vram_gb,
        image: rental.image.clone(),
        disk_gb: rental.disk_gb,
        price_per_hour_usd: rental.rate.hourly(),
        price_now_per_hour_usd: (rental.ended_at.is_none() && rental.burn > rental.rate).then(|| rental.burn.hourly()),
        spent_usd: rental.spent,
        created_at: rental.created_at,
        ends_by: rental.ends_by,
        ended_at: rental.ended_at,
        why: rental.why.map(|why| why.as_str().to_owned()),
        trouble: rental.fault.clone(),
        endpoints: rental.endpoints.iter().map(endpoint).collect(),
        agent: agent.to_owned(),
        agent_reported_at: rental.reported_at,
        tenant: rental.tenant().to_string(),
        subject: rental.subject().to_string(),
    }
}

/// A value of our own API as JSON.
pub(crate) fn told<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_else(|_| json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wish: &serde_json::Value, expected: &str) {
        let parsed: GpuCreate = serde_json::from_value(wish.clone()).unwrap();
        let got = offer_id(&parsed).map_or_else(|failure| failure.message, |id| id.to_string());
        assert_eq!(got, expected, "{wish}");
    }

    #[test]
    fn an_offer_is_meant_by_its_whole_id_or_by_its_provider_and_the_rest() {
        check(&json!({"provider": "vast.ai", "instance_id": "12345"}), "vast.ai:12345");
        check(&json!({"instance_id": "vast.ai:12345"}), "vast.ai:12345");
        check(
            &json!({"provider": "vast", "instance_id": "vast.ai:12345"}),
            "vast.ai:12345",
        );
        check(&json!({"offer_id": "io.net:caas:1"}), "io.net:caas:1");
        check(&json!({"provider": "io.net", "instance_id": "vast:1"}), "io.net:vast:1");
        check(
            &json!({"provider": "io.net", "offer_id": "vast.ai:1"}),
            "`provider`: it is another one than that of the offer.",
        );
        check(&json!({"instance_id": "12345"}), "`provider`: it is required.");
        check(
            &json!({"provider": "vast.ai"}),
            "`instance_id`: it is required, or `offer_id`.",
        );
    }

    /// Over REST and the command line no schema stands in front of it.
    #[test]
    fn an_offer_cannot_be_looked_for_by_what_none_could_have() {
        let look = |query: serde_json::Value| wanted(&serde_json::from_value(query).unwrap());
        for (query, field) in [
            (json!({"country": "Germany"}), "country"),
            (json!({"country": "Ü"}), "country"),
            (json!({"min_reliability": 1.1}), "min_reliability"),
            (json!({"min_vram": -1}), "min_vram"),
            (json!({"max_price": -0.5}), "max_price"),
        ] {
            let failure = look(query.clone()).unwrap_err();
            assert_eq!(failure.code, Code::InvalidArguments, "{query}");
            assert!(
                failure.message.contains(&format!("`{field}`")),
                "{query}: {}",
                failure.message
            );
        }
        assert_eq!(look(json!({"country": "de"})).unwrap().country.as_deref(), Some("DE"));
    }

    #[test]
    fn what_is_said_beside_a_quote_goes_along_with_it() {
        let via = (Surface::Api, TraceId::from_bytes([7; 16]).unwrap());
        let asked = |wish: serde_json::Value| {
            let parsed: GpuCreate = serde_json::from_value(wish).unwrap();
            create_request(&parsed, None, via).map(|request| request.what)
        };
        let quoted = |provider, offer: Option<&str>| {
            What::Quote(Quoted {
                id: "q-1".to_owned(),
                provider,
                offer: offer.map(|offer| offer.parse().unwrap()),
            })
        };
        assert_eq!(asked(json!({"quote_id": "q-1"})).unwrap(), quoted(None, None));
        assert_eq!(
            asked(json!({"quote_id": "q-1", "provider": "io.net"})).unwrap(),
            quoted(Some(Provider::IoNet), None)
        );
        assert_eq!(
            asked(json!({"quote_id": "q-1", "provider": "vast.ai", "instance_id": "7"})).unwrap(),
            quoted(Some(Provider::Vast), Some("vast.ai:7"))
        );
        assert_eq!(
            asked(json!({"quote_id": "q-1", "offer_id": "vast.ai:7"})).unwrap(),
            quoted(None, Some("vast.ai:7"))
        );
        assert!(
            asked(json!({"quote_id": "q-1", "instance_id": "7"})).is_err(),
            "of which provider?"
        );
    }

    #[test]
    fn sizes_are_whole_gigabytes_rounded_up() {
        let size = |min_vram| {
            let query = GpuOfferQuery {
                min_vram: Some(min_vram),
                ..GpuOfferQuery::default()
            };
            wanted(&query).map(|wanted| wanted.vram_gb_min)
        };
        assert_eq!(size(24.0).unwrap(), Some(24));
        assert_eq!(size(23.5).unwrap(), Some(24));
        assert!(size(-1.0).is_err() && size(f64::NAN).is_err());
    }
}
