//! The bill of one request: held before the first byte goes upstream, settled or voided at the end.
//!
//! A bill that is dropped closes itself by what is known then, so no future that is dropped and no panic leaves a hold
//! open. A hold is asked for once, at the price of the dearest model that the request may come to: what a fallback costs
//! then never has to be asked for in the middle of an attempt, when there may be no room left.

use super::{
    bound::Bound,
    output::Limit,
    price::{Prices, Tokens},
    spent::Cost,
    verdict::{Told, verdict},
    work::Work,
};
use crate::{config::Engine, settings::Model};
use forebay_domain::{
    Code, Failure, Principal,
    id::{HoldId, TraceId},
    ledger::{Ask, Payer, Posting, Purpose, PurposeKind},
    model::Endpoint,
    money::{Usd, UsdRate},
};
use forebay_runtime::Clock;
use forebay_store::ledger::{HoldRequest, Ledger, Settlement};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// How much longer than its request a hold lives: the time to close its bill.
const GRACE: Duration = Duration::from_mins(1);

/// Makes bills.
#[derive(Clone)]
pub(crate) struct Billing {
    pub(crate) ledger: Ledger,
    pub(crate) clock: Clock,
}

/// What is about to be asked of whom.
pub(crate) struct Order<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) trace: TraceId,
    pub(crate) endpoint: Endpoint,
    /// The model that was asked for, and those that it may fall back to.
    pub(crate) chain: Vec<Arc<Model>>,
    /// The size of the request.
    pub(crate) bytes: usize,
    /// How long it may take.
    pub(crate) lasts: Duration,
}

/// What an order came to.
pub(crate) struct Opened {
    pub(crate) bill: Bill,
    /// The models that may be asked at that price.
    pub(crate) chain: Vec<Arc<Model>>,
    /// What has to bound each answer.
    pub(crate) limit: Option<Limit>,
}

impl Billing {
    /// Whether a budget counts for this caller.
    pub(crate) fn limits(&self, principal: &Principal) -> bool {
        self.ledger.limits(&Payer::from(principal))
    }

    /// What a model costs and what that means for this caller, to be said after something else.
    pub(crate) fn words(&self, principal: &Principal, prices: Option<Prices>) -> String {
        match (prices, self.limits(principal)) {
            (None, false) => String::new(),
            (None, true) => "; it has no price, and a budget counts, so that it is not asked".to_owned(),
            (Some(prices), _) if prices.is_free() => "; it is free".to_owned(),
            (Some(prices), false) => format!("; it costs {prices}, and no budget counts"),
            (Some(prices), true) => format!("; it costs {prices}, and a budget counts: what it may cost is held first"),
        }
    }

    /// Sets aside what the request may cost, where a budget counts; fails where that is too much, or cannot be told.
    /// `bound` reads the request, which costs time and is done only where it has to be.
    pub(crate) async fn open(
        &self,
        order: Order<'_>,
        bound: impl FnOnce() -> Result<Bound, Failure>,
    ) -> Result<Opened, Failure> {
        let asked = order
            .chain
            .first()
            .expect("a chain begins with the model itself")
            .clone();
        if order.is_free() {
            return Ok(order.opened(Way::Free, Bound::of_bytes(order.bytes), &asked));
        }
        if !self.limits(order.principal) {
            self.ledger.room().await.map_err(Failure::from)?;
            let way = Way::Later(Box::new(Later {
                ledger: self.ledger.clone(),
                payer: Payer::from(order.principal),
                purpose: purpose(&asked),
                trace: order.trace,
            }));
            return Ok(order.opened(way, Bound::of_bytes(order.bytes), &asked));
        }
        let bound = bound()?;
        let Estimate {
            tokens: most,
            each,
            amount,
            chain,
        } = order.estimate(&asked, &bound)?;
        let way = if amount == Usd::ZERO {
            Way::Free
        } else {
            self.hold(&order, &asked, amount).await?
        };
        let mut opened = order.opened(way, most, &asked);
        opened.bill.lost = amount;
        opened.bill.is_plain = bound.is_plain();
        Ok(Opened {
            chain,
            limit: Some(Limit { each }),
            ..opened
        })
    }

