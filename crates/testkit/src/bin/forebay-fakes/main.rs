//! `forebay-fakes vast --port 8900`: a fake provider of machines as a program of its own, for clients in any language.
//!
//! It prints one line of JSON when it listens, and ends at SIGTERM or Ctrl-C. See `docs/fakes.md`.

mod arguments;

use arguments::{Provider, Start};
use forebay_runtime::{Clock, lifecycle};
use forebay_testkit::markets::{Fake, Vendor, faults, ionet, runpod, vast};
use futures_util::StreamExt;
use serde_json::json;
use std::{
    io::{self, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    let start = match arguments::parse(std::env::args_os()) {
        Ok(start) => start,
        Err(refusal) => {
            // Help is a refusal too, as far as the parser is concerned: it says itself where it belongs.
            let _ = refusal.print();
            return ExitCode::from(u8::try_from(refusal.exit_code()).unwrap_or(1));
        }
    };
    match run(start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(start: Start) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        match start.provider {
            Provider::Vast => serve(vast::Vast::new(start.offers.unwrap_or_default()), start).await,
            Provider::IoNet => {
                let usual = ionet::IoNet::default;
                serve(start.offers.map_or_else(usual, ionet::IoNet::with_offers), start).await
            }
            Provider::RunPod => {
                let usual = runpod::RunPod::default;
                serve(start.offers.map_or_else(usual, runpod::RunPod::with_offers), start).await
            }
        }
    })
}

async fn serve<V: Vendor>(mut vendor: V, start: Start) -> Result<(), String> {
    for (name, value) in &start.settings {
        vendor.set(name, value)?;
    }
    let routes = vendor.routes();
    let mut planned = Vec::new();
    for spec in &start.faults {
        if spec.route != "*" && !routes.iter().any(|route| route.name == spec.route) {
            return Err(format!("there is no route {}; --help lists them", spec.route));
        }
        let fault = faults::by_name(&spec.fault, vendor.named_faults());
        let fault = fault.ok_or_else(|| format!("there is no fault {}; --help lists them", spec.fault))?;
        planned.push((spec, fault));
    }
    let mut signals = lifecycle::signals();
    let fake = Fake::start_at(vendor, start.port, Clock::system()).await;
    let fake = fake.map_err(|error| format!("port {} cannot be used: {error}", start.port))?;
    for (spec, fault) in planned {
        fake.faults(&spec.route, fault, spec.times);
    }
    let line = json!({ "provider": start.provider.name(), "url": fake.url() });
    let mut out = io::stdout();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| error.to_string())?;
    signals.next().await;
    Ok(())
}
