//! Renting one machine. The flow belongs to the gateway and not to whoever asked: a client that goes away ends nothing.

use super::{
    Rentals,
    body::{Agreed, Body, Money, Ordered},
    bootstrap::{self, TOKEN_VARIABLE, Token, URL_VARIABLE},
    check, label,
    quote::{HORIZON, Terms, Wish, check_idle},
    record::{Record, after},
    state,
    steps::Step,
    told::{failure, kept, outcome, same},
    types::{CreateOutcome, CreateRequest, Done, Mode, Rental, What},
};
use crate::market::{CALL_TIME_MAX, Created, MarketFault, Order};
use forebay_domain::{
    Code, Failure, Principal,
    ledger::Ask,
    market::{OfferId, Provider},
};
use forebay_store::{
    ledger::{Hold, HoldRequest},
    rentals::{Desired, Inserted, RentalState, StoredRental},
    responses::ResponseOwner,
};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::time::timeout;

/// A market bounds its calls itself; one that does not is taken for one that has not answered.
const CREATE_MAX: Duration = CALL_TIME_MAX.saturating_mul(3);

/// One machine on its way.
struct Flow {
    rentals: Rentals,
    record: Record,
    ask: Ask,
    is_free: bool,
    order: Order,
}

impl Rentals {
    /// Rents a machine, or says what would be done, or who has to agree first.
    pub async fn create(&self, principal: &Principal, request: CreateRequest) -> Done<CreateOutcome> {
        check::request(&request)?;
        if let Some(earlier) = self.earlier(principal, &request).await? {
            return Ok(CreateOutcome::Rented(Box::new(earlier)));
        }
        let terms = self.wanted(principal, &request).await?;
        let config = self.0.config.load_full();
        if request.mode == Mode::DryRun {
            let described = self.described(principal, &terms).await?;
            return Ok(CreateOutcome::DryRun(Box::new(described)));
        }
        let is_agreed = matches!(request.what, What::Quote(_));
        if !is_agreed && config.approval.is_needed(terms.offer.rate, terms.lifetime) {
            let quote = self.promise(principal, &terms).await?;
            return Ok(CreateOutcome::NeedsApproval(Box::new(quote)));
        }
        let flow = self.flow(principal, &request, terms).await?;
        let rental = self.outliving("rent", flow.run()).await?;
        Ok(CreateOutcome::Rented(Box::new(rental)))
    }

    /// What the same wish has made before.
    async fn earlier(&self, principal: &Principal, request: &CreateRequest) -> Done<Option<Rental>> {
        let owner = ResponseOwner::from(principal);
        let mut row = None;
        if let Some(key) = key_of(request) {
            row = self.0.store.of_key(&owner, &key).await?;
        }
        if let (None, Some(quote)) = (&row, quote_of(request)) {
            let rented = self.0.store.of_quote(&quote).await?;
            row = rented.filter(|rented| rented.owner == owner);
        }
        let Some(row) = row else {
            return Ok(None);
        };
        if let What::Quote(quoted) = &request.what {
            let rented = OfferId::new(row.provider, &row.offer);
            if rented.is_ok_and(|rented| !quoted.is_of(&rented)) {
                return Err(not_promised("offer"));
            }
        }
        same(&Record::read(row)?, &digest(request)).map(Some)
    }

    async fn wanted(&self, principal: &Principal, request: &CreateRequest) -> Done<Terms> {
        let (offer, wish, promise) = match &request.what {
            What::Offer(offer) => {
                check_idle(request.idle, &self.0.config.load())?;
                (offer.clone(), Wish::default(), None)
            }
            What::Quote(quoted) => {
                let promise = self.promised(principal, &quoted.id).await?;
                if !quoted.is_of(&promise.offer) {
                    return Err(not_promised("offer"));
                }
                (promise.offer.clone(), promise.wish.clone(), Some(promise))
            }
        };
        if let Some(promise) = &promise {
            as_promised(request, &promise.wish)?;
        }
        let most = self.market_or_refuse(offer.provider)?.ports_max();
        if request.ports.len() > most {
            let message = format!(
                "{} lets others reach at most {most} of a machine's ports",
                offer.provider
            );
            return Err(Failure::new(Code::InvalidArguments, message).hint("Leave `ports` out, or name fewer."));
        }
        let wish = Wish {
            image: request.image.clone().or(wish.image),
            disk_gb: wish.disk_gb.or(request.disk_gb),
            lifetime: wish.lifetime.or(request.lifetime),
            idle: request.idle.or(wish.idle),
        };
        let terms = self.terms(&offer, wish).await?;
        if promise.is_some() && request.lifetime.is_some_and(|wanted| !terms.is_for(wanted)) {
            return Err(not_promised("lifetime"));
        }
        match promise {
            Some(promise) if terms.offer.rate > promise.rate || terms.first_hold > promise.first_hold => {
                let (was, is) = (promise.rate.hourly(), terms.offer.rate.hourly());
                let message = format!("the offer `{offer}` was quoted at ${was} an hour and now costs ${is}");
                Err(Failure::new(Code::Conflict, message).hint("Ask for a new quote, and agree to it."))
            }
            _ => Ok(terms),
        }
    }

