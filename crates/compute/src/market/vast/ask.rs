//! Asking vast.ai: at each route's pace, and what its errors mean, which come in no two alike.

use super::{Vast, broken};
use crate::market::{
    CALL_TIME_MAX, MarketFault,
    wire::{self, Answer, Call, Limit, Lost, Pace},
};
use http::StatusCode;
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Who asks too often is told when to ask again; that is waited for where it is no longer than this.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often a request that changes nothing is sent again after a 429.
const REPEATS_MAX: usize = 2;
/// Of a minute, for lists.
pub(super) const SEARCHES: usize = 6;
/// Of a minute, for one offer each: quotes and orders.
const LOOK_UPS: usize = 4;

/// What is asked, as far as its pace is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Route {
    Search,
    LookUp,
    Create,
    List,
    Show,
    Destroy,
    Logs,
    Charges,
    Rises,
}

impl Route {
    const ALL: [Self; 9] = [
        Self::Search,
        Self::LookUp,
        Self::Create,
        Self::List,
        Self::Show,
        Self::Destroy,
        Self::Logs,
        Self::Charges,
        Self::Rises,
    ];

    /// As documented; where nothing is, a second. Ten searches a minute are allowed: lists and looks at one offer share
    /// them, so that whoever lists keeps nobody from renting.
    fn limit(self) -> Limit {
        let every = |ms| Limit::every(Duration::from_millis(ms));
        match self {
            Self::Search => Limit::many(SEARCHES, Duration::from_mins(1)).backing_off(Duration::from_secs(6)),
            Self::LookUp => Limit::many(LOOK_UPS, Duration::from_mins(1)).backing_off(Duration::from_secs(6)),
            Self::Create => every(4_500).backing_off(Duration::from_secs(12)),
            Self::List => every(1_000).backing_off(Duration::from_secs(15)),
            Self::Show => every(2_000),
            Self::Destroy => every(3_000),
            Self::Logs | Self::Charges | Self::Rises => every(1_000),
        }
    }

    /// Whether asking twice does no more than asking once.
    fn changes_nothing(self) -> bool {
        match self {
            Self::Search | Self::LookUp | Self::List | Self::Show | Self::Charges | Self::Rises => true,
            Self::Create | Self::Destroy | Self::Logs => false,
        }
    }

    /// Whether it names an instance, which can be gone.
    fn is_about_one(self) -> bool {
        match self {
            Self::Show | Self::Destroy | Self::Logs => true,
            Self::Search | Self::LookUp | Self::Create | Self::List | Self::Charges | Self::Rises => false,
        }
    }
}

/// The pace of each route.
#[derive(Debug)]
pub(super) struct Paces(BTreeMap<Route, Pace>);

impl Paces {
    pub(super) fn new() -> Self {
        Self(Route::ALL.map(|route| (route, Pace::new(route.limit()))).into())
    }

    pub(super) fn of(&self, route: Route) -> &Pace {
        &self.0[&route]
    }
}

/// Why there is no answer to work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// What was asked about does not exist, says somebody who let us in.
    Gone(String),
    Fault(MarketFault),
}

