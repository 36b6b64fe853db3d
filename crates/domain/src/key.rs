//! API keys: `fb_<id>_<secret>`, the secret being 256 random bits in hex.
//!
//! Only the SHA-256 of the secret is ever stored. A fast hash is right here, because the secret is random and not a
//! password that somebody chose.

use crate::id::KeyId;
use sha2::{Digest, Sha256};
use std::fmt;

const PREFIX: &str = "fb_";
const ID_HEX_DIGITS: usize = 16;
const SECRET_HEX_DIGITS: usize = 64;

/// Fewest bytes of a secret that somebody chose (an HS256 secret: RFC 7518 §3.2).
pub const CHOSEN_SECRET_BYTES_MIN: usize = 32;

/// SHA-256 of a key's secret half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(pub [u8; 32]);

/// A whole key. It is shown once, and neither `Debug` nor `Display` shows it by accident.
#[derive(Clone)]
pub struct ApiKey {
    id: KeyId,
    secret_hex: String,
}

impl ApiKey {
    /// Makes a key of random bytes.
    pub fn from_entropy(id: [u8; ID_HEX_DIGITS / 2], secret: [u8; SECRET_HEX_DIGITS / 2]) -> Self {
        let id = KeyId::try_from(hex::encode(id)).expect("hex digits are an identifier");
        Self {
            id,
            secret_hex: hex::encode(secret),
        }
    }

    /// Reads a presented key. `None` says only that it is none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let hex = |part: &str, digits| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
        let shaped = hex(id, ID_HEX_DIGITS) && hex(secret, SECRET_HEX_DIGITS);
        if !shaped {
            return None;
        }
        Some(Self {
            id: KeyId::try_from(id.to_ascii_lowercase()).ok()?,
            secret_hex: secret.to_ascii_lowercase(),
        })
    }

    pub fn id(&self) -> &KeyId {
        &self.id
    }

    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.secret_hex.as_bytes()).into())
    }

    /// The one place where the whole key becomes text.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, self.secret_hex)
    }

    /// Refuses a key that somebody made up instead of drawing it.
    pub fn check_strength(&self) -> Result<(), Weakness> {
        let bytes = hex::decode(&self.secret_hex).expect("checked when the key was made");
        check_variety(&bytes)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({PREFIX}{}_…)", self.id)
    }
}

/// Why a secret is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    #[error("it has {0} bytes; at least {CHOSEN_SECRET_BYTES_MIN} are needed")]
    Short(usize),
    #[error("it repeats itself")]
    Repetitive,
    #[error("it is, or contains, a well-known example")]
    WellKnown,
}

/// Words that stand in examples and default configurations, and so in every attacker's list.
const WELL_KNOWN: &[&str] = &[
    "secret",
    "password",
    "changeme",
    "change-me",
    "change_me",
    "your-256-bit",
    "your_secret",
    "your-secret",
    "example",
    "sk-1234",
    "default",
    "letmein",
    "0123456789",
    "abcdefghij",
    "qwerty",
    "admin",
    "supersecret",
    "test-key",
    "insert",
];

/// Checks a secret that somebody chose, such as the shared secret of HS256.
pub fn check_chosen_secret(secret: &[u8]) -> Result<(), Weakness> {
    if secret.len() < CHOSEN_SECRET_BYTES_MIN {
        return Err(Weakness::Short(secret.len()));
    }
    let lower = String::from_utf8_lossy(secret).to_ascii_lowercase();
    if WELL_KNOWN.iter().any(|word| lower.contains(word)) {
        return Err(Weakness::WellKnown);
    }
    check_variety(secret)
}

/// 32 random bytes hold 30 distinct values on average, 32 random base64 or hex characters at least 9 almost surely.
const DISTINCT_BYTES_MIN: usize = 8;

fn check_variety(secret: &[u8]) -> Result<(), Weakness> {
    let distinct = secret.iter().collect::<std::collections::HashSet<_>>().len();
    let steps = secret.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    let constant_step = steps.collect::<std::collections::HashSet<_>>().len() <= 1;
    if distinct < DISTINCT_BYTES_MIN || constant_step {
        Err(Weakness::Repetitive)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_form() {
        let key = ApiKey::from_entropy([7; 8], [0xab; 32]);
        let again = ApiKey::parse(&key.reveal()).unwrap();
        assert_eq!((again.id(), again.hash()), (key.id(), key.hash()));
        assert!(!format!("{key:?}").contains("abab"), "Debug must not show the secret");
    }

    #[test]
    fn what_is_no_key_is_none() {
        let key = ApiKey::from_entropy([7; 8], [0xab; 32]).reveal();
        for bad in [
            "",
            "fb_",
            "fb__",
            "sk-123",
            &key[1..],
            &key[..key.len() - 1],
            &format!("{key}0"),
            &key.replace('a', "g"),
        ] {
            assert!(ApiKey::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn weak_secrets_are_refused() {
        assert_eq!(check_chosen_secret(b"short"), Err(Weakness::Short(5)));
        assert_eq!(
            check_chosen_secret(b"your-256-bit-secret-your-256-bit-secret"),
            Err(Weakness::WellKnown)
        );
        assert_eq!(check_chosen_secret(&[b'x'; 40]), Err(Weakness::Repetitive));
        assert_eq!(
            check_chosen_secret(&(0..40).collect::<Vec<u8>>()),
            Err(Weakness::Repetitive)
        );
        assert_eq!(check_chosen_secret(b"hV3nq0Zk7cWm1Rt9yLx4bFs8uJd2gPaE"), Ok(()));
        assert_eq!(
            ApiKey::from_entropy([1; 8], [0; 32]).check_strength(),
            Err(Weakness::Repetitive)
        );
    }
}
