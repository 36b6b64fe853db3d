//! `forebay gpu`: find, rent, watch and destroy machines.

use super::dry_run::{judged, verdict, warn};
use crate::{
    connect::Context,
    printer::{Printer, Table, harmless},
    report,
};
use clap::Subcommand;
use forebay_api::{
    GpuCreate, GpuCreated, GpuExtend, GpuExtended, GpuInstance, GpuInstanceQuery, GpuOfferList, GpuOfferQuery, GpuQuote,
};
use forebay_domain::{Code, Failure, money::Usd};
use forebay_runtime::Entropy;

/// Find, rent, watch and destroy GPU machines
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(ListArgs),
    Quote(WishArgs),
    Create(CreateArgs),
    /// Destroy a machine; what is on it is lost
    Destroy {
        /// Its id, the provider's, or that of the offer it was made of
        id: String,
        /// Say which machine is meant, and destroy nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// List the machines that you have
    Ps {
        /// Those of others too, for operators and administrators
        #[arg(long)]
        all: bool,
        /// Those that are no more, too
        #[arg(long)]
        ended: bool,
    },
    /// Show the last lines of a machine's log
    Logs {
        /// Its id, or the provider's
        id: String,
        /// How many
        #[arg(short = 'n', long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        lines: Option<u32>,
    },
    Extend(ExtendArgs),
}

/// List machines for rent, the cheapest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay gpu list --min-vram 24 --max-price 0.60
  forebay gpu list --provider vast.ai --gpu 4090 -o json | jq '.offers[0].id'")]
pub(crate) struct ListArgs {
    /// Only of vast.ai, io.net, runpod or local
    #[arg(long)]
    provider: Option<String>,
    /// Memory of one GPU, in GB
    #[arg(long, value_name = "GB")]
    min_vram: Option<f64>,
    /// The highest price of an hour, all in
    #[arg(long, value_name = "USD")]
    max_price: Option<Usd>,
    /// Part of the GPU's name
    #[arg(long, value_name = "NAME")]
    gpu: Option<String>,
    #[arg(long, value_name = "COUNT")]
    min_gpus: Option<u32>,
    /// From 0 to 1
    #[arg(long, value_name = "SHARE")]
    min_reliability: Option<f64>,
    /// Two letters
    #[arg(long)]
    country: Option<String>,
    /// How many at most
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: u32,
}

/// Say what renting an offer costs; the quote can be rented until it expires
#[derive(Debug, clap::Args)]
pub(crate) struct WishArgs {
    /// The offer, such as vast.ai:21874411
    #[arg(value_name = "OFFER")]
    offer: Option<String>,
    /// The image to run
    #[arg(long)]
    image: Option<String>,
    #[arg(long, value_name = "GB")]
    disk_gb: Option<u32>,
    /// How long it lives at most; then it is destroyed
    #[arg(long)]
    hours: Option<u32>,
    /// Destroy it once nobody has used it through the gateway for so long
    #[arg(long, value_name = "MINUTES")]
    idle_minutes: Option<u32>,
}

/// Rent a machine, within the spending limits
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay gpu create vast.ai:21874411 --hours 4 --port 8000
  forebay gpu create vast.ai:21874411 --dry-run
  forebay gpu create --quote 0192…

It costs until `forebay gpu destroy`, or until its lifetime ends. Exit code 6: a limit is against it.")]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    wish: WishArgs,
    /// Rent this quote of `forebay gpu quote`
    #[arg(long, value_name = "ID", conflicts_with = "offer")]
    quote: Option<String>,
    /// A TCP port that is to be reached; may be repeated
    #[arg(long = "port")]
    ports: Vec<u16>,
    /// A variable of its environment, NAME=VALUE; may be repeated. Not for secrets
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Rents once, however often it is called with this [else a new one]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Say what would happen, and rent nothing
    #[arg(long)]
    dry_run: bool,
}

