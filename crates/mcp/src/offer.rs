//! What is on offer under one configuration: the tools with their schemas compiled, and the folders that are open.

use crate::{
    catalogue::StatusSource,
    files::Files,
    tools::{self, Builtin},
};
use forebay_domain::{Code, Failure, port::AskModel};
use forebay_runtime::Clock;
use jsonschema::{PatternOptions, Validator};
use serde_json::{Value, value::RawValue};
use std::{collections::BTreeMap, sync::Arc};

/// How many mistakes in the arguments are told at once.
const FAULTS_MAX: usize = 10;

/// What is offered under the configuration in force.
pub(crate) struct Offer {
    pub(crate) config: tools::Config,
    pub(crate) tools: BTreeMap<&'static str, Arc<Offered>>,
    pub(crate) files: Option<Arc<Files>>,
}

/// A tool with its schema compiled and its definition written.
pub(crate) struct Offered {
    pub(crate) name: &'static str,
    pub(crate) raw: Box<RawValue>,
    validator: Validator,
    pub(crate) tool: Builtin,
}

impl Offer {
    pub(crate) fn new(
        config: tools::Config,
        clock: &Clock,
        models: &Arc<dyn AskModel>,
        status: &StatusSource,
    ) -> Result<Self, Failure> {
        let files = Files::open(&config.file_reader)?.map(Arc::new);
        let parts = tools::Parts {
            clock: clock.clone(),
            models: models.clone(),
            status: status.clone(),
            files: files.clone(),
        };
        let entries = Builtin::all(&parts)
            .into_iter()
            .map(Offered::new)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            config,
            tools: entries.into_iter().map(|entry| (entry.name, Arc::new(entry))).collect(),
            files,
        })
    }
}

impl Offered {
    pub(crate) fn new(tool: Builtin) -> Result<Self, Failure> {
        let definition = tool.definition();
        // The linear engine: a pattern from outside must not be able to hang us. References stay local, because the
        // crate is built without a resolver for others.
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(&definition.input)
            .map_err(|fault| {
                let message = format!("The input schema of `{}` cannot be used.", definition.name);
                Failure::new(Code::InternalError, message).caused_by(fault.to_string())
            })?;
        Ok(Self {
            name: definition.name,
            raw: definition.to_raw(),
            validator,
            tool,
        })
    }

    /// Reads the arguments and holds them against the schema, before anything runs.
    pub(crate) fn validate(&self, arguments: &RawValue) -> Result<Value, Failure> {
        let value: Value = serde_json::from_str(arguments.get()).map_err(|fault| {
            Failure::new(
                Code::InvalidArguments,
                format!("The arguments cannot be read: {fault}."),
            )
        })?;
        if self.validator.is_valid(&value) {
            return Ok(value);
        }
        // Masked: what somebody sent does not go into a message that may be logged.
        let faults: Vec<String> = self
            .validator
            .iter_errors(&value)
            .take(FAULTS_MAX)
            .map(|fault| {
                let place = fault.instance_path().to_string();
                let place = if place.is_empty() {
                    "arguments"
                } else {
                    place.trim_start_matches('/')
                };
                format!("{place}: {}", fault.masked())
            })
            .collect();
        let details = faults.join("; ");
        Err(Failure::new(
            Code::InvalidArguments,
            format!("The arguments do not fit `{}`: {details}.", self.name),
        )
        .hint("Mend them as its inputSchema says, then call again.")
        .details(Value::String(details)))
    }
}
