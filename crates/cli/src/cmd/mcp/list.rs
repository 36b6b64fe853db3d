//! `forebay mcp list`: which clients are here, where their files are, and whether this gateway is in them.
//!
//! Only looks: it asks no gateway and changes nothing.

use super::{
    client::{McpClient, Os, Places, Scope},
    document, entry,
    file::Target,
};
use crate::{
    connect::Context,
    printer::{Printer, Table},
};
use forebay_domain::Failure;
use serde::Serialize;
use std::path::{Path, PathBuf};
use url::Url;

/// Show which clients are on this machine, and whether the gateway is installed in them
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay mcp list
  forebay mcp list --project ~/src/web -o json")]
pub(crate) struct Args {
    /// The project whose files are looked at, too [default: the current folder]
    #[arg(long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    project: PathBuf,
}

/// One file of one client.
#[derive(Debug, Serialize)]
struct Row {
    client: McpClient,
    /// The client seems to be on this machine.
    found: bool,
    scope: Scope,
    file: String,
    exists: bool,
    /// The entries that lead to a Forebay gateway.
    installed: Vec<Installed>,
    /// Why the file cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

#[derive(Debug, Serialize)]
struct Installed {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The id of the key that stands in the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let places = Places::new(&context.env, Os::this());
    // An address that cannot be read only means that fewer entries are recognised.
    let gateway = context.gateway().ok().map(|gateway| gateway.url);
    let mut rows = Vec::new();
    for client in McpClient::ALL {
        for scope in [Scope::User, Scope::Project] {
            if let Ok(file) = places.file(client, scope, &args.project) {
                rows.push(row(client, scope, &file, places.seen(client), gateway.as_ref()));
            }
        }
    }
    printer.print(&rows, |rows| table(rows))
}

fn row(client: McpClient, scope: Scope, file: &Path, found: bool, gateway: Option<&Url>) -> Row {
    let (exists, looked) = match Target::locate(file.to_owned()).and_then(|target| target.read()) {
        Ok(seen) => {
            let installed = installed(client, seen.text(), gateway).map_err(|fault| fault.to_string());
            (seen.existing().is_some(), installed)
        }
        Err(failure) => (true, Err(failure.message)),
    };
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let (installed, fault) = match looked {
        Ok(installed) => (installed, None),
        Err(fault) => (Vec::new(), Some(fault)),
    };
    Row {
        client,
        found,
        scope,
        file: file.display().to_string(),
        exists,
        installed,
        fault,
    }
}

fn installed(client: McpClient, text: &str, gateway: Option<&Url>) -> Result<Vec<Installed>, document::Fault> {
    let entries = document::entries(text, client.section())?;
    let ours = entries.into_iter().filter(|(_, entry)| entry::is_ours(entry, gateway));
    Ok(ours
        .map(|(name, entry)| Installed {
            name,
            url: entry::leads_to(&entry).map(|url| url.to_string()),
            key: entry::key(&entry).map(|key| key.id().to_string()),
        })
        .collect())
}

fn table(rows: &[Row]) -> Table {
    let cells = rows.iter().map(|row| {
        let state = match (&row.fault, row.installed.as_slice()) {
            (Some(fault), _) => format!("unreadable: {fault}"),
            (None, []) if row.exists => "not installed".to_owned(),
            (None, []) => "no file".to_owned(),
            (None, installed) => {
                let names: Vec<String> = installed
                    .iter()
                    .map(|one| match &one.url {
                        Some(url) => format!("{} → {url}", one.name),
                        None => one.name.clone(),
                    })
                    .collect();
                names.join(", ")
            }
        };
        let scope = match row.scope {
            Scope::User => "user",
            Scope::Project => "project",
        };
        let found = if row.found { "yes" } else { "no" };
        [
            row.client.id().to_owned(),
            found.to_owned(),
            scope.to_owned(),
            state,
            row.file.clone(),
        ]
    });
    Table::new(["client", "here", "scope", "forebay", "file"], cells)
}
