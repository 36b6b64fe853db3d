//! The rules of the house, through their public face.
#![expect(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

mod book;
mod model;
