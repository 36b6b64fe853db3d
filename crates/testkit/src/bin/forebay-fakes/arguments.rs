//! What can be said on the command line.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use forebay_testkit::markets::{Named, Spec, Vendor, faults::COMMON, ionet, runpod, vast};
use serde_json::Value;
use std::{ffi::OsString, fmt::Write};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    Vast,
    IoNet,
    RunPod,
}

impl Provider {
    const ALL: [Self; 3] = [Self::Vast, Self::IoNet, Self::RunPod];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vast => "vast",
            Self::IoNet => "ionet",
            Self::RunPod => "runpod",
        }
    }

    /// What its number of offers is, where nobody says one; and what is counted.
    fn offers(self) -> (Option<&'static str>, &'static str) {
        match self {
            Self::Vast => (Some("200"), "So many offers"),
            Self::IoNet => (
                None,
                "So many kinds of hardware, each one offer; a bit of everything without it",
            ),
            Self::RunPod => (
                None,
                "So many kinds of GPU, offered by 1, 2, 4 and 8; a bit of everything without it",
            ),
        }
    }

    fn help(self) -> String {
        match self {
            Self::Vast => help(&vast::Vast::new(0)),
            Self::IoNet => help(&ionet::IoNet::default()),
            Self::RunPod => help(&runpod::RunPod::default()),
        }
    }
}

/// What is to be started.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) provider: Provider,
    pub(crate) port: u16,
    pub(crate) offers: Option<usize>,
    pub(crate) settings: Vec<(String, Value)>,
    pub(crate) faults: Vec<Spec>,
}

pub(crate) fn parse(given: impl IntoIterator<Item = OsString>) -> Result<Start, clap::Error> {
    let matches = command().try_get_matches_from(given)?;
    let (name, matches) = matches.subcommand().expect("one is required");
    let provider = Provider::ALL.into_iter().find(|provider| provider.name() == name);
    Ok(start(provider.expect("each command is a provider"), matches))
}

fn start(provider: Provider, matches: &ArgMatches) -> Start {
    let mut settings: Vec<(String, Value)> = matches.get_many("set").into_iter().flatten().cloned().collect();
    if let Some(key) = matches.get_one::<String>("key") {
        settings.push(("key".to_owned(), Value::from(key.as_str())));
    }
    Start {
        provider,
        port: *matches.get_one("port").expect("it has a default"),
        offers: matches.get_one("offers").copied(),
        settings,
        faults: matches.get_many("fault").into_iter().flatten().cloned().collect(),
    }
}

fn command() -> Command {
    let whole = Command::new("forebay-fakes")
        .about("Fake providers of machines, as unkind as the real ones")
        .subcommand_required(true)
        .arg_required_else_help(true);
    Provider::ALL
        .into_iter()
        .fold(whole, |whole, provider| whole.subcommand(of_one(provider)))
}

fn of_one(provider: Provider) -> Command {
    let port = Arg::new("port")
        .long("port")
        .help("The port on 127.0.0.1; 0 is any that is free");
    let key = Arg::new("key").long("key").help("The API key that is good");
    let fault = Arg::new("fault")
        .long("fault")
        .value_name("ROUTE=FAULT[:N]")
        .help("The next N requests of this route (1, or * for all) meet this fault");
    let set = Arg::new("set")
        .long("set")
        .value_name("NAME=VALUE")
        .help("Sets one of the settings below");
    let (usual, what) = provider.offers();
    let offers = Arg::new("offers").long("offers").help(what);
    let offers = offers.value_parser(value_parser!(usize));
    Command::new(provider.name())
        .about(format!("A fake of {}", provider.name()))
        .after_help(provider.help())
        .arg(port.default_value("0").value_parser(value_parser!(u16)))
        .arg(key)
        .arg(
            fault
                .action(ArgAction::Append)
                .value_parser(|text: &str| text.parse::<Spec>()),
        )
        .arg(set.action(ArgAction::Append).value_parser(setting))
        .arg(usual.into_iter().fold(offers, Arg::default_value))
}

/// `NAME=VALUE`; the value is JSON, or else a text.
fn setting(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("wanted: NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

/// All that it knows, from what it is made of.
fn help(vendor: &impl Vendor) -> String {
    let mut help = "Routes:\n".to_owned();
    let mut row = |name: &str, what: &str| {
        let _ = writeln!(help, "  {name:<22} {what}");
    };
    for route in vendor.routes() {
        row(route.name, &format!("{} {}", route.method, route.path));
    }
    let named = |title: &str, faults: &[Named]| {
        let rows = faults
            .iter()
            .map(|fault| format!("  {:<22} {}\n", fault.name, fault.what));
        format!("\n{title}:\n{}", rows.collect::<String>())
    };
    help.push_str(&named("Faults of every provider", COMMON));
    help.push_str(&named("Faults of this one", vendor.named_faults()));
    help.push_str("\nSettings:\n");
    for (name, what) in vendor.settings() {
        let _ = writeln!(help, "  {name:<22} {what}");
    }
    help
}
