//! From what was said on the command line to what is to stand where.
//!
//! Pure but for looking where files are: no file is read here, and nobody is asked. What cannot be is refused before
//! anything begins.

use super::{
    client::{McpClient, Os, Places, Scope, Transport},
    document::{Input, Slot},
    entry::{Connection, KEY_VARIABLE},
    keys::KeyPlace,
};
use crate::{
    config::data_dir,
    connect::{Context, Gateway, is_loopback},
    env::Env,
};
use forebay_domain::{Code, Failure, Role};
use std::path::{self, Path, PathBuf};
use url::Url;

const NAME_BYTES_MAX: usize = 64;
const SERVER_BYTES_MAX: usize = 32;

/// Which entry of which file.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// The client
    #[arg(value_enum)]
    pub(super) client: McpClient,
    /// The entry's name in the client's file [else `forebay`, or `forebay-SERVER`]
    #[arg(long, value_parser = name)]
    name: Option<String>,
    /// Install for yourself everywhere, or for one project [default: user]
    #[arg(long, value_enum)]
    scope: Option<Scope>,
    /// The project's folder; says `--scope project` by itself [default: the current folder]
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// The client's file, where it is not at its usual place
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// One named server of the gateway, at /servers/SERVER/mcp [default: all of them, at /mcp]
    #[arg(long, value_parser = server)]
    server: Option<String>,
}

/// How the client gets in.
#[derive(Debug, clap::Args)]
pub(crate) struct Access {
    /// How the client talks to the gateway [default: http where it can]
    #[arg(long, value_enum)]
    transport: Option<Transport>,
    /// Write the key in use into the file, as it is
    #[arg(long)]
    embed_key: bool,
    /// Write no key, but have the client take it from this variable of its environment
    #[arg(long, value_name = "VAR", value_parser = variable, conflicts_with = "embed_key")]
    key_env: Option<String>,
}

/// The key that is made for the client.
#[derive(Debug, clap::Args)]
pub(crate) struct OwnKey {
    /// Make a key of this role for the client [default: user]
    #[arg(long, conflicts_with_all = ["embed_key", "key_env"])]
    role: Option<Role>,
    /// Narrow the key that is made: `tool:web_*`, `!tool:destroy_*`; may be repeated
    #[arg(long = "grant", value_name = "GLOB", conflicts_with_all = ["embed_key", "key_env"])]
    grants: Vec<String>,
}

impl OwnKey {
    /// Nothing is said about it.
    pub(super) fn none() -> Self {
        Self {
            role: None,
            grants: Vec::new(),
        }
    }
}

/// The file and the place in it.
pub(super) struct Place {
    pub(super) client: McpClient,
    pub(super) scope: Scope,
    pub(super) file: PathBuf,
    pub(super) name: String,
}

impl Place {
    pub(super) fn of(which: &Which, env: &Env) -> Result<Self, Failure> {
        let scope = match (which.scope, &which.project) {
            (Some(Scope::User), Some(_)) => {
                return Err(wrong(
                    "--project names a folder, and --scope user is for all of them.",
                    "Leave one of them out.",
                ));
            }
            (Some(scope), _) => scope,
            (None, Some(_)) => Scope::Project,
            (None, None) => Scope::User,
        };
        let project = which.project.as_deref().unwrap_or(Path::new("."));
        let file = match &which.config_file {
            Some(file) => file.clone(),
            None => Places::new(env, Os::this()).file(which.client, scope, project)?,
        };
        let usual = || match &which.server {
            Some(server) => format!("forebay-{server}"),
            None => "forebay".to_owned(),
        };
        Ok(Self {
            client: which.client,
            scope,
            file: absolute(&file)?,
            name: which.name.clone().unwrap_or_else(usual),
        })
    }

    pub(super) fn slot(&self) -> Slot<'_> {
        Slot {
            section: self.client.section(),
            name: &self.name,
        }
    }

    /// What the client asks its user for, where it can.
    pub(super) fn input(&self) -> Option<Input> {
        self.client.prompts().then(|| Input {
            id: format!("{}-key", self.name),
            description: format!("API key of {}", self.name),
        })
    }
}

/// What is to stand there.
pub(super) struct Plan {
    pub(super) connection: Connection,
    pub(super) key: KeyPlace,
}

