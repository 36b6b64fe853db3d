//! Signatures of messages, after Standard Webhooks: HMAC-SHA256 over id, time and body, under a secret of both sides.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::{Engine, prelude::BASE64_STANDARD};
use forebay_runtime::Secret;

const PREFIX: &str = "whsec_";
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

pub(super) struct SigningKey(hmac::Key);

impl SigningKey {
    pub(super) fn parse(secret: &Secret) -> Option<Self> {
        let text = secret.expose().strip_prefix(PREFIX)?;
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        BYTES
            .contains(&bytes.len())
            .then(|| Self(hmac::Key::new(HMAC_SHA256, &bytes)))
    }

    /// The header `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> Option<SigningKey> {
        SigningKey::parse(&Secret::new(secret.to_owned()))
    }

    /// The example of the specification's own reference implementations.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_has_its_form_and_its_length() {
        for wrong in [
            "",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_%%%",
        ] {
            assert!(key(wrong).is_none(), "{wrong}");
        }
    }
}
