//! The fakes themselves: that they are as unkind as they say, and can be started as a program.
#![expect(
    clippy::unwrap_used,
    reason = "a part that does not work shall fail its test at once"
)]

mod frame;
mod program;
mod vast;
