//! The input schema of a tool, compiled: arguments that do not fit it never reach the tool.

use super::{definition::Definition, whole};
use forebay_domain::{Code, Failure};
use jsonschema::{PatternOptions, Validator};
use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};

/// How many mistakes in the arguments are told at once.
const FAULTS_MAX: usize = 10;

/// Says of arguments whether they fit.
pub struct Schema {
    tool: String,
    input: Value,
    validator: Validator,
}

impl Schema {
    pub(crate) fn of(definition: &Definition) -> Result<Self, Failure> {
        Self::new(definition.name, &definition.input).map_err(|fault| {
            let message = format!("The input schema of `{}` cannot be used.", definition.name);
            Failure::new(Code::InternalError, message).caused_by(fault)
        })
    }

    /// Says what is wrong with a schema that cannot be used.
    pub fn new(tool: &str, input: &Value) -> Result<Self, String> {
        // The linear engine: a pattern from outside must not be able to hang us. References stay local, because the
        // crate is built without a resolver for others.
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(input)
            .map_err(|fault| fault.to_string())?;
        Ok(Self {
            tool: tool.to_owned(),
            input: input.clone(),
            validator,
        })
    }

    /// Reads the arguments and holds them against the schema, before anything runs. A whole number that is written with a
    /// point where the schema wants an integer comes without it.
    pub fn read(&self, arguments: &RawValue) -> Result<Value, Failure> {
        let mut value: Value = serde_json::from_str(arguments.get()).map_err(|fault| {
            Failure::new(
                Code::InvalidArguments,
                format!("The arguments cannot be read: {fault}."),
            )
        })?;
        if self.validator.is_valid(&value) {
            whole::make(&self.input, &mut value);
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
        let message = format!("The arguments do not fit `{}`: {details}.", self.tool);
        Err(Failure::new(Code::InvalidArguments, message)
            .hint("Mend them as its inputSchema says, then call again.")
            .details(Value::String(details)))
    }
}

/// Arguments that fit their schema, as what they mean. Numbers may still be larger than anybody reads them.
pub fn typed<T: DeserializeOwned>(arguments: Value) -> Result<T, Failure> {
    serde_json::from_value(arguments).map_err(|fault| {
        let message = format!("The arguments cannot be read: {fault}.");
        Failure::new(Code::InvalidArguments, message).hint("The tool's input schema says what each of them may be.")
    })
}