    async fn flow(&self, principal: &Principal, request: &CreateRequest, terms: Terms) -> Done<Flow> {
        let now = self.now();
        let id = label::draw(now, self.installation().await?, &self.0.entropy);
        let provider = terms.offer.id.provider;
        let urls = self.0.urls.load();
        let url = match provider {
            Provider::Local => urls.local.clone().or_else(|| urls.public.clone()),
            // An image that somebody chose does what it is made for: every provider starts our script in its place.
            Provider::Vast | Provider::IoNet | Provider::RunPod => {
                let is_chosen = terms.image != self.0.config.load().image;
                urls.public.clone().filter(|_| !is_chosen)
            }
        };
        let token = url.is_some().then(|| Token::draw(&self.0.entropy));
        let label = label::label(&principal.tenant, &id);
        let order = order(request, &terms, &label, url.as_deref(), token.as_ref());
        let (ask, is_free) = (terms.ask(), terms.is_free());
        let row = StoredRental {
            id,
            owner: ResponseOwner::from(principal),
            provider,
            seat: self.seat(provider),
            label,
            offer: terms.offer.id.id().to_owned(),
            machine: None,
            state: RentalState::Intended,
            desired: Desired::Up,
            open: true,
            token_hash: token.map(|token| token.hash),
            idempotency_key: key_of(request),
            quote: quote_of(request),
            created_at: now,
            version: 1,
            body: RawValue::NULL.to_owned(),
        };
        let mut body = body(principal, request, terms, url.is_none(), after(now, Duration::ZERO));
        body.account = self.account(provider);
        Ok(Flow {
            rentals: self.clone(),
            record: Record {
                row,
                body: Box::new(body),
            },
            ask,
            is_free,
            order,
        })
    }

    /// Sets the money aside under the rental's own name, so that it is the same hold however often it is asked for.
    pub(super) async fn hold(&self, record: &Record, ask: Ask) -> Done<Hold> {
        let request = HoldRequest {
            payer: record.payer(),
            purpose: record.purpose(),
            ask,
            trace: record.trace(),
            idempotency_key: Some(hold_key(record)),
            lapses_at: after(self.now(), HORIZON),
            needs_limit: true,
        };
        Ok(self.0.ledger.hold(request).await?)
    }
}

impl Flow {
    async fn run(mut self) -> Done<Rental> {
        let rentals = self.rentals.clone();
        let steps = &rentals.0.steps;
        let row = self.record.to_row()?;
        if let Inserted::Repeat(earlier) = rentals.0.store.insert(&row).await? {
            let earlier = Record::read(*earlier)?;
            return same(&earlier, &self.record.body.request);
        }
        steps.done(Step::Intended).await;
        let hold = if self.is_free { None } else { Some(self.hold().await?) };
        steps.done(Step::Held).await;
        let now = rentals.now();
        let hold_id = hold.map(|hold| hold.id);
        self.record = rentals
            .change(self.record, |record| {
                // Somebody may have wanted it gone, or have taken us for dead.
                if record.row.state == RentalState::Intended {
                    record.body.money.hold.clone_from(&hold_id);
                    state::asking(record, now);
                }
                Vec::new()
            })
            .await?;
        if self.record.row.state != RentalState::Creating {
            // Whoever gave it up may have looked before this was set aside.
            if let Some(hold) = &hold_id {
                rentals.0.ledger.void(hold).await?;
            }
            rentals.work_on(self.record).await?;
            return Err(Failure::new(
                Code::Conflict,
                "the machine was given up before it was asked for",
            ));
        }
        steps.done(Step::Asking).await;
        let answer = self.ask().await;
        steps.done(Step::Answered).await;
        let now = rentals.now();
        let record = rentals
            .change(self.record, |record| {
                let facts = state::answered(record, &answer, now);
                if let (RentalState::Refused, Created::Refused(fault)) = (record.row.state, &answer) {
                    let refusal = kept(&failure(record.provider, fault));
                    record.body.refusal.get_or_insert(refusal);
                }
                facts
            })
            .await?;
        steps.done(Step::Recorded).await;
        rentals.0.metrics.created(record.provider, &answer);
        let provider = record.provider;
        let record = rentals.work_on(record).await?;
        rentals.nudge(provider);
        outcome(&record, &answer)
    }

