//! Quarantine: what an upstream server says about its tools is not believed unread.
//!
//! A definition is text that a model will follow, written by somebody else, and it may change after it was approved.
//! So each has a [`Fingerprint`] over its canonical form; what is new, changed or suspicious is judged by a
//! [`Policy`]; what deceives the eye is taken out ([`clean`]), and a difference shows it ([`diff`]). Names get their
//! form `<server>__<tool>` here as well.
//!
//! This is all rule and no memory: which fingerprints were approved is the store's to know. It refuses definitions that
//! cannot be made safe by taking characters out, since a changed key or name would name something else.

mod characters;
mod clean;
mod definition;
mod diff;
mod fingerprint;
mod flag;
mod hints;
mod inspect;
mod kind;
mod name;
mod node;
mod policy;
mod suspicion;

pub use characters::visible;
pub use clean::{Cleaned, clean, clean_text};
pub use definition::{DEFINITION_BYTES_MAX, Definition, DefinitionFault, DefinitionName, NAME_BYTES_MAX, NOT_COVERED};
pub use diff::{Change, diff, render};
pub use fingerprint::Fingerprint;
pub use flag::{Flag, Flags};
pub use hints::Hints;
pub use inspect::{Inspected, inspect};
pub use kind::Kind;
pub use name::{EXPOSED_NAME_CHARS_MAX, NAME_SEPARATOR, NameFault, SERVER_NAME_CHARS_MAX, ServerName, exposed_name};
pub use policy::{OnFlags, Pinned, Policy, Reaction, Verdict, Why, decide};
