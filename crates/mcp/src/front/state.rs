//! The `requestState` of multi-round-trip requests: what a client carries for us between two rounds, signed.
//!
//! It says whose it is, which request it belongs to and until when it is good. Anything else than what was given out is
//! refused. It is signed, not encrypted: a source that has secrets keeps them out of its state.

use crate::{index::Scope, session::Owner};
use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac::{self, HMAC_SHA256},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use forebay_domain::{Code, Failure};
use forebay_runtime::{Clock, Entropy};
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// How long a client may think.
pub(crate) const STATE_TTL: Duration = Duration::from_mins(10);
/// How long a key signs; it goes on verifying for as long again, which is longer than any state is good.
const KEY_LIFE: Duration = Duration::from_hours(1);
/// The longest state that is looked at, in bytes.
const STATE_BYTES_MAX: usize = 256 << 10;

/// What signs states: keys of this process, or those that all replicas share.
#[derive(Clone)]
pub struct StateKeys(Arc<Inner>);

struct Inner {
    clock: Clock,
    entropy: Entropy,
    keys: Mutex<Keys>,
}

struct Keys {
    /// The newest one first: that one signs, all of them verify.
    all: Vec<hmac::Key>,
    /// The latest one that was made here.
    own: hmac::Key,
    since: Duration,
    from: From,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Here,
    Elsewhere,
}

/// What a state stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// A call that waits here, by its number.
    #[serde(rename = "p")]
    Parked(String),
    /// The state of a source.
    #[serde(rename = "s")]
    Source(String),
}

/// The request to which a state belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) scope: &'a Scope,
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    state: State,
    about: String,
    until_ms: i64,
}

impl StateKeys {
    pub fn new(clock: Clock, entropy: Entropy) -> Self {
        let own = fresh(&entropy);
        let keys = Keys {
            all: vec![own.clone()],
            own,
            since: clock.monotonic(),
            from: From::Here,
        };
        Self(Arc::new(Inner {
            clock,
            entropy,
            keys: Mutex::new(keys),
        }))
    }

    /// Puts shared keys in force, the one that signs first. From then on they are renewed from outside alone.
    pub fn supply<const N: usize>(&self, secrets: &[[u8; N]]) {
        if secrets.is_empty() {
            return;
        }
        let mut keys = self.lock();
        keys.all = secrets
            .iter()
            .map(|secret| hmac::Key::new(HMAC_SHA256, secret))
            .collect();
        keys.from = From::Elsewhere;
    }

    /// The clock that states are good by, and callers too.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn sign(&self, state: State, about: About<'_>) -> String {
        let ttl_ms = i64::try_from(STATE_TTL.as_millis()).unwrap_or(i64::MAX);
        let claims = Claims {
            state,
            about: fingerprint(about),
            until_ms: self.now_ms().saturating_add(ttl_ms),
        };
        let claims = serde_json::to_vec(&claims).expect("strings and numbers are JSON");
        let mut keys = self.lock();
        self.rotate(&mut keys);
        let tag = hmac::sign(&keys.all[0], &claims);
        format!(
            "{}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(&claims),
            BASE64_URL_SAFE_NO_PAD.encode(tag)
        )
    }

    pub(crate) fn verify(&self, text: &str, about: About<'_>) -> Result<State, Failure> {
        self.read(text, about).ok_or_else(|| {
            let message = "`requestState` is none that was given to this caller for this request, or it is too old.";
            Failure::new(Code::InvalidRequestState, message).hint("Begin again without `requestState`.")
        })
    }

    fn read(&self, text: &str, about: About<'_>) -> Option<State> {
        if text.len() > STATE_BYTES_MAX {
            return None;
        }
        let (claims, tag) = text.split_once('.')?;
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).ok()?;
        let is_ours = self
            .lock()
            .all
            .iter()
            .any(|key| hmac::verify(key, &claims, &tag).is_ok());
        let claims: Claims = is_ours.then(|| serde_json::from_slice(&claims).ok())??;
        let fits = claims.about == fingerprint(about) && self.now_ms() < claims.until_ms;
        fits.then_some(claims.state)
    }

    fn rotate(&self, keys: &mut Keys) {
        let now = self.0.clock.monotonic();
        if keys.from == From::Here && now.saturating_sub(keys.since) >= KEY_LIFE {
            keys.own = fresh(&self.0.entropy);
            let own = keys.own.clone();
            keys.all.insert(0, own);
            keys.all.truncate(2);
            keys.since = now;
        }
    }

    fn now_ms(&self) -> i64 {
        self.0.clock.now().as_millisecond()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.0.keys.lock().expect("nobody panics while holding the keys")
    }
}

