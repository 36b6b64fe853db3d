//! A ledger as one would explain it: a list of what was spent when, and a list of what is set aside. Slow and plain, and
//! what the real ones are compared with, in this crate and over both databases.

use forebay_domain::{
    id::TenantId,
    ledger::{Ask, BudgetRule, Enforcement, Payer, Purse, PurseName, Scope, Window},
    money::{Usd, UsdRate},
};
use proptest::prelude::*;
use std::collections::HashMap;

pub(crate) const MINUTE_MS: i64 = 60_000;
/// Until when what is renewed holds: beyond the end of every test.
pub(crate) const RENEWED_UNTIL_MS: i64 = 4_000_000_000_000;
pub(crate) const PAYERS: usize = 6;

/// One thing that is done. Holds are named by their number among those that were made, around and around.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Hold {
        who: usize,
        ask: Ask,
        key: Option<u8>,
        minutes: i64,
    },
    Renew {
        hold: usize,
        ask: Ask,
    },
    Accrue {
        hold: usize,
        total: Usd,
    },
    Settle {
        hold: usize,
        actual: Usd,
    },
    Void {
        hold: usize,
    },
    Refund {
        hold: usize,
        amount: Usd,
        key: u8,
    },
    Adjust {
        hold: usize,
        difference: Usd,
        key: u8,
    },
}

impl Op {
    /// What names a hold names one that there is; nothing is left of it before there is one.
    pub(crate) fn named(&self, holds: usize) -> Option<Self> {
        let mut op = self.clone();
        match &mut op {
            Self::Hold { .. } => {}
            Self::Renew { hold, .. }
            | Self::Accrue { hold, .. }
            | Self::Settle { hold, .. }
            | Self::Void { hold }
            | Self::Refund { hold, .. }
            | Self::Adjust { hold, .. } => *hold = hold.checked_rem(holds)?,
        }
        Some(op)
    }
}

/// Time goes on, then a few things are done at once.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub by_ms: i64,
    pub ops: Vec<Op>,
}

/// What becomes of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Became {
    Refused,
    Conflict,
    Held { is_repeat: bool },
    Done { posted: Usd, is_repeat: bool },
}

fn cents(most: i64) -> impl Strategy<Value = Usd> {
    (0..=most).prop_map(|cents| Usd::from_micros(cents * 10_000))
}

fn ask() -> impl Strategy<Value = Ask> {
    let rate = prop_oneof![3 => Just(UsdRate::ZERO), 1 => cents(10).prop_map(UsdRate::per_hour)];
    (cents(30), rate).prop_map(|(amount, rate)| Ask { amount, rate })
}

fn op() -> impl Strategy<Value = Op> {
    let hold = 0..1_000_usize;
    prop_oneof![
        6 => (0..PAYERS, ask(), prop::option::weighted(0.2, 0..3_u8), 0..30_i64)
            .prop_map(|(who, ask, key, minutes)| Op::Hold { who, ask, key, minutes }),
        2 => (hold.clone(), ask()).prop_map(|(hold, ask)| Op::Renew { hold, ask }),
        2 => (hold.clone(), cents(40)).prop_map(|(hold, total)| Op::Accrue { hold, total }),
        4 => (hold.clone(), cents(40)).prop_map(|(hold, actual)| Op::Settle { hold, actual }),
        1 => hold.clone().prop_map(|hold| Op::Void { hold }),
        2 => (hold.clone(), cents(20), 0..3_u8).prop_map(|(hold, amount, key)| Op::Refund { hold, amount, key }),
        1 => (hold, cents(20), any::<bool>(), 0..3_u8).prop_map(|(hold, amount, less, key)| {
            let difference = if less { Usd::ZERO.saturating_sub(amount) } else { amount };
            Op::Adjust { hold, difference, key }
        }),
    ]
}

pub(crate) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let by_ms = prop_oneof![
        2 => Just(0),
        2 => 0..3 * MINUTE_MS,
        1 => Just(5 * MINUTE_MS),
        1 => 0..70 * MINUTE_MS,
    ];
    let step = (by_ms, prop::collection::vec(op(), 1..6)).prop_map(|(by_ms, ops)| Step { by_ms, ops });
    prop::collection::vec(step, 1..most)
}

/// Two tenants; one of them has two projects and three keys, and one key of it two sessions.
pub(crate) fn payer(who: usize) -> Payer {
    let (tenant, project, key, session) = [
        ("acme", None, Some("k1"), None),
        ("acme", Some("search"), Some("k2"), None),
        ("acme", Some("search"), Some("k3"), None),
        ("zeta", None, Some("k1"), None),
        ("acme", Some("search"), Some("k2"), Some("s1")),
        ("acme", Some("search"), Some("k2"), Some("s2")),
    ][who];
    Payer {
        tenant: tenant.parse().unwrap(),
        project: project.map(|id| id.parse().unwrap()),
        key: key.map(|id| id.parse().unwrap()),
        session: session.map(|id| id.parse().unwrap()),
        subject: Some("ann".parse().unwrap()),
    }
}