    /// What would be held for an order, where a budget counts; `None` where none does and nobody can say.
    pub(crate) fn cost_at_most(
        &self,
        order: &Order<'_>,
        bound: impl FnOnce() -> Result<Bound, Failure>,
    ) -> Result<Option<Usd>, Failure> {
        if order.is_free() {
            return Ok(Some(Usd::ZERO));
        }
        let asked = order.chain.first().expect("a chain begins with the model itself");
        match bound().and_then(|bound| order.estimate(asked, &bound)) {
            Ok(estimate) => Ok(Some(estimate.amount)),
            Err(_) if !self.limits(order.principal) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn hold(&self, order: &Order<'_>, asked: &Model, amount: Usd) -> Result<Way, Failure> {
        let request = HoldRequest {
            payer: Payer::from(order.principal),
            purpose: purpose(asked),
            ask: Ask {
                amount,
                rate: UsdRate::ZERO,
            },
            trace: order.trace,
            idempotency_key: None,
            lapses_at: self.clock.now() + (order.lasts + GRACE),
            needs_limit: false,
        };
        let hold = self.ledger.hold(request).await.map_err(Failure::from)?;
        Ok(Way::Held {
            ledger: self.ledger.clone(),
            id: hold.id,
            amount,
        })
    }
}

/// What an order comes to at most.
struct Estimate {
    tokens: Tokens,
    /// Of the output, in each answer.
    each: u64,
    /// At the dearest of the models that may be asked.
    amount: Usd,
    chain: Vec<Arc<Model>>,
}

impl Order<'_> {
    fn is_free(&self) -> bool {
        let is_free = |model: &Arc<Model>| model.prices.is_some_and(|prices| prices.is_free());
        self.chain.iter().all(is_free)
    }

    fn estimate(&self, asked: &Model, bound: &Bound) -> Result<Estimate, Failure> {
        let each = bound.each(Limit::unless_said(self.endpoint, asked.output_tokens_max));
        let tokens = most(asked, bound, each).map_err(|unknown| unknown.failure(asked))?;
        // A fallback whose price nobody knows is none where a budget counts.
        let mut chain = self.chain.clone();
        chain.retain(|model| most_of(model, bound, each).is_some());
        let amount = chain.iter().filter_map(|model| most_of(model, bound, each)).max();
        Ok(Estimate {
            tokens,
            each,
            amount: amount.unwrap_or(Usd::MAX).min(Usd::MAX),
            chain,
        })
    }

    fn opened(&self, way: Way, most: Tokens, asked: &Model) -> Opened {
        let bill = Bill {
            way: Some(way),
            work: Arc::default(),
            most,
            prices: asked.prices,
            lost: asked.prices.map_or(Usd::ZERO, |prices| prices.most(most)),
            is_plain: false,
            has_begun: false,
            told: Told::default(),
        };
        Opened {
            bill,
            chain: self.chain.clone(),
            limit: None,
        }
    }
}

fn purpose(model: &Model) -> Purpose {
    Purpose {
        kind: PurposeKind::Model,
        name: model.name.clone(),
    }
}

/// Why nobody can say what a model would cost at most.
enum Unknown {
    Price,
    Size(String),
}

impl Unknown {
    fn failure(self, model: &Model) -> Failure {
        let name = &model.name;
        let (message, hint) = match self {
            Self::Price => (
                format!("Model `{name}` has no price, and a budget counts for this request."),
                format!("An administrator can set `models.{name}.price`, with zeros where it is free."),
            ),
            Self::Size(what) => (
                format!("Nobody can say what `{what}` would cost at most, and a budget counts for this request."),
                format!("Leave it out; or an administrator can set `models.{name}.context_tokens`, which bounds it."),
            ),
        };
        Failure::new(Code::UnpricedModel, message)
            .hint(hint)
            .details(json!({ "model": name }))
    }
}

fn most(model: &Model, bound: &Bound, each: u64) -> Result<Tokens, Unknown> {
    if model.prices.is_none() {
        return Err(Unknown::Price);
    }
    let tokens = bound.tokens(each, model.context_tokens);
    match tokens {
        // What is free needs no bound.
        Err(_) if model.prices.is_some_and(|prices| prices.is_free()) => Ok(Tokens::default()),
        tokens => tokens.map_err(|what| Unknown::Size(what.to_owned())),
    }
}

fn most_of(model: &Model, bound: &Bound, each: u64) -> Option<Usd> {
    let tokens = most(model, bound, each).ok()?;
    Some(model.prices?.most(tokens))
}

/// How a request is paid for.
enum Way {
    /// Not at all.
    Free,
    Held {
        ledger: Ledger,
        id: HoldId,
        amount: Usd,
    },
    /// No budget counts: what it came to is posted in the end.
    Later(Box<Later>),
}

struct Later {
    ledger: Ledger,
    payer: Payer,
    purpose: Purpose,
    trace: TraceId,
}

pub(crate) struct Bill {
    way: Option<Way>,
    work: Arc<Work>,
    /// The most that it may use; of the output nothing where no budget counts.
    most: Tokens,
    /// Those of the model that answers, as soon as it is known.
    prices: Option<Prices>,
    /// What an attempt comes to of which nobody knows what the engine did: at most what the dearest model would cost.
    lost: Usd,
    /// Whether nothing in the request makes an engine work without a word.
    is_plain: bool,
    /// Whether a model has begun to answer.
    has_begun: bool,
    pub(crate) told: Told,
}

impl Bill {
    /// For whoever sends the request.
    pub(crate) fn work(&self) -> Arc<Work> {
        self.work.clone()
    }

