//! One declared tool: checked, compiled, ready to be called.

use super::{
    Allowance, Domains,
    config::{self, ToolConfig},
    definition::{definition, hints, input_schema},
    endpoint::Endpoint,
    template::is_name,
};
use crate::{
    builtin::told,
    call::{CallContext, Outcome},
    catalogue::{Call, WeakCatalogue},
    compose,
    index::Scope,
    raw::with_member,
    source,
    tools::{self, Schema},
};
use forebay_domain::{Code, ErrorKind, Failure, Principal};
use forebay_runtime::{Clock, http::AllowList, secret::SecretReader};
use serde_json::{Value, value::RawValue};
use std::{sync::Arc, time::Duration};

const DESCRIPTION_CHARS_MAX: usize = 4_096;
const PARAMETERS_MAX: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(30);
const TIMEOUT_MAX: Duration = Duration::from_mins(10);
/// How much longer than its request a call may take, so that the request says what was wrong.
const GRACE: Duration = Duration::from_secs(5);

/// What reading a declaration takes beside it.
#[derive(Clone)]
pub struct Kit {
    pub secrets: SecretReader,
    pub clock: Clock,
    /// What may be reached although it is not public.
    pub allow: AllowList,
}

/// Who declared a tool. Only the operator's own file may name any secret, and trust what comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    File,
    Api,
}

pub(super) struct Tool {
    pub(super) name: String,
    pub(super) origin: Origin,
    pub(super) config: ToolConfig,
    work: Work,
    allowance: Option<Allowance>,
}

enum Work {
    Endpoint {
        endpoint: Box<Endpoint>,
        schema: Schema,
        listed: Arc<source::Tool>,
    },
    /// A built-in tool under another spelling of its name.
    Builtin(&'static str),
}

impl Tool {
    pub(super) fn parse(name: &str, config: &ToolConfig, origin: Origin, kit: &Kit) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::new(Code::InvalidConfig, format!("mcp.tools.{name}: {what}."));
        check_name(name).map_err(wrong)?;
        check_texts(config).map_err(wrong)?;
        if origin == Origin::Api && config.trusted_output {
            return Err(wrong("only a tool of the configuration file can be trusted".to_owned()));
        }
        let work = match (&config.endpoint, config::builtin(name)) {
            (None, Some(builtin)) => {
                if origin == Origin::Api && config.config != config::BuiltinConfig::default() {
                    return Err(wrong(format!(
                        "`{builtin}` is configured in the configuration file alone"
                    )));
                }
                Work::Builtin(builtin)
            }
            (None, None) => return Err(wrong("it needs an `endpoint` with a `url`".to_owned())),
            (Some(endpoint), _) => {
                let timeout = config.timeout.map_or(TIMEOUT, |timeout| timeout.0);
                if timeout > TIMEOUT_MAX {
                    return Err(wrong(format!("`timeout` is at most {} s", TIMEOUT_MAX.as_secs())));
                }
                let method = endpoint.method;
                let endpoint = Endpoint::new(endpoint, timeout, origin, kit).map_err(wrong)?;
                check_places(config, &endpoint).map_err(wrong)?;
                check_host(config, &endpoint).map_err(|failure| wrong(failure.message))?;
                let input = input_schema(config, &endpoint.template.in_path());
                let hints = hints(config.effects, method);
                Work::Endpoint {
                    schema: Schema::new(name, &input).map_err(|fault| wrong(format!("its parameters: {fault}")))?,
                    listed: Arc::new(source::Tool {
                        name: name.to_owned(),
                        raw: definition(name, &config.description, &input, hints),
                        hints,
                        headers: Vec::new(),
                        time_limit: timeout + GRACE,
                    }),
                    endpoint: Box::new(endpoint),
                }
            }
        };
        let limit = config.security.rate_limit.as_ref();
        Ok(Self {
            name: name.to_owned(),
            origin,
            config: config.clone(),
            work,
            allowance: limit.map(|limit| Allowance::new(limit, &kit.clock)),
        })
    }

