//! The command line as its users meet it: configurations as they are written, and the real binary.
#![expect(
    clippy::unwrap_used,
    reason = "a part that does not work shall fail its test at once"
)]

mod child_guard;
mod commands;
mod config;
mod declared;
mod mcp_forms;
mod mcp_install;
mod meaning;
mod process;
mod reload;
mod schema;
mod stdio_inside;
mod streams;
mod upstreams;

use forebay_testkit::gateway::GatewayOptions;
use std::process::Output;

/// The binary under test.
fn options(config_yaml: &str) -> GatewayOptions {
    GatewayOptions::new(env!("CARGO_BIN_EXE_forebay"), config_yaml)
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