/// Let a machine live longer, within the spending limits
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 6: a limit is against it.")]
pub(crate) struct ExtendArgs {
    /// Its id, or the provider's
    id: String,
    /// So many hours more
    #[arg(long)]
    hours: u32,
    /// Gives the time once, however often it is called with this [else a new one]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Say what it would cost and whether the limits would let it in, and change nothing
    #[arg(long)]
    dry_run: bool,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a variable looks like NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) async fn run(command: Command, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        Command::List(args) => {
            let list = client.gpu_offers(&query(args)).await?;
            for market in list.providers.iter().filter(|market| market.trouble.is_some()) {
                let trouble = market.trouble.as_deref().unwrap_or_default();
                report::say(&format!(
                    "warning: {} did not answer: {}",
                    market.provider,
                    harmless(trouble)
                ));
            }
            printer.print(&list, offers)
        }
        Command::Quote(args) => {
            let quote = client.gpu_quote(&wish(args)).await?;
            printer.print(&quote, quoted)?;
            warn(&quote.warnings);
            Ok(())
        }
        Command::Create(args) => {
            let key = key(args.idempotency_key.clone(), args.dry_run);
            let wanted = creation(args);
            let created = client.gpu_create(&wanted, &key).await?;
            printer.print(&created, outcome)?;
            done(&created, &wanted)
        }
        Command::Destroy { id, dry_run } => {
            let machine = if dry_run {
                client.gpu_instance(&id).await?
            } else {
                client.gpu_destroy(&id).await?
            };
            printer.print(&machine, |machine| machines(std::slice::from_ref(machine)))
        }
        Command::Ps { all, ended } => {
            let list = client.gpu_instances(&GpuInstanceQuery { all, ended }).await?;
            printer.print(&list.instances, |list| machines(list))
        }
        Command::Logs { id, lines } => {
            let log = client.gpu_logs(&id, lines).await?;
            printer.text(&format!("{}\n", harmless(log.log.trim_end())))
        }
        Command::Extend(args) => {
            let wanted = GpuExtend {
                hours: args.hours,
                dry_run: args.dry_run,
            };
            let key = key(args.idempotency_key, args.dry_run);
            let extended = client.gpu_extend(&args.id, &wanted, &key).await?;
            printer.print(&extended, longer)?;
            match &extended {
                GpuExtended::DryRun(trial) => judged(trial.reason.as_deref(), &trial.warnings),
                GpuExtended::Extended(_) => Ok(()),
            }
        }
    }
}

fn query(args: ListArgs) -> GpuOfferQuery {
    GpuOfferQuery {
        provider: args.provider,
        min_vram: args.min_vram,
        max_price: args.max_price,
        gpu: args.gpu,
        min_gpus: args.min_gpus,
        min_reliability: args.min_reliability,
        country: args.country,
        disk_gb: None,
        limit: Some(args.limit),
    }
}

fn wish(args: WishArgs) -> GpuCreate {
    GpuCreate {
        offer_id: args.offer,
        image: args.image,
        disk_gb: args.disk_gb,
        hours: args.hours,
        idle_minutes: args.idle_minutes,
        ..GpuCreate::default()
    }
}

fn creation(args: CreateArgs) -> GpuCreate {
    GpuCreate {
        quote_id: args.quote,
        ports: args.ports,
        env: args.env.into_iter().collect(),
        dry_run: args.dry_run,
        ..wish(args.wish)
    }
}

/// A dry run is another request than what it tries, and so never has its name.
fn key(named: Option<String>, dry_run: bool) -> String {
    let new_key = || format!("{:032x}", u128::from_le_bytes(Entropy::system().bytes()));
    named.filter(|_| !dry_run).unwrap_or_else(new_key)
}