    /// One of the models has begun to answer; as events, where it does so word by word.
    pub(crate) fn answered_by(&mut self, model: &Model, engine: Option<Engine>, events: bool) {
        self.prices = model.prices;
        self.has_begun = true;
        // Others may think or hold back without a word, as they are set up; this one tells all that it makes.
        self.told.is_open = events && self.is_plain && engine == Some(Engine::Llamacpp);
    }

    /// Whether anybody wants to know how much was said.
    pub(crate) fn counts(&self) -> bool {
        !matches!(self.way, Some(Way::Free) | None) && self.prices.is_some()
    }

    /// What it comes to as things are; `None` where the price is unknown. Nothing where no engine was at work.
    pub(crate) fn cost(&self) -> Option<Cost> {
        if matches!(self.way, Some(Way::Free)) {
            return Some(Cost::default());
        }
        let prices = self.prices?;
        let attempts = self.work.attempts();
        if !self.has_begun {
            return Some(Cost {
                usd: lost(self.lost, attempts),
                estimated: attempts > 0,
            });
        }
        let cap = match &self.way {
            Some(Way::Held { amount, .. }) => *amount,
            Some(Way::Free | Way::Later(_)) | None => Usd::MAX,
        };
        let answer = verdict(self.told, prices, self.most, cap);
        // One of the attempts is the one that was answered.
        let before = lost(self.lost, attempts.saturating_sub(1));
        Some(Cost {
            usd: answer.usd.saturating_add(before),
            estimated: answer.estimated || before > Usd::ZERO,
        })
    }

    /// Closes it, and says what it was settled at, where it was; only the first time counts.
    pub(crate) fn close(&mut self) -> Option<Usd> {
        let cost = self.cost();
        let was_asked = self.told.used.is_some() || self.work.attempts() > 0;
        match (self.way.take(), cost) {
            (Some(Way::Held { ledger, id, .. }), _) if !was_asked => {
                ledger.void_soon(id);
                None
            }
            (Some(Way::Held { ledger, id, amount }), cost) => {
                let cost = cost.unwrap_or(Cost {
                    usd: amount,
                    estimated: true,
                });
                let settlement = Settlement {
                    actual: cost.usd.min(Usd::MAX),
                    estimated: cost.estimated,
                };
                ledger.settle_soon(id, settlement);
                Some(settlement.actual)
            }
            (Some(Way::Later(later)), Some(cost)) if was_asked => {
                let amount = cost.usd.min(Usd::MAX);
                if amount > Usd::ZERO {
                    later.post(amount, cost.estimated);
                }
                Some(amount)
            }
            (Some(Way::Free), _) if was_asked => Some(Usd::ZERO),
            (None | Some(Way::Free | Way::Later(_)), _) => None,
        }
    }
}

/// What so many attempts come to that nobody saw the end of.
fn lost(each: Usd, attempts: u32) -> Usd {
    (0..attempts).fold(Usd::ZERO, |sum, _| sum.saturating_add(each))
}

impl Drop for Bill {
    fn drop(&mut self) {
        self.close();
    }
}

impl Later {
    fn post(self, amount: Usd, estimated: bool) {
        self.ledger.post_soon(Posting {
            payer: self.payer,
            purpose: self.purpose,
            amount,
            trace: self.trace,
            estimated,
        });
    }
}
