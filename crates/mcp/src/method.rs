//! The methods of the protocol: what each one answers, in every era.
//!
//! Results are put together as JSON text around what is raw already. What is not listed here does not exist.

use crate::{
    call::{CallContext, Client, Complete, Outcome},
    catalogue::Call,
    envelope::Request,
    era::Version,
    front::Front,
    index::Scope,
    params::{Params, invalid, text},
    reading::Kind,
    rpc,
    rpc::{Dialect, array, object},
};
use forebay_domain::{Code, Failure, Principal, event::Surface, id::TraceId, port::Via};
use serde_json::{json, value::RawValue};
use tokio_util::sync::CancellationToken;

/// How long clients may keep a list or a discovery, in milliseconds.
const LIST_TTL_MS: &str = "60000";

/// Everything about a request but the request itself.
pub(crate) struct Turn {
    pub(crate) dialect: Dialect,
    pub(crate) principal: Principal,
    pub(crate) trace: TraceId,
    pub(crate) cancel: CancellationToken,
    pub(crate) client: Client,
}

impl Turn {
    fn context(&self) -> CallContext {
        CallContext {
            via: Via {
                surface: Surface::Mcp,
                trace: self.trace,
            },
            cancel: self.cancel.clone(),
            deadline: None,
            client: self.client.clone(),
            retry: None,
        }
    }
}

impl Front {
    /// Answers one request; `Ok` is the JSON text of its result.
    pub(crate) async fn serve(&self, request: &Request, turn: &Turn) -> Result<String, Failure> {
        let params = Params::read(request.params.as_ref())?;
        let modern = turn.dialect.is_modern();
        match request.method.as_str() {
            "tools/call" => self.call_tool(&params, turn).await,
            "tools/list" => self.list("tools", Kind::Tools, &params, turn),
            "prompts/list" => self.list("prompts", Kind::Prompts, &params, turn),
            "resources/list" => self.list("resources", Kind::Resources, &params, turn),
            "resources/templates/list" => self.list("resourceTemplates", Kind::Templates, &params, turn),
            "resources/read" => self.read_resource(&params, turn).await,
            "initialize" => Ok(self.initialize(turn)),
            "server/discover" if modern => Ok(self.discover()),
            "ping" if !modern => Ok("{}".to_owned()),
            _ => Err(unknown_method(&request.method)),
        }
    }

    /// The handshake of the legacy era. Its version was negotiated when the dialect was chosen.
    fn initialize(&self, turn: &Turn) -> String {
        let version = json!(turn.dialect.version().as_str()).to_string();
        let server = self.server();
        match turn.dialect {
            Dialect::Plain(_) => object(&[
                ("protocolVersion", &version),
                (
                    "serverInfo",
                    &json!({"name": server.name, "version": server.version}).to_string(),
                ),
                ("capabilities", r#"{"tools":{},"resources":{}}"#),
            ]),
            Dialect::Streamable(_) => object(&[
                ("protocolVersion", &version),
                (
                    "capabilities",
                    r#"{"tools":{"listChanged":true},"resources":{"listChanged":true}}"#,
                ),
                ("serverInfo", &server.to_json()),
                ("instructions", &json!(server.instructions).to_string()),
            ]),
        }
    }

    fn discover(&self) -> String {
        let versions: Vec<String> = Version::ALL
            .iter()
            .rev()
            .map(|version| json!(version.as_str()).to_string())
            .collect();
        self.stamp(&[
            ("supportedVersions", &array(versions.iter().map(String::as_str))),
            ("capabilities", r#"{"tools":{},"resources":{}}"#),
            ("instructions", &json!(self.server().instructions).to_string()),
            ("ttlMs", LIST_TTL_MS),
            ("cacheScope", "\"private\""),
        ])
    }

    /// What a caller sees depends on what it may use, so a list is private.
    fn list(&self, name: &str, kind: Kind, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        let cursor = params.cursor.map(|raw| text("cursor", Some(raw))).transpose()?;
        let page = self
            .catalogue()
            .list(&turn.principal, &Scope::Whole, kind, cursor.as_deref())?;
        let next = page.next.map(|next| json!(next).to_string());
        let mut members = vec![(name, page.items.as_str())];
        members.extend(next.as_deref().map(|next| ("nextCursor", next)));
        Ok(if turn.dialect.is_modern() {
            members.extend([("ttlMs", LIST_TTL_MS), ("cacheScope", "\"private\"")]);
            self.stamp(&members)
        } else {
            object(&members)
        })
    }

    async fn read_resource(&self, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        let uri = text("uri", params.uri)?;
        let outcome = self
            .catalogue()
            .read(&turn.principal, &Scope::Whole, &uri, None, turn.context())
            .await?;
        let raw = complete(outcome)?.raw;
        Ok(if turn.dialect.is_modern() {
            let members = raw.get().trim_start_matches('{');
            format!(
                r#"{{"resultType":"complete","_meta":{},"ttlMs":0,"cacheScope":"private",{members}"#,
                self.signature()
            )
        } else {
            raw.get().to_owned()
        })
    }

    async fn call_tool(&self, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        let name = text("name", params.name)?;
        let arguments = match params.arguments {
            None => no_arguments(),
            Some(raw) if raw.get().starts_with('{') => raw.to_owned(),
            Some(_) => return Err(invalid("`arguments` must be a JSON object.".to_owned())),
        };
        let called = self
            .catalogue()
            .call(&turn.principal, Call::of(&name, &arguments), turn.context())
            .await;
        let raw = match called.and_then(complete) {
            Ok(complete) => complete.raw,
            Err(failure) if rpc::is_for_the_model(&failure, turn.dialect) => rpc::tool_error(&failure),
            Err(failure) => return Err(failure),
        };
        Ok(if turn.dialect.is_modern() {
            self.stamp_raw(&raw)
        } else {
            raw.get().to_owned()
        })
    }

    /// A modern result: complete, and signed with who we are.
    fn stamp(&self, members: &[(&str, &str)]) -> String {
        let mut all = vec![("resultType", "\"complete\""), ("_meta", self.signature())];
        all.extend_from_slice(members);
        object(&all)
    }

    /// The same for a result that is an object already and has neither member, as those of built-in tools.
    fn stamp_raw(&self, raw: &RawValue) -> String {
        let members = raw.get().trim_start_matches('{');
        format!(r#"{{"resultType":"complete","_meta":{},{members}"#, self.signature())
    }
}

fn no_arguments() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

fn complete(outcome: Outcome) -> Result<Complete, Failure> {
    match outcome {
        Outcome::Complete(complete) => Ok(complete),
        Outcome::Cancelled => Err(cancelled()),
        Outcome::InputRequired(_) => Err(Failure::new(Code::InternalError, "Nobody carries questions yet.")),
        Outcome::Refused(error) => Err(Failure::new(Code::UpstreamFailed, error.message)),
    }
}

fn unknown_method(method: &str) -> Failure {
    let method: String = method.chars().take(80).collect();
    Failure::new(Code::UnknownMethod, format!("There is no method `{method}` here."))
        .hint("Its protocol version may not have it; see what the server's capabilities name.")
}

pub(crate) fn cancelled() -> Failure {
    Failure::new(Code::Cancelled, "The request was cancelled.")
}
