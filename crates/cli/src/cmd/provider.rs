//! `forebay provider`: where context for prompts comes from, at run time.

use crate::{
    cmd::setting,
    connect::Context,
    printer::{Format, Printer, Table},
};
use clap::Subcommand;
use forebay_api::{ClientError, ProviderCreate, ProviderDetail, ProviderInfo, ProviderTest, ProviderTested};
use forebay_domain::{Code, Failure};
use serde_json::{Map, Value, json};

/// So much of what was found is shown in a table.
const SHOWN_CHARS_MAX: usize = 160;

/// See, add, try and remove providers of context
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the providers and how they are
    List,
    /// Show one provider with its settings
    Show {
        /// The provider's name
        name: String,
    },
    Create(Create),
    /// Ask a provider a question, past every cache
    Test {
        /// The provider's name
        name: String,
        /// What to ask
        #[arg(long, value_name = "TEXT")]
        query: String,
        /// How to look: keyword, semantic_search or hybrid
        #[arg(long, value_name = "WAY")]
        strategy: Option<String>,
    },
    /// Take away a provider that was added with `forebay provider create`
    Delete {
        /// The provider's name
        name: String,
    },
}

/// Add a provider of context
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay provider create wiki --type rest --set base_url=https://wiki.example.com --set path='/search?q={query}'
  forebay provider create facts --type postgresql --host db.example.com --database facts --user reader \
    --set 'password={\"env\":\"FACTS_PASSWORD\"}' --dry-run")]
pub(crate) struct Create {
    /// A name for it
    name: String,
    /// postgresql, rest, chroma or mcp; `files` stands in the configuration file alone
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    /// Where the database or Chroma is
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Its port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Which database of it
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// The role that reads there; its password is a reference: --set 'password={"env":"NAME"}'
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A collection of Chroma
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    /// Any other setting of its type, as docs/context.md lists them: text, or JSON where it reads as JSON
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(command: Command, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    match command {
        Command::List => {
            let listed = context.client()?.providers().await?;
            printer.print(&listed, |listed| {
                let rows = listed.providers.iter().map(row);
                Table::new(["name", "type", "origin", "condition", "strategies", "note"], rows)
            })
        }
        Command::Show { name } => {
            let shown = context.client()?.provider(&name).await?;
            printer.print(&shown, detail)
        }
        Command::Create(wanted) => create(wanted, context, printer).await,
        Command::Test { name, query, strategy } => {
            let question = ProviderTest { query, strategy };
            let tested = context.client()?.test_provider(&name, &question).await?;
            found(&name, &tested, printer)
        }
        Command::Delete { name } => {
            let gone = context.client()?.delete_provider(&name).await?;
            printer.print(&gone, |gone| {
                Table::of_one([("name", gone.name.clone()), ("done", "deleted".to_owned())])
            })
        }
    }
}

pub(crate) async fn create(wanted: Create, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let dry_run = wanted.dry_run;
    let wanted = wanted.read()?;
    if dry_run {
        return match printer.format() {
            Format::Table => printer.text(&format!("{:#}\n", json!(wanted))),
            Format::Json | Format::Yaml => printer.print(&wanted, |_| Table::of_one([])),
        };
    }
    let made = context.client()?.create_provider(&wanted).await.map_err(in_options)?;
    printer.print(&made, |made| {
        Table::of_one([("name", made.name.clone()), ("done", "created".to_owned())])
    })
}

/// Who typed options is told of options.
fn in_options(error: ClientError) -> Failure {
    let mut failure = Failure::from(error);
    if failure.code == Code::InvalidConfig {
        failure.hint.get_or_insert_with(|| {
            "Settings are given as --host, --port, --database, --user, --collection and --set KEY=VALUE; \
             docs/context.md lists them."
                .into()
        });
    }
    failure
}

impl Create {
    fn read(self) -> Result<ProviderCreate, Failure> {
        let mut config = Map::new();
        let named = [
            ("host", self.host.map(Value::from)),
            ("port", self.port.map(Value::from)),
            ("database", self.database.map(Value::from)),
            ("user", self.user.map(Value::from)),
            ("collection", self.collection.map(Value::from)),
        ];
        for (key, value) in named {
            config.extend(value.map(|value| (key.to_owned(), value)));
        }
        for setting in &self.settings {
            let (key, value) = setting::read(setting, "path=/search?q={query}")?;
            if config.insert(key.to_owned(), value).is_some() {
                return Err(Failure::new(Code::InvalidRequest, format!("`{key}` is set twice.")));
            }
        }
        Ok(ProviderCreate {
            name: self.name,
            kind: self.kind,
            enabled: None,
            config,
        })
    }
}

fn row(provider: &ProviderInfo) -> [String; 6] {
    [
        provider.name.clone(),
        provider.kind.clone(),
        provider.origin.clone(),
        provider.condition.clone(),
        provider.strategies.join(" "),
        provider
            .trouble
            .as_ref()
            .map(|trouble| trouble.message.clone())
            .or_else(|| provider.note.clone())
            .unwrap_or_default(),
    ]
}

fn detail(shown: &ProviderDetail) -> Table {
    let ProviderDetail { info, config } = shown;
    let mut rows = vec![
        ("name", info.name.clone()),
        ("type", info.kind.clone()),
        ("origin", info.origin.clone()),
        ("condition", info.condition.clone()),
        ("strategies", info.strategies.join(" ")),
        ("config", config.to_string()),
    ];
    rows.extend(info.trouble.iter().map(|trouble| ("trouble", trouble.message.clone())));
    rows.extend(info.note.iter().map(|note| ("note", note.clone())));
    Table::of_one(rows)
}

/// On one line, without the spaces.
fn beginning(text: &str) -> String {
    let whole = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match whole.char_indices().nth(SHOWN_CHARS_MAX) {
        None => whole,
        Some((end, _)) => format!("{}…", &whole[..end]),
    }
}

/// A provider that failed has failed for the shell too.
fn found(name: &str, tested: &ProviderTested, printer: &mut Printer) -> Result<(), Failure> {
    if let Some(failure) = &tested.failure {
        let message = format!("`{name}` failed: {}", failure.message);
        return Err(
            Failure::new(Code::ContextFailed, message).hint(format!("`forebay explain {}` tells more.", failure.code))
        );
    }
    printer.print(tested, |tested| {
        let rows = tested.items.iter().map(|item| {
            [
                item.id.clone(),
                format!("{:.3}", item.score),
                item.source.clone(),
                beginning(&item.text),
            ]
        });
        Table::new(["id", "score", "source", "text"], rows)
    })
}
