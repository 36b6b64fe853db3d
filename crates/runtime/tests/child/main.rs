//! Supervised children as real processes. This binary is at once the tests, the guard and a gateway that gets killed, so
//! it speaks by itself what `cargo test` and `cargo nextest` ask of a test binary: to list its tests and to run some.
#![expect(
    clippy::unwrap_used,
    reason = "a part that does not work shall fail its test at once"
)]

mod children;
mod fixtures;
mod guarding;
mod supervising;

use std::{
    env,
    ffi::OsString,
    io::{Write, stdout},
    process::ExitCode,
};

type Test = (&'static str, fn());

/// A test that is missing here is dead code, which the compiler reports.
macro_rules! tests {
    ($($module:ident: $($name:ident)*;)*) => {
        const TESTS: &[Test] = &[$($(
            (concat!(stringify!($module), "::", stringify!($name)), || fixtures::block_on($module::$name())),
        )*)*];
    };
}

tests! {
    children:
        the_end_of_a_program_is_told
        what_cannot_be_started_is_named
        streams_are_the_program_s_own
        a_program_sees_nothing_else_of_the_environment
        a_flood_on_standard_error_is_bounded_and_blocks_nobody
        closing_standard_input_is_tried_first
        sigterm_is_tried_second
        a_program_that_ignores_sigterm_is_killed
        what_a_program_leaves_behind_is_ended
        dropping_a_child_ends_it;
    guarding:
        all_descendants_of_a_killed_gateway_are_gone
        a_gateway_that_ends_leaves_nothing
        a_killed_guard_takes_its_program_along
        a_stuck_guard_is_noticed
        a_guard_refuses_to_be_started_by_hand;
    supervising:
        waits_grow_and_every_end_is_told
        it_starts_again_by_itself
        health_makes_ends_forgotten
        whoever_attends_may_let_go
        draining_lets_whoever_attends_finish
        stopping_and_dropping_end_the_child
        ending_waits_for_nobody
        a_missing_program_is_tried_for_ever;
}

fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    match words.first().and_then(|word| word.to_str()) {
        Some("child-guard") => fixtures::be_a_guard(&words[1..]),
        Some("gateway") => fixtures::be_a_gateway(&words[1]),
        _ => run_tests(&words),
    }
}

fn run_tests(words: &[OsString]) -> ExitCode {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let is = |flag| words.contains(&flag);
    let wanted: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with('-')).collect();
    let matches = |name: &str, word: &str| {
        if is("--exact") {
            name == word
        } else {
            name.contains(word)
        }
    };
    for (name, test) in TESTS {
        if is("--ignored") || (is("--list") && is("--exact")) {
            continue;
        }
        if is("--list") {
            say(&format!("{name}: test"));
        } else if wanted.is_empty() || wanted.iter().any(|word| matches(name, word)) {
            say(&format!("test {name}"));
            test();
        }
    }
    ExitCode::SUCCESS
}

fn say(line: &str) {
    let mut out = stdout();
    writeln!(out, "{line}").unwrap();
}
