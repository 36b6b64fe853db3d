//! `forebay mcp export`: the same entry in other forms, for hands, web pages and scripts.
//!
//! What is printed is made to be passed on, so it holds no key unless that was asked for. No gateway is asked.

use super::{
    client::McpClient,
    document::{self, Former, Input},
    entry::{AUTHORIZATION, BEARER, Connection, Entry, KEY_VARIABLE},
    keys::KeyPlace,
    plan::{Access, OwnKey, Place, Plan, Which, wrong},
};
use crate::{
    connect::Context,
    printer::{Format, Printer, Table},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::ValueEnum;
use forebay_domain::{Code, Failure};
use forebay_runtime::Secret;
use serde::Serialize;
use serde_json::{Value as Json, json, value::RawValue};
use url::form_urlencoded::byte_serialize;

/// What stands where its reader has to put a key.
const KEY_PLACEHOLDER: &str = "YOUR_FOREBAY_KEY";

/// Print an entry for a client: its file, a link that installs it, or a command line
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay mcp export crush                   what to put into crush.json
  forebay mcp export cursor --form link      a link that installs it, for a web page
  forebay mcp export claude-code --form shell
  forebay mcp export vscode -o json          all forms together

No key is printed unless --embed-key asks for it.")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    access: Access,
    /// Which form
    #[arg(long, value_enum, default_value_t)]
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Form {
    /// What to put into the client's file
    #[default]
    File,
    /// A link that opens the client and installs it: Cursor, VS Code
    Link,
    /// A command line that installs it: Claude Code, VS Code; a line for Crush's crushrc
    Shell,
}

/// All forms.
#[derive(Serialize)]
struct Exported {
    client: McpClient,
    name: String,
    file: String,
    content: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let gateway = context.gateway()?;
    let place = Place::of(&args.which, &context.env)?;
    let no_own_key = OwnKey::none();
    let plan = Plan::of(&place, &args.which, &args.access, &no_own_key, context, &gateway)?;
    let credential = credential(place.client, &plan.key, gateway.key.as_ref())?;
    let entry = Entry::new(place.client, &plan.connection, credential.as_deref());
    let input = match &plan.key {
        KeyPlace::Prompt { .. } => place.input(),
        KeyPlace::DataDir | KeyPlace::Variable(_) | KeyPlace::Given | KeyPlace::Fresh { .. } => None,
    };
    let document = document::put("", place.slot(), &entry, Former::Replace, input.as_ref()).map_err(bug)?;
    let exported = Exported {
        client: place.client,
        file: place.file.display().to_string(),
        link: link(place.client, &place.name, &entry, input.as_ref()),
        shell: shell(&place, &plan.connection, credential.as_deref(), &entry, input.as_ref()),
        content: RawValue::from_string(document.trim_end().to_owned()).map_err(bug)?,
        name: place.name,
    };
    if printer.format() != Format::Table {
        return printer.print(&exported, |_| Table::of_one([]));
    }
    let text = match args.form {
        Form::File => Some(exported.content.get()),
        Form::Link => exported.link.as_deref(),
        Form::Shell => exported.shell.as_deref(),
    };
    let text = text.ok_or_else(|| {
        let title = place.client.title();
        wrong(
            &format!("{title} has no such form."),
            "Leave --form out: what stands in its file always works.",
        )
    })?;
    printer.text(&format!("{text}\n"))
}

fn bug(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(Code::InternalError, "The entry cannot be written down.").caused_by(error)
}

/// What the entry carries: the key itself only where that was asked for.
fn credential(client: McpClient, place: &KeyPlace, given: Option<&Secret>) -> Result<Option<String>, Failure> {
    match place {
        KeyPlace::DataDir => Ok(None),
        KeyPlace::Prompt { input } => Ok(Some(format!("${{input:{input}}}"))),
        KeyPlace::Variable(name) => Ok(client.reference(name)),
        KeyPlace::Given => {
            let key = given.ok_or_else(|| {
                Failure::new(Code::MissingCredentials, "There is no key to embed.")
                    .hint("Give one with --key or FOREBAY_KEY.")
            })?;
            Ok(Some(key.expose().to_owned()))
        }
        KeyPlace::Fresh { .. } => {
            let reference = client.reference(KEY_VARIABLE);
            Ok(Some(reference.unwrap_or_else(|| KEY_PLACEHOLDER.to_owned())))
        }
    }
}

fn link(client: McpClient, name: &str, entry: &Entry, input: Option<&Input>) -> Option<String> {
    match client {
        McpClient::Cursor => {
            let config = STANDARD.encode(serde_json::to_vec(entry).ok()?);
            let (name, config) = (encoded(name), encoded(&config));
            Some(format!(
                "cursor://anysphere.cursor-deeplink/mcp/install?name={name}&config={config}"
            ))
        }
        McpClient::VsCode => {
            let config = serde_json::to_string(&Named { name, entry, input }).ok()?;
            Some(format!("vscode:mcp/install?{}", encoded(&config)))
        }
        McpClient::ClaudeDesktop | McpClient::ClaudeCode | McpClient::Crush => None,
    }
}

/// The form that VS Code takes from a link and from its command line.
struct Named<'a> {
    name: &'a str,
    entry: &'a Entry,
    input: Option<&'a Input>,
}