impl Plan {
    pub(super) fn of(
        place: &Place,
        which: &Which,
        access: &Access,
        own: &OwnKey,
        context: &Context,
        gateway: &Gateway,
    ) -> Result<Self, Failure> {
        let transport = transport(place.client, access.transport)?;
        let key = key_place(place, access, own, transport, context, gateway)?;
        let base = match &which.server {
            Some(server) => below(&gateway.url, &format!("servers/{server}")),
            None => gateway.url.clone(),
        };
        let connection = match transport {
            Transport::Http => Connection::Http {
                url: below(&base, "mcp"),
            },
            Transport::Stdio => Connection::Stdio {
                program: this_program()?,
                base,
                data: match key {
                    KeyPlace::DataDir => unusual_data(context)?,
                    KeyPlace::Variable(_) | KeyPlace::Prompt { .. } | KeyPlace::Given | KeyPlace::Fresh { .. } => None,
                },
            },
        };
        Ok(Self { connection, key })
    }
}

fn transport(client: McpClient, asked: Option<Transport>) -> Result<Transport, Failure> {
    match (asked, client.speaks_http()) {
        (Some(Transport::Http), false) => Err(wrong(
            &format!(
                "{} starts commands from its file, and takes no URL there.",
                client.title()
            ),
            "Leave --transport out: it then runs `forebay stdio`, which talks to the gateway.",
        )),
        (Some(asked), _) => Ok(asked),
        (None, true) => Ok(Transport::Http),
        (None, false) => Ok(Transport::Stdio),
    }
}

fn key_place(
    place: &Place,
    access: &Access,
    own: &OwnKey,
    transport: Transport,
    context: &Context,
    gateway: &Gateway,
) -> Result<KeyPlace, Failure> {
    let client = place.client;
    if let Some(variable) = &access.key_env {
        if client.reference(variable).is_none() {
            return Err(wrong(
                &format!("{} puts no variables into its file.", client.title()),
                "Leave --key-env out, or write the key into the file with --embed-key.",
            ));
        }
        return Ok(KeyPlace::Variable(variable.clone()));
    }
    if access.embed_key {
        return Ok(KeyPlace::Given);
    }
    if own.role.is_some() || !own.grants.is_empty() {
        return Ok(KeyPlace::Fresh {
            role: own.role.unwrap_or(Role::User),
            grants: own.grants.clone(),
        });
    }
    if transport == Transport::Stdio && is_in_data_dir(context, gateway) {
        return Ok(KeyPlace::DataDir);
    }
    if let Some(input) = place.input() {
        return Ok(KeyPlace::Prompt { input: input.id });
    }
    // A project's file is shared with whoever has the project.
    if place.scope == Scope::Project && client.reference(KEY_VARIABLE).is_some() {
        return Ok(KeyPlace::Variable(KEY_VARIABLE.to_owned()));
    }
    Ok(KeyPlace::Fresh {
        role: Role::User,
        grants: Vec::new(),
    })
}

/// `forebay stdio` would find the key by itself: it is the data directory's, and for a gateway on this machine.
pub(super) fn is_in_data_dir(context: &Context, gateway: &Gateway) -> bool {
    let named = context.global.key.as_deref().or_else(|| context.env.get(KEY_VARIABLE));
    named.is_none() && gateway.key.is_some() && is_loopback(&gateway.url)
}

/// The data directory, where the client's own environment would not lead to it.
fn unusual_data(context: &Context) -> Result<Option<PathBuf>, Failure> {
    let bare: Env = context
        .env
        .get("HOME")
        .map(|home| ("HOME".to_owned(), home.to_owned()))
        .into_iter()
        .collect();
    if context.data == data_dir(None, &bare) {
        return Ok(None);
    }
    absolute(&context.data).map(Some)
}

fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| {
        Failure::new(Code::InvalidConfig, "The path of this program cannot be found.")
            .hint("Start it by its full path.")
            .caused_by(error)
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path::absolute(path).map_err(|error| {
        Failure::new(Code::InvalidConfig, "The current folder cannot be found.")
            .hint("Name files and folders by their full paths.")
            .caused_by(error)
    })
}

fn below(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    let path = format!("{}/{path}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

pub(super) fn wrong(message: &str, hint: &str) -> Failure {
    Failure::new(Code::InvalidConfig, message).hint(hint)
}

fn name(text: &str) -> Result<String, String> {
    let shaped = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(shaped) {
        return Err(format!(
            "a name has letters, digits, `-` and `_`, at most {NAME_BYTES_MAX}"
        ));
    }
    Ok(text.to_owned())
}

fn server(text: &str) -> Result<String, String> {
    let shaped = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() || text.len() > SERVER_BYTES_MAX || text.starts_with('-') || !text.bytes().all(shaped) {
        return Err(format!(
            "a server's name has small letters, digits and `-`, at most {SERVER_BYTES_MAX}"
        ));
    }
    Ok(text.to_owned())
}

fn variable(text: &str) -> Result<String, String> {
    let shaped = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || text.len() > NAME_BYTES_MAX || !text.bytes().all(shaped) {
        return Err("a variable's name has letters, digits and `_`".to_owned());
    }
    Ok(text.to_owned())
}
