//! What calls of tools cost: set aside before a tool runs, paid once it ran.
//!
//! A tool has one price for each call, whatever comes of it: one that fails has run. What is refused before it runs costs
//! nothing, and a call that is dropped closes its own bill.

use crate::call::Outcome;
use arc_swap::ArcSwap;
use forebay_domain::{
    Code, ErrorKind, Failure, Principal,
    id::HoldId,
    ledger::{Ask, Payer, Posting, Purpose, PurposeKind},
    money::{Usd, UsdRate},
    port::Via,
    price::Price,
    tool::CallCost,
};
use forebay_runtime::Clock;
use forebay_store::ledger::{HoldRequest, Ledger, Settlement};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const TOOLS_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 256;
/// How much longer than its tool may run a hold lives: a person may be asked something in the middle of a call.
const GRACE: Duration = Duration::from_hours(1);

/// What things cost that are not models, in US dollars.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PricesConfig {
    /// A call of each of these tools, by its name in the whole catalogue. All others cost nothing.
    #[schemars(with = "BTreeMap<String, f64>", extend("x-forebay-reload" = "live"))]
    pub tools: BTreeMap<String, Price>,
}

impl PricesConfig {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(String::as_str)
    }

    /// Says what of it cannot be used. A tool that is not there yet may have a price.
    pub fn check(&self) -> Result<(), Failure> {
        let invalid = |message: String| {
            let hint = "Write the name of a tool as `tools/list` shows it.";
            Err(Failure::new(Code::InvalidConfig, message).hint(hint))
        };
        if self.tools.len() > TOOLS_MAX {
            return invalid(format!("prices.tools: at most {TOOLS_MAX} tools have prices."));
        }
        let is_name = |name: &String| {
            (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(|c| c.is_control() || c.is_whitespace())
        };
        match self.tools.keys().find(|name| !is_name(name)) {
            Some(name) => invalid(format!(
                "prices.tools: {:?} is no name of a tool.",
                name.escape_debug().to_string()
            )),
            None => Ok(()),
        }
    }
}

/// The prices in force, and where what they come to is kept.
pub(crate) struct Prices {
    pub(crate) ledger: Ledger,
    pub(crate) clock: Clock,
    pub(crate) tools: ArcSwap<BTreeMap<String, Price>>,
}

impl Prices {
    pub(crate) fn set(&self, config: &PricesConfig) {
        self.tools.store(Arc::new(config.tools.clone()));
    }

    /// A call's price, by the tool's name in the whole catalogue.
    pub(crate) fn of(&self, tool: &str) -> Usd {
        self.tools.load().get(tool).map_or(Usd::ZERO, |price| price.usd())
    }

    /// The bill of one call, which is about to be made: what it costs is set aside where a budget counts.
    pub(crate) async fn bill<'a>(
        &'a self,
        principal: &Principal,
        tool: &str,
        via: Via,
        lasts: Duration,
        told: Told<'a>,
    ) -> Result<Bill<'a>, Failure> {
        let price = self.of(tool);
        let bill = move |way| Bill {
            ledger: &self.ledger,
            price,
            way: Some(way),
            has_begun: false,
            told,
        };
        if price == Usd::ZERO {
            return Ok(bill(Way::Free));
        }
        let (payer, trace) = (Payer::from(principal), via.trace);
        let purpose = Purpose {
            kind: PurposeKind::Tool,
            name: tool.to_owned(),
        };
        if !self.ledger.limits(&payer) {
            self.ledger.room().await.map_err(Failure::from)?;
            return Ok(bill(Way::Later(Box::new(Posting {
                payer,
                purpose,
                amount: price,
                trace,
                estimated: false,
            }))));
        }
        let request = HoldRequest {
            payer,
            purpose,
            ask: Ask {
                amount: price,
                rate: UsdRate::ZERO,
            },
            trace,
            idempotency_key: None,
            lapses_at: self.clock.now() + (lasts + GRACE),
            needs_limit: false,
        };
        let hold = self.ledger.hold(request).await.map_err(Failure::from)?;
        Ok(bill(Way::Held(hold.id)))
    }
}

enum Way {
    Free,
    Held(HoldId),
    Later(Box<Posting>),
}

/// Who hears what a call came to.
pub(crate) struct Told<'a> {
    /// Whoever made the call, where it asked.
    pub(crate) caller: Option<&'a CallCost>,
    /// The record of the call.
    pub(crate) record: &'a mut Option<Usd>,
}