/// Several windows of several scopes, hard and soft.
pub(crate) fn rules() -> Vec<BudgetRule> {
    let rule = |scope, of: Option<(&str, Option<&str>)>, minutes, cents: i64, enforcement| BudgetRule {
        scope,
        of: of.map(|(tenant, id)| PurseName {
            tenant: tenant.parse().unwrap(),
            id: id.map(str::to_owned),
        }),
        window: Window::new(minutes, Usd::from_micros(cents * 10_000), enforcement).unwrap(),
    };
    vec![
        rule(Scope::Tenant, None, 60, 100, Enforcement::Hard),
        rule(Scope::Tenant, Some(("acme", None)), 240, 180, Enforcement::Hard),
        rule(Scope::Key, None, 5, 50, Enforcement::Hard),
        rule(Scope::Key, Some(("acme", Some("k2"))), 60, 40, Enforcement::Soft),
        rule(Scope::Project, None, 30, 60, Enforcement::Hard),
        rule(Scope::Session, None, 15, 35, Enforcement::Hard),
    ]
}

pub(crate) fn purses() -> Vec<Purse> {
    let mut all: Vec<Purse> = (0..PAYERS).flat_map(|who| payer(who).purses()).collect();
    all.sort();
    all.dedup();
    all
}

struct Spent {
    at_ms: i64,
    hold: usize,
    payer: Payer,
    left: Usd,
}

struct Set {
    payer: Payer,
    first: Ask,
    now: Ask,
    posted: Usd,
    lapses_at_ms: i64,
    is_open: bool,
    has_lapsed: bool,
}

pub(crate) struct Model {
    pub now_ms: i64,
    rules: Vec<BudgetRule>,
    last_ms: HashMap<TenantId, i64>,
    spent: Vec<Spent>,
    holds: Vec<Set>,
    keys: HashMap<String, usize>,
    done: HashMap<String, Usd>,
    /// What was posted when beyond what had been set aside for it.
    excess: Vec<(i64, Payer, Usd)>,
}

impl Model {
    pub(crate) fn new(now_ms: i64) -> Self {
        Self::limited(now_ms, rules())
    }

    pub(crate) fn limited(now_ms: i64, rules: Vec<BudgetRule>) -> Self {
        Self {
            now_ms,
            rules,
            last_ms: HashMap::new(),
            spent: Vec::new(),
            holds: Vec::new(),
            keys: HashMap::new(),
            done: HashMap::new(),
            excess: Vec::new(),
        }
    }

    pub(crate) fn holds(&self) -> usize {
        self.holds.len()
    }

    /// Those that are overdue, and end without being asked for.
    pub(crate) fn overdue(&self) -> Vec<usize> {
        let is_due = |set: &Set| set.is_open && set.now.rate == UsdRate::ZERO && set.lapses_at_ms <= self.now_ms;
        (0..self.holds.len())
            .filter(|hold| is_due(&self.holds[*hold]))
            .collect()
    }

    pub(crate) fn lapse(&mut self, hold: usize) {
        self.touch(self.holds[hold].payer.tenant.clone());
        let all = self.holds[hold].posted.saturating_add(self.holds[hold].now.amount);
        self.end(hold, all);
        self.holds[hold].has_lapsed = true;
    }

    fn at_ms(&self, tenant: &TenantId) -> i64 {
        self.now_ms.max(self.last_ms.get(tenant).copied().unwrap_or(i64::MIN))
    }

    pub(crate) fn posted(&self, purse: &Purse, minutes: u32) -> Usd {
        let end = self.at_ms(&purse.tenant);
        let within = |at_ms| at_ms > end - i64::from(minutes) * MINUTE_MS && at_ms <= end;
        let spent = self.spent.iter().filter(|spent| within(spent.at_ms));
        spent
            .filter(|spent| spent.payer.purses().contains(purse))
            .map(|spent| spent.left)
            .sum()
    }

    fn open(&self, purse: &Purse) -> impl Iterator<Item = &Set> {
        self.holds
            .iter()
            .filter(|set| set.is_open && set.payer.purses().contains(purse))
    }

    pub(crate) fn held(&self, purse: &Purse) -> Usd {
        self.open(purse).map(|set| set.now.amount).sum()
    }

