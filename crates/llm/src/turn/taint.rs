//! What a turn may still do once it has read somebody else's words.
//!
//! A document, a web page or the result of an untrusted tool may be written so as to make a model act. No wording of a
//! prompt prevents that for sure. So a turn that has read such text is tainted: from then on it calls tools as a
//! narrower principal, and the one policy of the house refuses what is denied, whatever the model was talked into.

use forebay_domain::{Action, Code, Failure, Grant, Principal};

/// The caller as a tainted turn acts for it: whatever was granted, the denials hold.
pub(super) fn narrow(principal: &Principal, denied: &[Grant]) -> Principal {
    let mut narrow = principal.clone();
    narrow.grants.extend_from_slice(denied);
    narrow
}

/// What the model is told of a call that only the taint denies.
pub(super) fn refusal(action: &Action) -> Failure {
    let message = format!("This turn has read data that others wrote; `{action}` is denied from then on.");
    Failure::new(Code::TaintedTurn, message).hint("Answer without it, or ask for it in a request of its own.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Bounds;
    use forebay_domain::Role;

    #[test]
    fn the_denials_hold_whatever_was_granted() {
        let admin = Principal {
            tenant: "acme".parse().expect("a name"),
            project: None,
            subject: "ann".parse().expect("a name"),
            key: None,
            session: None,
            role: Role::Admin,
            grants: Vec::new(),
            shown: Vec::new(),
            good_until: None,
        };
        let narrow = narrow(&admin, &Bounds::default().denied);
        for action in [Action::EFFECT_WRITE, Action::EFFECT_DESTRUCTIVE, Action::GPU_CREATE] {
            assert!(
                admin.decide(&action).is_allowed() && !narrow.decide(&action).is_allowed(),
                "{action}"
            );
        }
        assert!(narrow.decide(&Action::tool("look")).is_allowed());
    }
}
