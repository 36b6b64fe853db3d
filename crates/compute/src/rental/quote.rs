//! What renting would cost, and what limits would say to it.

use super::{
    Rentals,
    body::Paying,
    bounds::IDLE_MINUTES_MAX,
    label,
    record::after,
    types::{Advice, Done, Quote, QuoteRequest, ask},
};
use crate::config::RentalsConfig;
use forebay_domain::{
    Code, Failure, Principal,
    ledger::{Ask, Payer, Standing},
    market::{Billing, Offer, OfferId, Provider},
    money::{Usd, UsdRate},
};
use forebay_store::{rentals::StoredQuote, responses::ResponseOwner};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
/// What is set aside at once for a machine that costs while it runs.
pub(super) const HORIZON: Duration = HOUR;

/// What somebody wants of a machine, before defaults.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    pub image: Option<String>,
    pub disk_gb: Option<u32>,
    pub lifetime: Option<Duration>,
    pub idle: Option<Duration>,
}

/// What exactly would be rented, and what it costs.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub offer: Offer,
    pub image: String,
    pub disk_gb: u32,
    pub lifetime: Duration,
    pub idle: Option<Duration>,
    pub paying: Paying,
    pub hours: u32,
    pub first_hold: Usd,
}

/// A quote as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct QuoteBody {
    offer: OfferId,
    image: String,
    disk_gb: u32,
    lifetime: Duration,
    idle: Option<Duration>,
    nanos_per_hour: i64,
    first_hold: Usd,
}

/// What was promised.
pub(super) struct Promise {
    pub offer: OfferId,
    pub wish: Wish,
    pub rate: UsdRate,
    pub first_hold: Usd,
}

impl Terms {
    /// Puts an offer and a wish together.
    pub(super) fn of(offer: Offer, wish: Wish, config: &RentalsConfig) -> Done<Self> {
        let paying = match offer.billing {
            Billing::Accrues => Paying::Accrues,
            Billing::Prepaid { .. } => Paying::Prepaid,
        };
        let lifetime = lifetime(&offer, wish.lifetime, paying, config)?;
        let hours = u32::try_from(lifetime.as_secs().div_ceil(HOUR.as_secs())).unwrap_or(u32::MAX);
        let first = match paying {
            Paying::Accrues => lifetime.min(HORIZON),
            Paying::Prepaid => lifetime,
        };
        Ok(Self {
            image: wish.image.unwrap_or_else(|| config.image.clone()),
            disk_gb: wish.disk_gb.unwrap_or(config.disk_gb),
            first_hold: offer.rate.cost_of(first),
            offer,
            lifetime,
            idle: wish.idle,
            paying,
            hours,
        })
    }

    pub(super) fn is_free(&self) -> bool {
        self.offer.rate == UsdRate::ZERO
    }

    /// Whether that is the time that they are for; prepaid time is bought by the hour.
    pub(super) fn is_for(&self, wanted: Duration) -> bool {
        match self.paying {
            Paying::Accrues => self.lifetime == wanted,
            Paying::Prepaid => self.lifetime == whole_hours(wanted),
        }
    }

    pub(super) fn ask(&self) -> Ask {
        match self.paying {
            Paying::Accrues => ask(self.first_hold, self.offer.rate),
            Paying::Prepaid => ask(self.first_hold, UsdRate::ZERO),
        }
    }
}

/// What uses a machine of this host is not seen, so that none of them is ever idle.
fn idle(provider: Provider, wanted: Option<Duration>, config: &RentalsConfig) -> Done<Option<Duration>> {
    match (provider, wanted) {
        (Provider::Local, None) => Ok(None),
        (Provider::Local, Some(_)) => {
            let message = "nobody sees whether a machine of this host is used, so no idle time ends one";
            Err(Failure::new(Code::InvalidArguments, message).hint("Name a lifetime instead."))
        }
        (_, wanted) => {
            let usual = config.idle_minutes.map(|minutes| Duration::from_mins(minutes.into()));
            Ok(wanted.or(usual))
        }
    }
}

/// Prepaid time is bought by the hour, and no more of it than somebody asked for: it can be extended.
fn lifetime(offer: &Offer, wanted: Option<Duration>, paying: Paying, config: &RentalsConfig) -> Done<Duration> {
    let default = match paying {
        Paying::Accrues => Duration::from_hours(config.lifetime_hours.into()),
        Paying::Prepaid => HOUR,
    };
    let mut lifetime = wanted.unwrap_or(default);
    if paying == Paying::Prepaid {
        lifetime = whole_hours(lifetime);
    }
    let longest = Duration::from_hours(config.lifetime_max_hours.into());
    let longest = offer.longest.map_or(longest, |offered| offered.min(longest));
    if wanted.is_none() {
        lifetime = lifetime.min(longest);
    }
    within(lifetime, longest)?;
    Ok(lifetime)
}

fn within(lifetime: Duration, longest: Duration) -> Done<()> {
    if lifetime.is_zero() || lifetime > longest {
        let minutes = longest.as_secs() / 60;
        let message = format!("this machine can live for 1 to {minutes} minutes");
        return Err(Failure::new(Code::InvalidArguments, message));
    }
    Ok(())
}

fn whole_hours(time: Duration) -> Duration {
    let hours = time.as_secs().div_ceil(HOUR.as_secs());
    HOUR.saturating_mul(u32::try_from(hours).unwrap_or(u32::MAX))
}

