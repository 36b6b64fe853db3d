//! `mcp`: a tool or a resource of the catalogue, with the permissions of whoever asks.
//!
//! What a tool answers depends on who calls it (connections and permissions are the caller's), so nothing of it is kept
//! for anybody else.

use super::Ground;
use crate::{
    chunk::{Rules, chunk},
    item::Item,
    pick::Picker,
    provider::{Ability, Asking, Finding, Provider},
    settings::Reading,
    template::{Template, Values},
    words::{rank, words},
};
use forebay_domain::{
    Code, Failure, Principal,
    context::Strategy,
    port::{BoxFuture, CallTool},
    tool::ToolCall,
};
use serde_json::{Map, Value, value::to_raw_value};
use std::sync::Arc;

/// Bytes of one item out of a plain text.
const PASSAGE_BYTES_MAX: usize = 1500;
/// What a tool or a resource may answer; more is refused.
const TEXT_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    target: Target,
    picker: Picker,
}

#[derive(Debug, Clone)]
enum Target {
    Tool {
        name: String,
        argument: String,
        fixed: Map<String, Value>,
    },
    Resource(Template),
}

impl Settings {
    pub(crate) fn parse(read: &Reading<'_>) -> Result<Self, Failure> {
        let config = read.config;
        let target = match (&config.tool, &config.uri) {
            (Some(_), None) => Target::Tool {
                name: read.text("tool", config.tool.as_ref())?.to_owned(),
                argument: match &config.argument {
                    Some(_) => read.text("argument", config.argument.as_ref())?.to_owned(),
                    None => "query".to_owned(),
                },
                fixed: config.arguments.clone(),
            },
            (None, Some(_)) if config.argument.is_some() || !config.arguments.is_empty() => {
                return Err(read.wrong("argument", "is for a `tool`, not for a `uri`"));
            }
            (None, Some(_)) => {
                let uri = read.text("uri", config.uri.as_ref())?;
                Target::Resource(Template::parse(uri).map_err(|problem| read.wrong("uri", problem))?)
            }
            (None, None) | (Some(_), Some(_)) => {
                return Err(read.wrong("tool", "or `uri` is needed, and not both"));
            }
        };
        Ok(Self {
            target,
            picker: Picker::parse(config.items.as_ref(), &config.fields)
                .map_err(|problem| read.wrong("items", problem))?,
        })
    }
}

pub(crate) struct Mcp {
    settings: Settings,
    tools: Arc<dyn CallTool>,
}

impl Mcp {
    pub(crate) fn new(settings: Settings, ground: &Ground) -> Self {
        Self {
            settings,
            tools: ground.tools.clone(),
        }
    }

    async fn ask(&self, asking: Asking<'_>) -> Result<Finding, Failure> {
        let (text, source, is_ranked) = match &self.settings.target {
            Target::Tool { name, argument, fixed } => {
                (self.call(name, argument, fixed, asking).await?, name.clone(), true)
            }
            Target::Resource(template) => {
                let uri = template.encoded(Values {
                    query: asking.query,
                    limit: asking.limit,
                });
                let text = self.tools.read(asking.principal, &uri, asking.via).await?;
                (text, uri, template.has_query())
            }
        };
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("`{source}` answered more than {TEXT_BYTES_MAX} bytes.");
            return Err(Failure::new(Code::UpstreamTruncated, message));
        }
        let items = self.items(&text, &source, is_ranked, asking)?;
        Ok(Finding {
            items,
            strategy: Strategy::Keyword,
        })
    }

    async fn call(
        &self,
        name: &str,
        argument: &str,
        fixed: &Map<String, Value>,
        asking: Asking<'_>,
    ) -> Result<String, Failure> {
        let mut arguments = fixed.clone();
        arguments.insert(argument.to_owned(), asking.query.into());
        let arguments = to_raw_value(&arguments).expect("a map of JSON is JSON");
        let call = ToolCall {
            tool: name,
            arguments: &arguments,
            patience: None,
            cost: None,
        };
        let answer = self.tools.call(asking.principal, call, asking.via).await?;
        if answer.is_error {
            let message = format!("The tool `{name}` answered that it failed.");
            return Err(Failure::new(Code::UpstreamFailed, message));
        }
        Ok(answer.text)
    }

    /// JSON is picked apart as that of a `rest` service; any other text becomes passages.
    fn items(&self, text: &str, source: &str, is_ranked: bool, asking: Asking<'_>) -> Result<Vec<Item>, Failure> {
        let json = text
            .trim_start()
            .starts_with(['{', '['])
            .then(|| serde_json::from_str::<Value>(text).ok());
        if let Some(json) = json.flatten() {
            let picked = self.settings.picker.pick(&json, source, asking.limit);
            return picked
                .map_err(|problem| Failure::new(Code::UpstreamFailed, format!("The answer of `{source}` {problem}.")));
        }
        let passages = chunk(text, Rules::of_size(PASSAGE_BYTES_MAX));
        // What nobody ranked is ranked here: a resource that is the same for every question.
        let places: Vec<usize> = if is_ranked {
            (0..passages.len()).collect()
        } else {
            let texts: Vec<&str> = passages.iter().map(|passage| passage.text.as_str()).collect();
            rank(&texts, &words(asking.query))
        };
        let item = |place: usize| {
            let passage = &passages[place];
            Item::new(
                &format!("{source}#{place}"),
                &passage.text,
                source,
                passage.heading.as_deref(),
            )
        };
        Ok(places.into_iter().filter_map(item).take(asking.limit).collect())
    }
}

impl Provider for Mcp {
    fn ability(&self) -> Ability {
        Ability::Keyword
    }

    fn find<'a>(&'a self, asking: Asking<'a>) -> BoxFuture<'a, Result<Finding, Failure>> {
        Box::pin(self.ask(asking))
    }

    fn is_personal(&self) -> bool {
        true
    }

    fn allows(&self, principal: &Principal) -> Result<(), Failure> {
        match &self.settings.target {
            Target::Tool { name, .. } if self.tools.find(principal, name).is_none() => {
                let message = format!("There is no tool `{name}` that the caller may call.");
                Err(Failure::new(Code::UnknownTool, message))
            }
            Target::Tool { .. } | Target::Resource(_) => Ok(()),
        }
    }
}