    /// The built-in tool that this one is another spelling of.
    pub(super) fn builtin(&self) -> Option<&'static str> {
        match self.work {
            Work::Builtin(name) => Some(name),
            Work::Endpoint { .. } => None,
        }
    }

    /// As lists show it; nothing, where there is nothing behind it now.
    pub(super) fn listed(&self, catalogue: &WeakCatalogue) -> Option<Arc<source::Tool>> {
        let builtin = match &self.work {
            Work::Endpoint { listed, .. } => return Some(listed.clone()),
            Work::Builtin(name) => *name,
        };
        let index = catalogue.upgrade()?.index();
        let behind = index
            .view(&Scope::Server(crate::builtin::NAME.into()))?
            .tools
            .get(builtin)?;
        let quoted = |text: &str| Value::from(text).to_string();
        let mut raw = with_member(&behind.raw, "name", &quoted(&self.name));
        if !self.config.description.is_empty() {
            raw = with_member(&raw, "description", &quoted(&self.config.description));
        }
        Some(Arc::new(source::Tool {
            name: self.name.clone(),
            raw,
            hints: behind.item.hints,
            headers: Vec::new(),
            time_limit: behind.item.time_limit + GRACE,
        }))
    }

    pub(super) async fn call(
        &self,
        principal: &Principal,
        arguments: &RawValue,
        context: CallContext,
        catalogue: &WeakCatalogue,
    ) -> Result<Outcome, Failure> {
        let (endpoint, schema) = match &self.work {
            Work::Endpoint { endpoint, schema, .. } => (endpoint, schema),
            Work::Builtin(name) => {
                self.take()?;
                let catalogue = catalogue.upgrade().ok_or_else(gone)?;
                // As everybody calls it, so that whoever may not use the one may not use the other.
                return Box::pin(catalogue.call(principal, Call::of(name, arguments), context)).await;
            }
        };
        let Value::Object(mut arguments) = schema.read(arguments)? else {
            return Err(Failure::new(Code::InvalidArguments, "The arguments must be an object."));
        };
        for (name, parameter) in &self.config.parameters {
            if let Some(default) = &parameter.default {
                arguments.entry(name).or_insert_with(|| default.clone());
            }
        }
        let filling = endpoint.template.fill(&arguments)?;
        self.take()?;
        match endpoint.send(filling).await {
            Ok(complete) => Ok(Outcome::Complete(complete)),
            Err(failure) if failure.kind() == ErrorKind::Bug => Err(failure),
            Err(failure) => Ok(Outcome::Complete(told(&failure))),
        }
    }

    fn take(&self) -> Result<(), Failure> {
        self.allowance
            .as_ref()
            .map_or(Ok(()), |allowance| allowance.take(&self.name))
    }
}

pub(super) fn gone() -> Failure {
    Failure::new(Code::UnknownTool, "This tool has just been taken away.")
}

fn check_name(name: &str) -> Result<(), String> {
    if !is_name(name) || name.contains("__") {
        return Err("a name has at most 64 letters, digits, `_` and `-`, and no `__`".to_owned());
    }
    if tools::NAMES.contains(&name) || compose::is_own(name) {
        return Err("this name belongs to a built-in tool".to_owned());
    }
    Ok(())
}

fn check_texts(config: &ToolConfig) -> Result<(), String> {
    let is_long = |text: &str| text.chars().count() > DESCRIPTION_CHARS_MAX;
    if config.endpoint.is_some() && config.description.trim().is_empty() {
        return Err("it needs a `description`, by which a model chooses it".to_owned());
    }
    let texts = config.parameters.values().map(|parameter| &parameter.description);
    if texts.chain([&config.description]).any(|text| is_long(text)) {
        return Err(format!(
            "a `description` has at most {DESCRIPTION_CHARS_MAX} characters"
        ));
    }
    if config.parameters.len() > PARAMETERS_MAX {
        return Err(format!("there are at most {PARAMETERS_MAX} parameters"));
    }
    match config.parameters.keys().find(|name| !is_name(name)) {
        Some(name) => Err(format!("`{name}` is no name of a parameter")),
        None => Ok(()),
    }
}

fn check_places(config: &ToolConfig, endpoint: &Endpoint) -> Result<(), String> {
    let places = endpoint.template.names();
    match places.into_iter().find(|name| !config.parameters.contains_key(*name)) {
        Some(name) => Err(format!("`{{{name}}}` stands in the endpoint, and is no parameter")),
        None => Ok(()),
    }
}

fn check_host(config: &ToolConfig, endpoint: &Endpoint) -> Result<(), Failure> {
    let domains = Domains::parse(&config.security.allowed_domains)?;
    let host = endpoint.template.host();
    if domains.is_empty() || domains.has(host) {
        return Ok(());
    }
    let message = format!("the host `{host}` is not among `allowed_domains`");
    Err(Failure::new(Code::InvalidConfig, message))
}
