//! `forebay tool create`, and `create-tool` as other gateways spell it: an HTTP endpoint as a tool, at run time.

use crate::{
    cmd::setting,
    connect::Context,
    printer::{Format, Printer, Table},
};
use forebay_domain::{Code, Failure};
use serde_json::{Map, Value, json};
use std::num::NonZeroU32;

/// Declare a tool: an HTTP endpoint with parameters, or a built-in tool under another spelling of its name
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay tool create weather --description 'The weather of a city' --parameters city:string \\
    --endpoint 'https://weather.example.com/v1?city={city}' \\
    --allowed-domains weather.example.com --rate-limit 100/1m --timeout 10s
  forebay tool create note --description 'Keep a note' --parameters text:string --method POST \\
    --endpoint https://notes.example.com/api --set 'endpoint.bearer={\"env\":\"FOREBAY_TOOL_NOTES\"}'
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
    /// Hosts that its URL may have: example.com, or *.example.com for every name below it
    #[arg(long, value_name = "HOST", value_delimiter = ',', requires = "endpoint")]
    allowed_domains: Vec<String>,
    /// How often all callers together may call it: 100/1m
    #[arg(long, value_name = "CALLS/TIME", value_parser = rate_limit)]
    rate_limit: Option<Value>,
    /// How long a call may take: 10s
    #[arg(long, value_name = "TIME", requires = "endpoint")]
    timeout: Option<String>,
    /// Any other setting, as docs/tools.md lists them, `endpoint.bearer` for one within another: text, or JSON where it
    /// reads as JSON
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
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
        let mut tool = Map::from_iter([("name".to_owned(), json!(self.name))]);
        let method = self.method.as_ref().map(|method| json!(method.to_uppercase()));
        let domains = Some(&self.allowed_domains).filter(|domains| !domains.is_empty());
        let named = [
            ("parameters", self.parameters()?),
            ("description", self.description.as_ref().map(|text| json!(text))),
            ("endpoint.url", self.endpoint.as_ref().map(|url| json!(url))),
            ("endpoint.method", method),
            ("security.allowed_domains", domains.map(|domains| json!(domains))),
            ("security.rate_limit", self.rate_limit.clone()),
            ("timeout", self.timeout.as_ref().map(|time| json!(time))),
        ];
        for (key, value) in named {
            value.map_or(Ok(()), |value| setting::put(&mut tool, key, value))?;
        }
        for typed in &self.settings {
            let (key, value) = setting::read(typed, "effects.read_only=true")?;
            setting::put(&mut tool, key, value)?;
        }
        Ok(Value::Object(tool))
    }

    fn parameters(&self) -> Result<Option<Value>, Failure> {
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
        Ok(Some(Value::Object(parameters)).filter(|_| !self.parameters.is_empty()))
    }
}

fn rate_limit(typed: &str) -> Result<Value, String> {
    let (calls, window) = typed.split_once('/').ok_or("write for example 100/1m")?;
    let calls: NonZeroU32 = calls.parse().map_err(|fault| format!("{calls}: {fault}"))?;
    Ok(json!({"requests": calls, "window": window}))
}
