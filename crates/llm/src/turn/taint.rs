//! What a turn may still do once it has read somebody else's words.
//!
//! A document, a web page or the result of an untrusted tool may be written so as to make a model act. No wording of a
//! prompt prevents that for sure. So a turn that has read such text is tainted: from then on it calls tools as a
//! narrower principal, and the one policy of the house refuses what is denied, whatever the model was talked into.

use forebay_domain::{Code, Failure, Grant, Principal};

/// What tainted turns may not do: denials like `!effect:write`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Denials(pub(crate) Vec<Grant>);

impl Denials {
    /// The caller as a tainted turn acts for it.
    pub(crate) fn narrow(&self, principal: &Principal) -> Principal {
        let mut narrow = principal.clone();
        narrow.grants.extend(self.0.iter().cloned());
        narrow
    }

    /// The refusal of a call that only the taint denies, in its own words.
    pub(crate) fn told(&self, failure: Failure) -> Failure {
        if !matches!(failure.code, Code::InsufficientScope | Code::Forbidden) {
            return failure;
        }
        let message = "This turn has read data that others wrote, and what the tool does is denied then.";
        Failure::new(Code::TaintedTurn, message)
            .hint("Answer without it, or ask for it in a request of its own.")
            .caused_by(failure)
    }
}