/// Where somebody has to agree first, nothing was rented, and nothing will be where the limits refuse it: scripts must not
/// take that for done.
fn done(created: &GpuCreated, wanted: &GpuCreate) -> Result<(), Failure> {
    match (&created.outcome[..], &created.quote) {
        ("dry_run", Some(quote)) => judged(quote.reason.as_deref(), &quote.warnings),
        ("needs_approval", Some(quote)) => Err(Failure::new(
            Code::Conflict,
            "Nothing was rented: this installation wants somebody to agree first.",
        )
        .hint(format!("If you do: {}", again(&quote.id, wanted)))),
        (_, None)
            if created
                .instance
                .as_ref()
                .is_some_and(|machine| machine.state == "finding_out") =>
        {
            report::say(
                "nobody knows yet whether its provider made it: that is being found out, and what is held for it stays held; \
                 `forebay gpu ps` shows what became of it",
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What rents a quote as it was wanted: ports and variables are not part of it, and values are not repeated.
fn again(quote: &str, wanted: &GpuCreate) -> String {
    let ports = wanted.ports.iter().map(|port| format!(" --port {port}"));
    let env = wanted.env.keys().map(|name| format!(" --env {name}=…"));
    let more: String = ports.chain(env).collect();
    format!("forebay gpu create --quote {quote}{more}")
}

/// A slot of a machine without a GPU is a share of its CPU.
fn cards(gpus: u32, gpu: &str) -> String {
    match gpus {
        0 => "CPU share".to_owned(),
        _ => format!("{gpus} x {gpu}"),
    }
}

fn offers(list: &GpuOfferList) -> Table {
    let rows = list.offers.iter().map(|offer| {
        [
            offer.id.to_string(),
            cards(offer.gpus, &offer.gpu),
            format!("{} GB", offer.vram_gb),
            format!("${}/h", offer.price_per_hour_usd),
            offer.country.clone().unwrap_or_default(),
            offer
                .reliability
                .map_or_else(String::new, |share| format!("{:.1} %", share * 100.0)),
        ]
    });
    Table::new(["offer", "gpu", "vram", "price", "country", "reliability"], rows)
}

fn quoted(quote: &GpuQuote) -> Table {
    Table::of_one([
        ("quote", quote.id.clone()),
        ("offer", quote.offer.id.to_string()),
        ("image", quote.image.clone()),
        ("disk", format!("{} GB", quote.disk_gb)),
        ("lives", format!("{} h at most", quote.hours)),
        ("price", format!("${}/h", quote.price_per_hour_usd)),
        ("held at once", format!("${}", quote.first_hold_usd)),
        ("at most", format!("${}", quote.most_usd)),
        ("expires", quote.expires_at.to_string()),
        ("limits", verdict(quote.reason.as_deref())),
        (
            "approval",
            if quote.needs_approval {
                "somebody has to agree first"
            } else {
                "not needed"
            }
            .to_owned(),
        ),
    ])
}

fn longer(extended: &GpuExtended) -> Table {
    let trial = match extended {
        GpuExtended::Extended(machine) => return machines(std::slice::from_ref(machine)),
        GpuExtended::DryRun(trial) => trial,
    };
    Table::of_one([
        ("machine", trial.instance.id.clone()),
        ("more", format!("{} h", trial.hours)),
        ("ends by", format!("{}, not {}", trial.ends_by, trial.instance.ends_by)),
        ("costs", format!("${}", trial.cost_usd)),
        ("paid at once", format!("${}", trial.paid_at_once_usd)),
        ("limits", verdict(trial.reason.as_deref())),
    ])
}

fn outcome(created: &GpuCreated) -> Table {
    match (&created.instance, &created.quote) {
        (Some(machine), _) => machines(std::slice::from_ref(machine)),
        (None, Some(quote)) => quoted(quote),
        (None, None) => Table::of_one([("outcome", created.outcome.clone())]),
    }
}

fn machines(machines: &[GpuInstance]) -> Table {
    let rows = machines.iter().map(|machine| {
        let reached = machine.endpoints.iter().map(|end| format!("{}={}", end.port, end.url));
        let reached: Vec<String> = reached.collect();
        [
            machine.id.clone(),
            machine.offer_id.to_string(),
            match (&machine.why, &machine.trouble) {
                (Some(why), _) => format!("{} ({why})", machine.state),
                (None, Some(_)) => format!("{} (trouble)", machine.state),
                (None, None) => machine.state.clone(),
            },
            cards(machine.gpus, &machine.gpu),
            match machine.price_now_per_hour_usd {
                Some(now) => format!("${}/h (now ${now}/h)", machine.price_per_hour_usd),
                None => format!("${}/h", machine.price_per_hour_usd),
            },
            format!("${}", machine.spent_usd),
            machine.ends_by.to_string(),
            reached.join(" "),
        ]
    });
    Table::new(
        ["id", "offer", "state", "gpu", "price", "spent", "ends by", "reached at"],
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::{GpuCreate, again};

    /// What is printed can be typed as it stands, but for the values.
    #[test]
    fn a_quote_is_rented_with_the_ports_and_variables_that_were_wanted() {
        let wanted = GpuCreate {
            ports: vec![8_000, 22],
            env: [("TOKEN".to_owned(), "secret".to_owned())].into(),
            ..GpuCreate::default()
        };
        assert_eq!(
            again("gq_1", &wanted),
            "forebay gpu create --quote gq_1 --port 8000 --port 22 --env TOKEN=…"
        );
        assert_eq!(again("gq_1", &GpuCreate::default()), "forebay gpu create --quote gq_1");
    }
}
