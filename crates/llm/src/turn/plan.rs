//! What becomes of each call of a round, before any of them runs.
//!
//! A round in which the model calls tools of the client ends the turn, since only the client can go on. What the
//! gateway's tools would answer in such a round has no place in the conversation that the client goes on with. So of
//! those only what changes nothing runs, and its result is in the report; the others are put off, and the model calls
//! them again if it still wants to.

use super::{
    calls::Call,
    offer::{Approval, Offered},
};
use forebay_domain::{Action, Code, Failure, Principal, tool::ToolInfo};

#[derive(Debug)]
pub(super) enum Fate {
    /// It runs here.
    Run,
    /// It does not run, and the model is told why.
    Refused(Failure),
    /// It is the client's own.
    Back,
    /// Somebody has to agree first; the client gets it.
    Approval,
    /// It is left for the next turn.
    PutOff,
}

impl Fate {
    /// Whether only the client can go on.
    fn returns(&self) -> bool {
        matches!(self, Self::Back | Self::Approval)
    }
}

/// What a call is told that comes too late.
pub(super) const NO_MORE: &str = "This turn has made as many calls as one may, or has cost what it may.";

/// What the fates depend on.
pub(super) struct Circumstances<'a> {
    pub(super) offered: &'a Offered,
    pub(super) principal: &'a Principal,
    /// The caller as a tainted turn acts for it; `None` where the turn has read nothing strange.
    pub(super) narrow: Option<&'a Principal>,
    pub(super) calls_left: usize,
}

/// The fate of each call, and whether the turn ends with this round.
pub(super) fn decide(calls: &[Call], circumstances: &Circumstances<'_>) -> (Vec<Fate>, bool) {
    let mut left = circumstances.calls_left;
    let mut fates: Vec<Fate> = calls.iter().map(|call| circumstances.fate(call, &mut left)).collect();
    let ends = fates.iter().any(Fate::returns);
    if ends {
        for (fate, call) in fates.iter_mut().zip(calls) {
            let changes = circumstances
                .offered
                .get(&call.name)
                .is_some_and(|mine| !mine.info.hints.read_only);
            if changes && matches!(fate, Fate::Run) {
                *fate = Fate::PutOff;
            }
        }
    }
    (fates, ends)
}

impl Circumstances<'_> {
    fn fate(&self, call: &Call, left: &mut usize) -> Fate {
        let Some(mine) = self.offered.get(&call.name) else {
            return if self.offered.is_clients(&call.name) {
                Fate::Back
            } else {
                Fate::Refused(Failure::new(Code::UnknownTool, "There is no tool of this name."))
            };
        };
        if call.arguments().is_none() {
            let message = "The arguments are not a JSON object.";
            return Fate::Refused(Failure::new(Code::InvalidArguments, message).hint("Call it again, with an object."));
        }
        if let Some(narrow) = self.narrow
            && let Some(denied) = newly_denied(&mine.info, self.principal, narrow)
        {
            return Fate::Refused(super::taint::refusal(&denied));
        }
        if mine.approval == Approval::Always {
            return Fate::Approval;
        }
        if *left == 0 {
            return Fate::Refused(Failure::new(Code::Overloaded, NO_MORE).hint("Answer with what there is."));
        }
        *left -= 1;
        Fate::Run
    }
}

/// What the narrow principal may not do of what this tool does, though the caller may.
fn newly_denied(info: &ToolInfo, principal: &Principal, narrow: &Principal) -> Option<Action> {
    let hints = info.hints;
    let effects = [
        (true, Action::tool(&info.name)),
        (!hints.read_only, Action::EFFECT_WRITE),
        (hints.destructive, Action::EFFECT_DESTRUCTIVE),
        (hints.open_world, Action::EFFECT_OPEN_WORLD),
    ];
    effects
        .into_iter()
        .filter_map(|(has, action)| has.then_some(action))
        .find(|action| principal.decide(action).is_allowed() && !narrow.decide(action).is_allowed())
}