    pub(crate) fn burn(&self, purse: &Purse) -> UsdRate {
        self.open(purse).map(|set| set.now.rate).sum()
    }

    /// What may be done without anything being posted beyond its hold: instead of what asks for more, that asks for all
    /// that is set aside, and nothing is corrected upwards.
    pub(crate) fn modest(&self, op: &Op) -> Op {
        let mut op = op.clone();
        match &mut op {
            Op::Accrue { hold, total: sum } | Op::Settle { hold, actual: sum } => {
                let set = &self.holds[*hold];
                *sum = (*sum).min(set.posted.saturating_add(set.now.amount));
            }
            Op::Adjust { difference, .. } => *difference = (*difference).min(Usd::ZERO),
            Op::Hold { .. } | Op::Renew { .. } | Op::Void { .. } | Op::Refund { .. } => {}
        }
        op
    }

    /// Nothing was ever posted beyond its hold, so that limits hold without an exception.
    pub(crate) fn check_modesty(&self) {
        assert!(self.excess.is_empty(), "{:?}", self.excess);
    }

    fn exceed(&mut self, hold: usize, amount: Usd) {
        let payer = self.holds[hold].payer.clone();
        if amount > Usd::ZERO {
            self.excess.push((self.at_ms(&payer.tenant), payer, amount));
        }
    }

    /// No hard limit is passed, but for what was posted beyond its hold within the window.
    pub(crate) fn check_limits(&self) {
        for purse in purses() {
            for rule in self.rules.iter().filter(|rule| rule.counts_for(&purse)) {
                let used = self
                    .posted(&purse, rule.window.minutes)
                    .saturating_add(self.held(&purse));
                let begin = self.at_ms(&purse.tenant) - i64::from(rule.window.minutes) * MINUTE_MS;
                let beyond = self.excess.iter().filter(|(at_ms, ..)| *at_ms > begin);
                let beyond = beyond.filter(|(_, payer, _)| payer.purses().contains(&purse));
                let most = rule
                    .window
                    .limit
                    .saturating_add(beyond.map(|(.., amount)| *amount).sum());
                assert!(
                    rule.window.enforcement == Enforcement::Soft || used <= most,
                    "{purse}: {used} of {most}"
                );
            }
        }
    }

    /// Without `before`, which is set aside already and would be replaced.
    fn admits(&self, payer: &Payer, ask: Ask, before: Ask) -> bool {
        payer.purses().iter().all(|purse| {
            let rules = self.rules.iter().filter(|rule| rule.counts_for(purse));
            rules
                .filter(|rule| rule.window.enforcement == Enforcement::Hard)
                .all(|rule| {
                    let held = self.held(purse).saturating_sub(before.amount);
                    let used = self.posted(purse, rule.window.minutes).saturating_add(held);
                    let burn = self.burn(purse).saturating_sub(before.rate).saturating_add(ask.rate);
                    let runs = ask.rate > UsdRate::ZERO && burn.cost_of(rule.window.length()) > rule.window.limit;
                    used.saturating_add(ask.amount) <= rule.window.limit && !runs
                })
        })
    }

    fn spend(&mut self, hold: usize, amount: Usd) {
        let payer = self.holds[hold].payer.clone();
        let at_ms = self.at_ms(&payer.tenant);
        if amount > Usd::ZERO {
            self.spent.push(Spent {
                at_ms,
                hold,
                payer,
                left: amount,
            });
        }
    }

    fn take_off(&mut self, hold: usize, amount: Usd) -> Usd {
        let mut taken = Usd::ZERO;
        for spent in self.spent.iter_mut().rev().filter(|spent| spent.hold == hold) {
            let part = spent.left.min(amount.saturating_sub(taken));
            spent.left = spent.left.saturating_sub(part);
            taken = taken.saturating_add(part);
        }
        taken
    }

    /// By how much what is posted changes.
    fn end(&mut self, hold: usize, actual: Usd) -> Usd {
        let (posted, set_aside) = (self.holds[hold].posted, self.holds[hold].now.amount);
        let more = actual.saturating_sub(posted);
        let change = if more.is_negative() {
            Usd::ZERO.saturating_sub(self.take_off(hold, posted.saturating_sub(actual)))
        } else {
            self.spend(hold, more);
            more
        };
        let set = &mut self.holds[hold];
        set.is_open = false;
        set.has_lapsed = false;
        set.now = Ask::default();
        set.posted = posted.saturating_add(change);
        self.exceed(hold, change.saturating_sub(set_aside));
        change
    }

    /// Time does not go back for whoever something has happened to.
    fn touch(&mut self, tenant: TenantId) {
        let at_ms = self.at_ms(&tenant);
        self.last_ms.insert(tenant, at_ms);
    }