fn fresh(entropy: &Entropy) -> hmac::Key {
    hmac::Key::new(HMAC_SHA256, &entropy.bytes::<32>())
}

/// One text for one owner, scope, method and target. Lengths stand before what a client chose, so that no two requests
/// have one text.
fn fingerprint(about: About<'_>) -> String {
    let scope = match about.scope {
        Scope::Whole => "",
        Scope::Server(name) => name,
    };
    let owner = about.owner.fingerprint();
    let (method, target) = (about.method, about.target);
    let text = format!(
        "{}:{owner}{}:{scope}{}:{method}{target}",
        owner.len(),
        scope.len(),
        method.len()
    );
    hex::encode(digest(&SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::{
        Principal, Role,
        id::{KeyId, SubjectId, TenantId},
    };
    use jiff::Timestamp;

    fn owner(key: &str) -> Owner {
        Owner::from(&Principal {
            tenant: TenantId::try_from("t").unwrap(),
            project: None,
            subject: SubjectId::try_from("s").unwrap(),
            key: Some(KeyId::try_from(key).unwrap()),
            session: None,
            role: Role::User,
            grants: Vec::new(),
            shown: Vec::new(),
            good_until: None,
        })
    }

    fn keys() -> (StateKeys, Clock) {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        (StateKeys::new(clock.clone(), Entropy::seeded(1)), clock)
    }

    fn about<'a>(owner: &'a Owner, target: &'a str) -> About<'a> {
        About {
            owner,
            scope: &Scope::Whole,
            method: "tools/call",
            target,
        }
    }

    #[test]
    fn a_state_is_good_for_its_owner_and_its_request_alone() {
        let (keys, _) = keys();
        let (mine, other) = (owner("a"), owner("b"));
        let state = State::Source("inner \"state\"".to_owned());
        let text = keys.sign(state.clone(), about(&mine, "add"));
        assert_eq!(keys.verify(&text, about(&mine, "add")).unwrap(), state);
        let server = Scope::Server("docs".into());
        let elsewhere = About {
            scope: &server,
            ..about(&mine, "add")
        };
        let read = About {
            method: "resources/read",
            ..about(&mine, "add")
        };
        for wrong in [about(&other, "add"), about(&mine, "sub"), elsewhere, read] {
            let failure = keys.verify(&text, wrong).unwrap_err();
            assert_eq!(failure.code, Code::InvalidRequestState, "{wrong:?}");
        }
    }

    #[test]
    fn what_was_altered_or_is_too_old_is_refused() {
        let (keys, clock) = keys();
        let mine = owner("a");
        let text = keys.sign(State::Parked("7".to_owned()), about(&mine, "add"));
        let mut flipped = text.clone().into_bytes();
        flipped[10] ^= 1;
        let flipped = String::from_utf8(flipped).unwrap();
        for wrong in [
            format!("{text}-TAMPERED"),
            flipped,
            text.replace('.', ""),
            text.split('.').next().unwrap().to_owned(),
            String::new(),
            "x".repeat(STATE_BYTES_MAX + 1),
        ] {
            assert!(keys.verify(&wrong, about(&mine, "add")).is_err());
        }
        clock.advance(STATE_TTL.saturating_sub(Duration::from_millis(1)));
        assert!(keys.verify(&text, about(&mine, "add")).is_ok());
        clock.advance(Duration::from_millis(1));
        assert!(keys.verify(&text, about(&mine, "add")).is_err());
    }

    #[test]
    fn a_key_goes_on_verifying_after_the_next_one_signs() {
        let (keys, clock) = keys();
        let mine = owner("a");
        clock.advance(KEY_LIFE.saturating_sub(Duration::from_secs(1)));
        let text = keys.sign(State::Parked("7".to_owned()), about(&mine, "add"));
        clock.advance(Duration::from_secs(2));
        let newer = keys.sign(State::Parked("8".to_owned()), about(&mine, "add"));
        assert!(keys.verify(&text, about(&mine, "add")).is_ok());
        assert!(keys.verify(&newer, about(&mine, "add")).is_ok());
        let other = StateKeys::new(clock.clone(), Entropy::seeded(2));
        assert!(other.verify(&newer, about(&mine, "add")).is_err(), "another process");
        let shared = [[7; 32], [8; 32]];
        keys.supply(&shared);
        other.supply(&shared);
        let text = keys.sign(State::Parked("9".to_owned()), about(&mine, "add"));
        assert!(
            other.verify(&text, about(&mine, "add")).is_ok(),
            "a replica with the same keys"
        );
    }
}
