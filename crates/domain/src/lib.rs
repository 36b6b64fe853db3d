//! The nouns and rules of Forebay.
//!
//! Pure: nothing here reads the clock, the network, the disk, randomness or the environment. What a rule needs to
//! know about the world is a parameter, so every rule is tested with plain values.

pub mod access;
pub mod context;
pub mod conversation;
pub mod error;
pub mod event;
pub mod grant;
pub mod id;
pub mod json;
pub mod key;
pub mod ledger;
pub mod market;
pub mod model;
pub mod money;
pub mod pattern;
pub mod port;
pub mod price;
pub mod principal;
pub mod quarantine;
pub mod route;
pub mod task;
pub mod tool;

pub use access::{Action, Decision, Role};
pub use error::{Code, ErrorKind, Failure, seconds_up};
pub use event::Event;
pub use grant::Grant;
pub use pattern::Pattern;
pub use principal::Principal;
