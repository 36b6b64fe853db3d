//! What a provider did not do, and what that means.

use std::time::Duration;

/// Messages of providers are shown so far.
const WORDS_MAX: usize = 300;

/// Why a provider did not answer what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarketFault {
    /// Our key is not good, or not for this. Nothing that the provider says then is about machines.
    #[error("the provider does not let us in: {0}")]
    LockedOut(String),
    #[error("it is asked as often as it lets itself be asked, and not more often for now")]
    RateLimited { retry_after: Option<Duration> },
    /// There was no answer, or not in time.
    #[error("the provider could not be reached: {0}")]
    Unreachable(String),
    /// An answer that means nothing: a 5xx, no JSON, not what was agreed.
    #[error("the provider answered nonsense: {0}")]
    Broken(String),
    /// The offer is no longer there.
    #[error("the offer is no longer there: {0}")]
    OfferGone(String),
    /// The account has no money left.
    #[error("the account at the provider has too little credit: {0}")]
    NoCredit(String),
    /// A definite no.
    #[error("the provider refuses: {0}")]
    Refused(String),
    /// This provider has nothing of the kind.
    #[error("this provider cannot {0}")]
    Unsupported(&'static str),
}

impl MarketFault {
    /// Whether it leaves us without any knowledge of what is there.
    pub fn is_blind(&self) -> bool {
        matches!(
            self,
            Self::LockedOut(_) | Self::RateLimited { .. } | Self::Unreachable(_) | Self::Broken(_)
        )
    }

    /// Words of a provider for a message: printable, and not more than somebody wants to read.
    pub fn words(text: &str) -> String {
        let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        printable.take(WORDS_MAX).collect::<String>().trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_was_understood_is_knowledge() {
        assert!(MarketFault::LockedOut(String::new()).is_blind());
        assert!(MarketFault::RateLimited { retry_after: None }.is_blind());
        assert!(!MarketFault::OfferGone(String::new()).is_blind());
        assert!(!MarketFault::NoCredit(String::new()).is_blind());
    }

    #[test]
    fn a_providers_words_are_bounded() {
        assert_eq!(MarketFault::words(" a\nb\u{1b}[0m "), "a b [0m");
        assert_eq!(MarketFault::words(&"x".repeat(5_000)).len(), WORDS_MAX);
    }
}
