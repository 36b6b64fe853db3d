//! `forebay tool create`, and `create-tool` as other gateways spell it: an HTTP endpoint as a tool, at run time.

use crate::{
    connect::Context,
    printer::{Format, Printer, Table},
};
use forebay_domain::{Code, Failure};
use serde_json::{Map, Value, json};

/// Declare a tool: an HTTP endpoint with parameters, or a built-in tool under another spelling of its name
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay tool create weather --description 'The weather of a city' --parameters city:string \\
    --endpoint 'https://weather.example.com/v1?city={city}'
  forebay tool create web-search --description 'Search the web' --parameters query:string --dry-run")]
pub(crate) struct Args {
    /// Its name
    name: String,
    /// What it does, for the model that has to choose; built-in tools have one already
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Its parameters, each with its type: string, number, integer, boolean, array or object; `limit?:integer` may be
    /// left out by whoever calls
    #[arg(long, value_name = "NAME:TYPE", value_delimiter = ',')]
    parameters: Vec<String>,
    /// What is called; `{name}` in it stands for a parameter
    #[arg(long, value_name = "URL", requires = "description")]
    endpoint: Option<String>,
    /// How it is called
    #[arg(long, value_name = "METHOD", requires = "endpoint")]
    method: Option<String>,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: Args, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let wanted = args.read()?;
    if args.dry_run {
        return match printer.format() {
            Format::Table => printer.text(&format!("{wanted:#}\n")),
            Format::Json | Format::Yaml => printer.print(&wanted, |_| Table::of_one([])),
        };
    }
    let made = context.client()?.create_tool(&wanted).await?;
    printer.print(&made, |made| {
        Table::of_one([("name", made.name.clone()), ("done", "created".to_owned())])
    })
}

impl Args {
    fn read(&self) -> Result<Value, Failure> {
        let mut parameters = Map::new();
        for written in &self.parameters {
            let (name, kind) = written.split_once(':').ok_or_else(|| {
                Failure::new(Code::InvalidRequest, format!("`{written}` names no type."))
                    .hint("Write for example `--parameters query:string`.")
            })?;
            let (name, required) = name.strip_suffix('?').map_or((name, true), |name| (name, false));
            if parameters
                .insert(name.to_owned(), json!({"type": kind, "required": required}))
                .is_some()
            {
                return Err(Failure::new(
                    Code::InvalidRequest,
                    format!("There are two parameters `{name}`."),
                ));
            }
        }
        let mut tool = json!({"name": self.name, "parameters": parameters});
        if let Some(description) = &self.description {
            tool["description"] = json!(description);
        }
        if let Some(url) = &self.endpoint {
            tool["endpoint"] = json!({"url": url});
            if let Some(method) = &self.method {
                tool["endpoint"]["method"] = json!(method.to_uppercase());
            }
        }
        Ok(tool)
    }
}