impl From<MarketFault> for Told {
    fn from(fault: MarketFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Told> for MarketFault {
    fn from(told: Told) -> Self {
        match told {
            Told::Gone(words) => Self::Refused(words),
            Told::Fault(fault) => fault,
        }
    }
}

impl Vast {
    /// Asks, and gives the JSON of a success. What changes nothing is asked again where a 429 says when.
    pub(super) async fn ask(&self, route: Route, call: Call) -> Result<Value, Told> {
        let end = Instant::now() + CALL_TIME_MAX;
        let repeats = if route.changes_nothing() { REPEATS_MAX } else { 0 };
        for is_last in (0..=repeats).map(|sent| sent == repeats) {
            let left = end.saturating_duration_since(Instant::now());
            self.paces.of(route).turn(left.min(WAIT_MAX)).await?;
            let left = end.saturating_duration_since(Instant::now());
            let answer = self
                .api
                .send(call.clone().within(left))
                .await
                .map_err(MarketFault::from)?;
            if answer.status != StatusCode::TOO_MANY_REQUESTS {
                self.paces.of(route).answered();
                return meaning(route, &answer);
            }
            let after = self.too_many(route, &answer);
            if is_last || after > WAIT_MAX {
                return Err(limited(after).into());
            }
        }
        Err(broken("it was asked no times").into())
    }

    /// Asks once, and gives the answer whatever it is. Before it is sent nothing has happened; see [`Lost`].
    pub(super) async fn ask_once(&self, route: Route, call: Call) -> Result<Answer, Lost> {
        // Whoever wants a machine rather waits for some others to get theirs than to be told to come again.
        let turn = self.paces.of(route).turn(CALL_TIME_MAX).await;
        turn.map_err(|why| Lost {
            why,
            may_have_arrived: false,
        })?;
        let answer = self.api.send(call).await?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            self.too_many(route, &answer);
        } else {
            self.paces.of(route).answered();
        }
        Ok(answer)
    }

    /// Closes the route, and says for how long.
    pub(super) fn too_many(&self, route: Route, answer: &Answer) -> Duration {
        let quota = || self.quota_resets_after(answer);
        let after = answer.retry_after().or_else(quota);
        // They are one route there.
        let other = match route {
            Route::Search => Some(Route::LookUp),
            Route::LookUp => Some(Route::Search),
            _ => None,
        };
        let wait = self.paces.of(route).refused(after);
        if let Some(other) = other {
            self.paces.of(other).refused(Some(wait));
        }
        wait
    }

    /// The searches of a day can be used up; they are there again at midnight (UTC), or when the header says.
    fn quota_resets_after(&self, answer: &Answer) -> Option<Duration> {
        const DAY_SECONDS: i64 = 86_400;
        if answer.json()?.get("error")? != "search_quota_exceeded" {
            return None;
        }
        let now = self.clock.now().as_second();
        let header = answer.headers.get("x-ratelimit-reset");
        let said = header.and_then(|value| value.to_str().ok()?.trim().parse::<i64>().ok());
        let midnight = (now.div_euclid(DAY_SECONDS) + 1) * DAY_SECONDS;
        let reset = said
            .filter(|said| *said > now)
            .unwrap_or(midnight)
            .min(midnight + DAY_SECONDS);
        Some(Duration::from_secs(u64::try_from(reset - now).unwrap_or_default()))
    }
}

pub(super) fn limited(after: Duration) -> MarketFault {
    MarketFault::RateLimited {
        retry_after: Some(after),
    }
}

/// The JSON of a success, or what the error means.
fn meaning(route: Route, answer: &Answer) -> Result<Value, Told> {
    let body = answer.json().filter(Value::is_object);
    if answer.status.is_success() {
        let body = body.ok_or_else(|| broken("its answer is no JSON object"))?;
        // Some errors come with 200.
        return if body.get("success") == Some(&Value::Bool(false)) {
            Err(refusal(&body).into())
        } else {
            Ok(body)
        };
    }
    Err(error(route, answer, body.as_ref()))
}

fn error(route: Route, answer: &Answer, body: Option<&Value>) -> Told {
    let words = || body.map_or_else(|| answer.words(), said);
    let name = body.and_then(|body| wire::text(body, "error")).unwrap_or_default();
    // Before anything else: a wrong key may come as a 404, and then nothing is gone.
    if is_locked_out(answer.status, name, body) {
        return MarketFault::LockedOut(words()).into();
    }
    match (answer.status.as_u16(), body) {
        (404, Some(_)) if route.is_about_one() && matches!(name, "no_such_instance" | "not_found") => {
            Told::Gone(words())
        }
        // A 404 of nothing in particular may be a proxy's, and says nothing.
        (status @ (404 | 408 | 500..), _) | (status, None) => {
            MarketFault::Broken(format!("{status} {}", words())).into()
        }
        (_, Some(body)) => refusal(body).into(),
    }
}

/// A definite no, in JSON.
pub(super) fn refusal(body: &Value) -> MarketFault {
    let words = said(body);
    let name = wire::text(body, "error").unwrap_or_default();
    if name == "auth_error" {
        MarketFault::LockedOut(words)
    } else if name == "no_such_ask" || words.contains("no_such_ask") {
        MarketFault::OfferGone(words)
    } else if name == "insufficient_credit" {
        MarketFault::NoCredit(words)
    } else {
        MarketFault::Refused(words)
    }
}

pub(super) fn is_locked_out(status: StatusCode, name: &str, body: Option<&Value>) -> bool {
    let is_about_the_key = || body.is_some_and(|body| said(body).contains("Invalid user key"));
    matches!(status.as_u16(), 401 | 403) || name == "auth_error" || is_about_the_key()
}

/// Whatever it says, under whichever key.
fn said(body: &Value) -> String {
    let keys = ["msg", "message", "detail", "error"];
    let words = keys
        .iter()
        .find_map(|key| wire::text(body, key))
        .unwrap_or("it does not say why");
    MarketFault::words(words)
}