/// What somebody names who agrees to no quote: a quote is rented as it was promised.
pub(super) fn check_idle(wanted: Option<Duration>, config: &RentalsConfig) -> Done<()> {
    let most = config.idle_minutes.unwrap_or(IDLE_MINUTES_MAX);
    let may_be = Duration::from_mins(1)..=Duration::from_mins(most.into());
    if wanted.is_none_or(|wanted| may_be.contains(&wanted)) {
        return Ok(());
    }
    let message = format!("a machine here ends when it was idle for 1 to {most} minutes");
    Err(Failure::new(Code::InvalidArguments, message).hint("Name an idle time within that, or none."))
}

impl Rentals {
    /// Reads the offer anew, prices it, and promises that price for a while.
    pub async fn quote(&self, principal: &Principal, request: QuoteRequest) -> Done<Quote> {
        check_idle(request.idle, &self.0.config.load())?;
        let wish = Wish {
            image: request.image,
            disk_gb: request.disk_gb,
            lifetime: request.lifetime,
            idle: request.idle,
        };
        let terms = self.terms(&request.offer, wish).await?;
        self.promise(principal, &terms).await
    }

    /// The offer as it is now.
    pub(super) async fn terms(&self, id: &OfferId, wish: Wish) -> Done<Terms> {
        let config = self.0.config.load_full();
        let disk_gb = wish.disk_gb.unwrap_or(config.disk_gb);
        // What is wrong whatever the offer is costs no look at its provider, which lets itself be asked only so often.
        super::check::wish(wish.image.as_deref(), disk_gb)?;
        if let Some(wanted) = wish.lifetime {
            within(wanted, Duration::from_hours(config.lifetime_max_hours.into()))?;
        }
        let idle = idle(id.provider, wish.idle, &config)?;
        let market = self.market_or_refuse(id.provider)?;
        let read = market.offer(id.id(), disk_gb).await;
        let offer = read.map_err(|fault| super::told::failure(id.provider, &fault))?;
        let Some(offer) = offer else {
            let message = format!("the offer `{id}` is not there any more, or never was");
            return Err(Failure::new(Code::UnknownOffer, message).hint("List offers and take another one."));
        };
        if offer.rate < UsdRate::ZERO {
            return Err(Failure::new(
                Code::UpstreamFailed,
                format!("the offer `{id}` has no price"),
            ));
        }
        Terms::of(offer, Wish { idle, ..wish }, &config)
    }

    pub(super) async fn promise(&self, principal: &Principal, terms: &Terms) -> Done<Quote> {
        let quote = self.described(principal, terms).await?;
        let body = QuoteBody {
            offer: terms.offer.id.clone(),
            image: terms.image.clone(),
            disk_gb: terms.disk_gb,
            lifetime: terms.lifetime,
            idle: terms.idle,
            nanos_per_hour: terms.offer.rate.nanos_per_hour(),
            first_hold: terms.first_hold,
        };
        let body = to_raw_value(&body)
            .map_err(|fault| Failure::new(Code::InternalError, "a quote cannot be written").caused_by(fault))?;
        let stored = StoredQuote {
            id: quote.id.clone(),
            owner: ResponseOwner::from(principal),
            expires_at: quote.expires_at,
            body,
        };
        self.0.store.put_quote(&stored).await?;
        Ok(quote)
    }

    /// What a quote would say; nothing is promised.
    pub(super) async fn described(&self, principal: &Principal, terms: &Terms) -> Done<Quote> {
        let config = self.0.config.load();
        let now = self.now();
        let good_for = Duration::from_mins(config.quote_minutes.into());
        Ok(Quote {
            id: format!("q-{}", label::draw(now, self.installation().await?, &self.0.entropy)),
            offer: terms.offer.clone(),
            image: terms.image.clone(),
            disk_gb: terms.disk_gb,
            lifetime: terms.lifetime,
            idle: terms.idle,
            rate: terms.offer.rate,
            first_hold: terms.first_hold,
            most: terms.offer.rate.cost_of(terms.lifetime),
            expires_at: after(now, good_for),
            advice: self.advice(&Payer::from(principal), terms).await?,
            needs_approval: config.approval.is_needed(terms.offer.rate, terms.lifetime),
        })
    }

    async fn advice(&self, payer: &Payer, terms: &Terms) -> Done<Advice> {
        if terms.is_free() {
            return Ok(Advice::Fits { warnings: Vec::new() });
        }
        self.advice_on(payer, terms.ask()).await
    }

    /// What the limits would say to something that costs money.
    pub(super) async fn advice_on(&self, payer: &Payer, ask: Ask) -> Done<Advice> {
        let standings = self.0.ledger.standings(payer).await?;
        if !standings.iter().any(Standing::bounds) {
            return Ok(Advice::NoLimit);
        }
        Ok(match self.0.ledger.judge(payer, ask).await? {
            Ok(admission) => Advice::Fits {
                warnings: admission.warnings,
            },
            Err(overrun) => Advice::Above(Box::new(overrun)),
        })
    }

    /// What was promised to the caller under that id.
    pub(super) async fn promised(&self, principal: &Principal, id: &str) -> Done<Promise> {
        let found = self.0.store.quote(id, principal, self.now()).await?;
        let Some(stored) = found else {
            let shown: String = id.chars().take(80).collect();
            let message = format!("there is no quote `{shown}` of yours, or it is no longer good");
            return Err(Failure::new(Code::UnknownQuote, message).hint("Ask for a new quote."));
        };
        let body: QuoteBody = serde_json::from_str(stored.body.get())
            .map_err(|fault| Failure::new(Code::InternalError, "a quote cannot be read").caused_by(fault))?;
        Ok(Promise {
            offer: body.offer,
            wish: Wish {
                image: Some(body.image),
                disk_gb: Some(body.disk_gb),
                lifetime: Some(body.lifetime),
                idle: body.idle,
            },
            rate: UsdRate::from_nanos_per_hour(body.nanos_per_hour),
            first_hold: body.first_hold,
        })
    }
}