    async fn hold(&mut self) -> Done<Hold> {
        let held = self.rentals.hold(&self.record, self.ask).await;
        if let Err(failure) = &held
            && !matches!(failure.kind(), forebay_domain::ErrorKind::Unavailable)
        {
            let now = self.rentals.now();
            let refused = self.rentals.change(self.record.clone(), |record| {
                state::refused_by_limit(record, now);
                record.body.refusal = Some(kept(failure));
                Vec::new()
            });
            self.record = refused.await?;
        }
        held
    }

    async fn ask(&self) -> Created {
        let Some(market) = self.rentals.market(self.record.provider) else {
            let why = MarketFault::Refused("it is no longer configured".to_owned());
            return Created::Refused(why);
        };
        let answer = timeout(CREATE_MAX, market.create(&self.order)).await;
        answer.unwrap_or_else(|_| Created::Ambiguous {
            why: MarketFault::Unreachable("there was no answer in time".to_owned()),
            id: None,
        })
    }
}

/// The name under which the money for a rental is set aside.
pub(super) fn hold_key(record: &Record) -> String {
    format!("rental:{}", record.id)
}

/// What a quote promises is what is rented: whoever agreed to it did not agree to anything else.
fn as_promised(request: &CreateRequest, promised: &Wish) -> Done<()> {
    let others = [
        (request.image.is_some() && request.image != promised.image, "image"),
        (request.disk_gb.is_some() && request.disk_gb != promised.disk_gb, "disk"),
        (request.idle.is_some() && request.idle != promised.idle, "idle time"),
    ];
    match others.iter().find(|(is_other, _)| *is_other) {
        Some((_, what)) => Err(not_promised(what)),
        None => Ok(()),
    }
}

fn not_promised(what: &str) -> Failure {
    let message = format!("the quote is for another {what} than this asks for");
    Failure::new(Code::InvalidArguments, message).hint("Leave it out, or ask for a new quote.")
}

/// The name that its owner gave to the wish.
fn key_of(request: &CreateRequest) -> Option<String> {
    request.idempotency_key.as_ref().map(|key| format!("key:{key}"))
}

/// A quote is rented once, whoever repeats it under whatever name.
fn quote_of(request: &CreateRequest) -> Option<String> {
    match &request.what {
        What::Quote(quoted) => Some(quoted.id.clone()),
        What::Offer(_) => None,
    }
}

/// Of all that makes one wish another.
fn digest(request: &CreateRequest) -> String {
    let CreateRequest {
        what,
        image,
        disk_gb,
        ports,
        env,
        lifetime,
        idle,
        idempotency_key: _,
        mode: _,
        trace: _,
        surface: _,
    } = request;
    // What is said of a quote's offer is no part of the wish: where it is true it says nothing new.
    let what = match what {
        What::Offer(offer) => format!("{offer:?}"),
        What::Quote(quoted) => quoted.id.clone(),
    };
    let wish = format!("{:?}", (what, image, disk_gb, ports, env, lifetime, idle));
    hex::encode(Sha256::digest(wish.as_bytes()))
}

fn order(request: &CreateRequest, terms: &Terms, label: &str, url: Option<&str>, token: Option<&Token>) -> Order {
    let mut env = request.env.clone();
    env.extend(url.map(|url| (URL_VARIABLE.to_owned(), url.to_owned())));
    let secrets = token.map(|token| (TOKEN_VARIABLE.to_owned(), token.text.clone()));
    Order {
        offer: terms.offer.id.id().to_owned(),
        label: label.to_owned(),
        image: terms.image.clone(),
        disk_gb: terms.disk_gb,
        env,
        secrets: secrets.into_iter().collect(),
        ports: request.ports.clone(),
        on_start: url.is_some().then(|| bootstrap::on_start(terms.offer.id.provider)),
        hours: terms.hours,
    }
}

fn body(principal: &Principal, request: &CreateRequest, terms: Terms, bare: bool, now: jiff::Timestamp) -> Body {
    let agreed = Agreed {
        ordered: Ordered {
            gpu: terms.offer.gpu,
            gpus: terms.offer.gpus,
            vram_gb: terms.offer.vram_gb,
            country: terms.offer.country,
            image: terms.image,
            disk_gb: terms.disk_gb,
            hours: terms.hours,
            ports: request.ports.clone(),
            bare,
        },
        rate: terms.offer.rate,
        paying: terms.paying,
        lifetime: terms.lifetime,
        ends_by: after(now, terms.lifetime),
    };
    Body {
        key: principal.key.clone(),
        session: principal.session.clone(),
        trace: request.trace.to_string(),
        request: digest(request),
        money: Money {
            first_hold: terms.first_hold,
            ..Money::default()
        },
        idle: terms.idle,
        ..Body::new(agreed)
    }
}