    pub(crate) fn apply(&mut self, op: &Op) -> Became {
        let became = self.change(op);
        if let Became::Held { is_repeat: false } | Became::Done { is_repeat: false, .. } = became {
            let tenant = match op {
                Op::Hold { who, .. } => payer(*who).tenant,
                Op::Renew { hold, .. }
                | Op::Accrue { hold, .. }
                | Op::Settle { hold, .. }
                | Op::Void { hold }
                | Op::Refund { hold, .. }
                | Op::Adjust { hold, .. } => self.holds[*hold].payer.tenant.clone(),
            };
            self.touch(tenant);
        }
        became
    }

    fn change(&mut self, op: &Op) -> Became {
        const REPEAT: Became = Became::Done {
            posted: Usd::ZERO,
            is_repeat: true,
        };
        let done = |posted| Became::Done {
            posted,
            is_repeat: false,
        };
        match op {
            Op::Hold { who, ask, key, minutes } => self.hold(*who, *ask, *key, *minutes),
            Op::Renew { hold, ask } => {
                let set = &self.holds[*hold];
                let is_less = ask.amount <= set.now.amount;
                if !set.is_open {
                    return Became::Conflict;
                }
                // It runs already, at whatever rate.
                let next = Ask {
                    rate: UsdRate::ZERO,
                    ..*ask
                };
                if !is_less && !self.admits(&set.payer, next, set.now) {
                    return Became::Refused;
                }
                let set = &mut self.holds[*hold];
                set.now = *ask;
                set.lapses_at_ms = RENEWED_UNTIL_MS;
                Became::Held { is_repeat: false }
            }
            Op::Accrue { hold, total } => {
                let set = &self.holds[*hold];
                let more = total.saturating_sub(set.posted);
                if !set.is_open || more <= Usd::ZERO {
                    return REPEAT;
                }
                let held = set.now.amount;
                self.exceed(*hold, more.saturating_sub(held));
                self.spend(*hold, more);
                let set = &mut self.holds[*hold];
                set.now.amount = held.saturating_sub(more).max(Usd::ZERO);
                set.posted = *total;
                done(more)
            }
            Op::Settle { hold, actual } => {
                let set = &self.holds[*hold];
                if set.is_open || set.has_lapsed {
                    done(self.end(*hold, *actual))
                } else {
                    REPEAT
                }
            }
            Op::Void { hold } => {
                let set = &self.holds[*hold];
                let actual = if set.is_open { set.posted } else { Usd::ZERO };
                if set.is_open || set.has_lapsed {
                    done(self.end(*hold, actual))
                } else {
                    REPEAT
                }
            }
            Op::Refund { hold, amount, key } => {
                let difference = Usd::ZERO.saturating_sub(*amount);
                self.correct(*hold, difference, format!("{hold} refund {key}"))
            }
            Op::Adjust { hold, difference, key } => self.correct(*hold, *difference, format!("{hold} adjust {key}")),
        }
    }

    fn hold(&mut self, who: usize, ask: Ask, key: Option<u8>, minutes: i64) -> Became {
        let payer = payer(who);
        let key = key.map(|key| format!("{} {key}", payer.tenant));
        if let Some(earlier) = key.as_ref().and_then(|key| self.keys.get(key)) {
            let set = &self.holds[*earlier];
            // Whoever retries may have a new session.
            let of = |payer: &Payer| (payer.project.clone(), payer.key.clone());
            let is_same = set.first == ask && of(&set.payer) == of(&payer) && set.is_open;
            return if is_same {
                Became::Held { is_repeat: true }
            } else {
                Became::Conflict
            };
        }
        if !self.admits(&payer, ask, Ask::default()) {
            return Became::Refused;
        }
        self.keys.extend(key.map(|key| (key, self.holds.len())));
        self.holds.push(Set {
            payer,
            first: ask,
            now: ask,
            posted: Usd::ZERO,
            lapses_at_ms: self.now_ms + minutes * MINUTE_MS,
            is_open: true,
            has_lapsed: false,
        });
        Became::Held { is_repeat: false }
    }

    fn correct(&mut self, hold: usize, difference: Usd, key: String) -> Became {
        if let Some(posted) = self.done.get(&key) {
            return Became::Done {
                posted: *posted,
                is_repeat: true,
            };
        }
        let posted = if difference.is_negative() {
            let amount = Usd::ZERO.saturating_sub(difference);
            Usd::ZERO.saturating_sub(self.take_off(hold, amount))
        } else {
            self.spend(hold, difference);
            self.exceed(hold, difference);
            difference
        };
        self.done.insert(key, posted);
        Became::Done {
            posted,
            is_repeat: false,
        }
    }
}