/// What one call is to cost. Dropped before the call began it costs nothing, and the price afterwards.
pub(crate) struct Bill<'a> {
    ledger: &'a Ledger,
    price: Usd,
    way: Option<Way>,
    has_begun: bool,
    told: Told<'a>,
}

impl Bill<'_> {
    /// From here on the tool may run.
    pub(crate) fn begins(&mut self) {
        self.has_begun = true;
    }

    pub(crate) fn ends(mut self, result: &Result<Outcome, Failure>) {
        self.has_begun &= has_run(result);
    }
}

impl Drop for Bill<'_> {
    fn drop(&mut self) {
        match self.way.take() {
            None | Some(Way::Free) => return,
            Some(Way::Held(id)) if !self.has_begun => return self.ledger.void_soon(id),
            Some(Way::Later(_)) if !self.has_begun => return,
            Some(Way::Held(id)) => {
                let settlement = Settlement {
                    actual: self.price,
                    estimated: false,
                };
                self.ledger.settle_soon(id, settlement);
            }
            Some(Way::Later(posting)) => self.ledger.post_soon(*posting),
        }
        *self.told.record = Some(self.price);
        if let Some(caller) = self.told.caller {
            caller.add(self.price);
        }
    }
}

/// Whether a tool ran, by how its call ended. In doubt it did.
fn has_run(result: &Result<Outcome, Failure>) -> bool {
    /// Of JSON-RPC: not understood, no such method, parameters that do not fit.
    const NOT_RUN: [i64; 4] = [-32_700, -32_600, -32_601, -32_602];
    match result {
        // The tool was let run, and what it needed itself was refused: a model, for one that asks models.
        Ok(Outcome::Complete(complete)) => complete.failed.is_none_or(|code| !is_refusal(code)),
        // It is called again with what it asked for.
        Ok(Outcome::InputRequired(_)) => false,
        Ok(Outcome::Refused(error)) => !NOT_RUN.contains(&error.code),
        Ok(Outcome::Cancelled) => true,
        Err(failure) => !is_refusal(failure.code),
    }
}

fn is_refusal(code: Code) -> bool {
    match code {
        Code::ResultTooLarge | Code::ClientSilent | Code::Cancelled => return false,
        Code::Overloaded => return true,
        _ => {}
    }
    match code.kind() {
        ErrorKind::Invalid
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::OverBudget
        | ErrorKind::RateLimited => true,
        ErrorKind::UpstreamFailed | ErrorKind::UpstreamTimedOut | ErrorKind::Unavailable | ErrorKind::Bug => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        builtin::told,
        call::{Complete, RpcError, raw},
    };
    use serde_json::json;

    #[test]
    fn what_ran_is_paid_for_and_what_was_refused_is_not() {
        let fine = Complete {
            raw: raw(&json!({})),
            is_error: false,
            failed: None,
        };
        let failed = |code| Err(Failure::new(code, "no"));
        let rpc = |code| {
            Ok(Outcome::Refused(RpcError {
                code,
                message: "no".to_owned(),
                data: None,
            }))
        };
        let within = |code| Ok(Outcome::Complete(told(&Failure::new(code, "no"))));
        for (result, expected) in [
            (Ok(Outcome::Complete(fine)), true),
            (Ok(Outcome::Cancelled), true),
            (Ok(Outcome::InputRequired(raw(&json!({})))), false),
            (within(Code::ToolRefused), true),
            (within(Code::UpstreamFailed), true),
            (within(Code::SpendingLimitExceeded), false),
            (rpc(-32_603), true),
            (rpc(-32_602), false),
            (failed(Code::ToolTimedOut), true),
            (failed(Code::ResultTooLarge), true),
            (failed(Code::CallLost), true),
            (failed(Code::InvalidArguments), false),
            (failed(Code::ToolHeld), false),
            (failed(Code::RateLimited), false),
            (failed(Code::Overloaded), false),
        ] {
            assert_eq!(has_run(&result), expected, "{result:?}");
        }
    }

    #[test]
    fn names_are_checked() {
        let check = |json: &str| serde_json::from_str::<PricesConfig>(json).unwrap().check();
        assert!(check(r#"{"tools":{"web_search":0.005,"docs__search":0}}"#).is_ok());
        for name in ["", "a b", "a\\nb"] {
            let refused = check(&format!(r#"{{"tools":{{"{name}":1}}}}"#)).unwrap_err();
            assert_eq!(refused.code, Code::InvalidConfig, "{refused}");
        }
        assert!(serde_json::from_str::<PricesConfig>(r#"{"tools":{"a":-1}}"#).is_err());
    }
}
