//! The methods of the protocol: what each one answers, in every era.
//!
//! Results are put together as JSON text around what is raw already. What is not listed here does not exist.

use crate::{
    call::{CallContext, Outcome, Progress},
    envelope::Request,
    era::Version,
    front::Front,
    params::{Params, invalid, text},
    resource, rpc,
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
    pub(crate) progress: Option<Progress>,
}

impl Turn {
    fn via(&self) -> Via {
        Via {
            surface: Surface::Mcp,
            trace: self.trace,
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
            "tools/list" => self.list_tools(&params, turn),
            "resources/list" => self.list_resources(&params, turn),
            "resources/templates/list" => self.list_templates(&params, turn),
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

    fn list_tools(&self, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        only_page(params)?;
        let tools = self.catalogue().list_tools(&turn.principal)?;
        Ok(self.list("tools", &array(tools.iter().map(|raw| raw.get())), turn))
    }

    fn list_resources(&self, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        only_page(params)?;
        let resources = self.catalogue().list_resources(&turn.principal)?;
        Ok(self.list("resources", &resource::list(&resources), turn))
    }

    fn list_templates(&self, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        only_page(params)?;
        let templates = self.catalogue().list_templates(&turn.principal)?;
        Ok(self.list("resourceTemplates", &resource::list(&templates), turn))
    }

    /// What a caller sees depends on what it may use, so a list is private.
    fn list(&self, name: &str, elements: &str, turn: &Turn) -> String {
        if turn.dialect.is_modern() {
            self.stamp(&[(name, elements), ("ttlMs", LIST_TTL_MS), ("cacheScope", "\"private\"")])
        } else {
            object(&[(name, elements)])
        }
    }

    async fn read_resource(&self, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        let uri = text("uri", params.uri)?;
        let content = self.catalogue().read(&turn.principal, &uri, turn.via()).await?;
        let contents = resource::list(&[content]);
        Ok(if turn.dialect.is_modern() {
            self.stamp(&[("contents", &contents), ("ttlMs", "0"), ("cacheScope", "\"private\"")])
        } else {
            object(&[("contents", &contents)])
        })
    }

    async fn call_tool(&self, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        let name = text("name", params.name)?;
        let arguments = match params.arguments {
            None => no_arguments(),
            Some(raw) if raw.get().starts_with('{') => raw.to_owned(),
            Some(_) => return Err(invalid("`arguments` must be a JSON object.".to_owned())),
        };
        let context = CallContext {
            via: turn.via(),
            cancel: turn.cancel.clone(),
            deadline: None,
            progress: turn.progress.clone(),
        };
        let raw = match self.catalogue().call(&turn.principal, &name, &arguments, context).await {
            Ok(Outcome::Complete(complete)) => complete.raw,
            Ok(Outcome::Cancelled) => return Err(cancelled()),
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

/// Every list fits one page, so there is no cursor that we could have given out.
fn only_page(params: &Params<'_>) -> Result<(), Failure> {
    match params.cursor {
        None => Ok(()),
        Some(_) => Err(invalid("`cursor` is none that this gateway has given out.".to_owned())
            .hint("Leave it out: the whole list fits one page.")),
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