impl Serialize for Named<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.name)?;
        for (name, value) in &self.entry.0 {
            map.serialize_entry(name, value)?;
        }
        if let Some(input) = self.input {
            let question: Json = json!({
                "type": "promptString", "id": input.id, "description": input.description, "password": true,
            });
            map.serialize_entry("inputs", &[question])?;
        }
        map.end()
    }
}

fn shell(
    place: &Place,
    connection: &Connection,
    credential: Option<&str>,
    entry: &Entry,
    input: Option<&Input>,
) -> Option<String> {
    let name = &place.name;
    match place.client {
        McpClient::ClaudeCode => Some(claude(place, connection, credential)),
        McpClient::VsCode => {
            let config = serde_json::to_string(&Named { name, entry, input }).ok()?;
            Some(format!("code --add-mcp {}", quoted(&config)))
        }
        McpClient::Crush => match connection {
            Connection::Http { url } => {
                // It is a shell script: a reference has to stay one, and nothing else may become one.
                let credential = credential.unwrap_or(KEY_PLACEHOLDER);
                let url = quoted(url.as_str());
                Some(format!(
                    "mcp add {name} --type http --url {url} --header {AUTHORIZATION} \"{BEARER}{credential}\""
                ))
            }
            Connection::Stdio { .. } => None,
        },
        McpClient::ClaudeDesktop | McpClient::Cursor => None,
    }
}

fn claude(place: &Place, connection: &Connection, credential: Option<&str>) -> String {
    let scope = match place.scope {
        super::client::Scope::User => "user",
        super::client::Scope::Project => "project",
    };
    let name = &place.name;
    match connection {
        Connection::Http { url } => {
            let header = credential.map_or_else(String::new, |credential| {
                format!(
                    " --header {}",
                    quoted(&format!("{AUTHORIZATION}: {BEARER}{credential}"))
                )
            });
            let url = quoted(url.as_str());
            format!("claude mcp add --scope {scope} --transport http {name} {url}{header}")
        }
        Connection::Stdio { program, .. } => {
            let variable = credential.map_or_else(String::new, |credential| {
                format!(" --env {}", quoted(&format!("{KEY_VARIABLE}={credential}")))
            });
            let words: Vec<String> = connection.arguments().iter().map(|word| quoted(word)).collect();
            let program = quoted(&program.display().to_string());
            let words = words.join(" ");
            format!("claude mcp add{variable} --scope {scope} --transport stdio {name} -- {program} {words}")
        }
    }
}

/// For a URL, as JavaScript's `encodeURIComponent` would: a space is `%20`, since a `+` would stay one.
fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@%,+".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        for (text, expected) in [
            ("http://127.0.0.1:8080/mcp", "http://127.0.0.1:8080/mcp"),
            ("Authorization: Bearer ${K}", "'Authorization: Bearer ${K}'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn a_link_is_encoded_as_a_browser_would() {
        assert_eq!(encoded("a b+c/d=é"), "a%20b%2Bc%2Fd%3D%C3%A9");
    }
}
