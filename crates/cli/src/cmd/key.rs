//! `forebay key`: create, list, revoke.

use crate::{
    connect::Context,
    printer::{Format, Printer, Table},
    report,
};
use clap::Subcommand;
use forebay_api::{KeyCreate, KeyInfo, KeyQuery};
use forebay_domain::{Failure, Role};
use forebay_runtime::Entropy;
use jiff::{Span, SpanRelativeTo, Unit};
use serde::Serialize;

/// How many keys a page of the list holds.
const PAGE: u32 = 500;

/// Make, list and revoke API keys
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an API key; it is shown this once
    #[command(after_help = "Examples:
  forebay key create --role user --tenant acme
  forebay key create --role user --tenant acme --name web --grant 'tool:*' --grant '!tool:file_reader' --expires-in 30d
  forebay key create --role user --name agent --show 'github__list_*' --show calculator
  forebay key create --role viewer -o json | jq -r .key")]
    Create(CreateArgs),
    /// List API keys, without their secrets
    List {
        /// Only those of this tenant
        #[arg(long)]
        tenant: Option<String>,
    },
    /// End a key now, and whatever it holds open
    Revoke {
        /// The key's id, as `forebay key list` shows it
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// What its holder may do at most: viewer, user, operator or admin
    #[arg(long)]
    role: Role,
    /// The tenant that it acts for [else that of the key in use]
    #[arg(long)]
    tenant: Option<String>,
    /// The project within the tenant
    #[arg(long)]
    project: Option<String>,
    /// Who acts with it; limits and events go by this name [else a name of its own]
    #[arg(long)]
    name: Option<String>,
    /// Narrow the role: `tool:web_*` allows only that, `!tool:destroy_*` denies that; may be repeated
    #[arg(long = "grant", value_name = "GLOB")]
    grants: Vec<String>,
    /// Show only these tools in lists: `github__list_*`; may be repeated. The others may still be called
    #[arg(long = "show", value_name = "GLOB")]
    shown: Vec<String>,
    /// End it by itself after this long: 12h, 30d, 1w
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires_in: Option<u64>,
}

pub(crate) async fn run(command: Command, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(args, context, printer).await,
        Command::List { tenant } => list(tenant, context, printer).await,
        Command::Revoke { id } => {
            let revoked = context.client()?.revoke_key(&id).await?;
            printer.print(&revoked, |key| keys(std::slice::from_ref(key)))
        }
    }
}

/// What scripts read.
#[derive(Serialize)]
struct Created {
    id: String,
    key: String,
}

async fn create(args: CreateArgs, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    // Keys of one name share one limit, so a key that nobody named gets a name of its own.
    let own_name = || format!("{}-{:08x}", args.role, u32::from_le_bytes(Entropy::system().bytes()));
    let wanted = KeyCreate {
        name: args.name.clone().unwrap_or_else(own_name),
        role: args.role.to_string(),
        tenant: args.tenant,
        project: args.project,
        grants: args.grants,
        shown: args.shown,
        expires_in_s: args.expires_in,
    };
    let made = context.client()?.create_key(&wanted).await?;
    let created = Created {
        id: made.id,
        key: made.key,
    };
    printer.print(&created, |created| {
        let end = made.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
        Table::of_one([
            ("id", created.id.clone()),
            ("key", created.key.clone()),
            ("name", made.name),
            ("tenant", made.tenant),
            ("role", made.role),
            ("grants", made.grants.join(" ")),
            ("shown", made.shown.join(" ")),
            ("expires", end),
        ])
    })?;
    if printer.format() == Format::Table {
        report::say("Keep the key now: it is stored nowhere and never shown again.");
    }
    Ok(())
}

async fn list(tenant: Option<String>, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let client = context.client()?;
    let mut query = KeyQuery {
        tenant,
        limit: Some(PAGE),
        after: None,
    };
    let mut found: Vec<KeyInfo> = Vec::new();
    loop {
        let page = client.keys(&query).await?;
        found.extend(page.keys);
        if page.next.is_none() {
            break;
        }
        query.after = page.next;
    }
    printer.print(&found, |found| keys(found))
}

fn keys(keys: &[KeyInfo]) -> Table {
    let rows = keys.iter().map(|key| {
        let state = match (key.revoked_at, key.expires_at) {
            (Some(at), _) => format!("revoked {at}"),
            (None, Some(at)) => format!("until {at}"),
            (None, None) => "valid".to_owned(),
        };
        [
            key.id.clone(),
            key.tenant.clone(),
            key.name.clone(),
            key.role.clone(),
            key.grants.join(" "),
            key.shown.join(" "),
            state,
        ]
    });
    Table::new(["id", "tenant", "name", "role", "grants", "shown", "state"], rows)
}

/// A time such as `30d`; a day has 24 hours here.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "a time looks like 45s, 90m, 12h, 30d or 1w".to_owned();
    let span: Span = text.parse().map_err(|_| wrong())?;
    let total = span
        .total((Unit::Second, SpanRelativeTo::days_are_24_hours()))
        .map_err(|_| wrong())?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be positive and small"
    )]
    let whole = (1.0..1e12).contains(&total).then_some(total as u64);
    whole.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, expected) in [
            ("45s", 45),
            ("90m", 5400),
            ("12h", 43_200),
            ("30d", 2_592_000),
            ("1w", 604_800),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for bad in ["", "30", "-1d", "0s", "soon", "1month"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
