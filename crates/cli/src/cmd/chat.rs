//! `forebay chat`: one question to a model, its answer on standard output as it comes.

use super::dry_run;
use crate::{
    connect::Context,
    printer::{Format, Printer, Table, harmless},
};
use forebay_api::{
    Client,
    client::{ChatMessage, ChatRequest},
};
use forebay_domain::{Code, Failure};
use futures_util::StreamExt;
use serde_json::json;
use std::{io::Read, pin::pin};

/// The longest question read from standard input.
const QUESTION_BYTES_MAX: u64 = 4 << 20;

/// Ask a model
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay chat --system 'Answer in one short sentence.' --temperature 0 'What is the capital of France?'
  forebay chat --model qwen --system 'Answer in one word.' 'What is the capital of France?'
  forebay chat --model qwen --max-tokens 100 --dry-run 'What is the capital of France?'
  git diff | forebay chat --system 'Write a commit message.' -")]
pub(crate) struct Args {
    /// The question; `-` reads it from standard input
    prompt: String,
    /// Which model; may be left out where there is only one
    #[arg(short, long)]
    model: Option<String>,
    /// What the model should heed; small models ramble without it
    #[arg(short, long)]
    system: Option<String>,
    /// How free the model is in its choice of words; 0 is not at all
    #[arg(long)]
    temperature: Option<f64>,
    /// The most tokens that it may answer
    #[arg(long)]
    max_tokens: Option<u32>,
    /// Print the answer only when it is whole
    #[arg(long)]
    no_stream: bool,
    /// Say what it would cost at most and whether the limits would let it in; ask nothing. Exit code 0 either way
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: Args, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let client = context.client()?;
    let model = match args.model {
        Some(model) => model,
        None => only_model(&client).await?,
    };
    let system = args.system.map(|content| ChatMessage {
        role: "system",
        content,
    });
    let user = ChatMessage {
        role: "user",
        content: question(args.prompt)?,
    };
    let request = ChatRequest {
        model,
        messages: system.into_iter().chain([user]).collect(),
        temperature: args.temperature,
        max_tokens: args.max_tokens,
    };
    let is_whole = args.no_stream || printer.format() != Format::Table;
    if args.dry_run {
        return dry_run::chat(request.body(!is_whole), context, printer).await;
    }
    if is_whole {
        let answer = client.chat(&request).await?;
        if printer.format() == Format::Table {
            return printer.text(&format!("{}\n", harmless(&answer)));
        }
        let told = json!({ "model": request.model, "answer": answer });
        return printer.print(&told, |_| Table::of_one([("answer", answer.clone())]));
    }
    stream(&client, &request, printer).await
}

async fn stream(client: &Client, request: &ChatRequest, printer: &mut Printer) -> Result<(), Failure> {
    let mut pieces = pin!(client.chat_streamed(request).await?);
    let mut ends_line = true;
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                // What came stands on its own line, and the error on the next.
                printer.text("\n")?;
                return Err(error.into());
            }
        };
        printer.text(&harmless(&piece))?;
        if printer.is_closed() {
            return Ok(());
        }
        ends_line = piece.ends_with('\n');
    }
    if ends_line { Ok(()) } else { printer.text("\n") }
}

fn question(prompt: String) -> Result<String, Failure> {
    if prompt != "-" {
        return Ok(prompt);
    }
    let mut text = String::new();
    std::io::stdin()
        .take(QUESTION_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| {
            Failure::new(
                Code::InvalidRequest,
                "The question on standard input is no text in UTF-8.",
            )
            .caused_by(error)
        })?;
    Ok(text)
}

async fn only_model(client: &Client) -> Result<String, Failure> {
    let mut models = client.models().await?;
    match models.len() {
        1 => Ok(models.remove(0)),
        0 => Err(
            Failure::new(Code::UnknownModel, "There is no model that this key may ask.")
                .hint("Add one to `models:` in the configuration, or use another key."),
        ),
        _ => Err(
            Failure::new(Code::InvalidRequest, "There are several models; say which one.")
                .hint(format!("Choose with --model: {}.", models.join(", "))),
        ),
    }
}
