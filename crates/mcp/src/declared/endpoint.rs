//! One exchange with an endpoint: the filled template, its credentials, the guard.

use super::{
    answer,
    config::{EndpointConfig, HeaderConfig},
    template::{Filling, Template},
    tool::{Kit, Origin},
};
use crate::call::Complete;
use forebay_domain::{Code, Failure};
use forebay_runtime::{
    SecretRef,
    http::{Guarded, Rules, Schemes},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::Request;
use std::time::Duration;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const HEADERS_MAX: usize = 32;

/// The only variables that a tool declared at run time may refer to.
const API_SECRET_PREFIX: &str = "FOREBAY_TOOL_";

/// Headers that say how a message travels. They are not the declarer's to choose.
const OURS: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::EXPECT,
];

pub(super) struct Endpoint {
    pub(super) template: Template,
    headers: Vec<(HeaderName, HeaderConfig)>,
    bearer: Option<SecretRef>,
    result: Option<String>,
    guarded: Guarded,
    kit: Kit,
}

impl Endpoint {
    pub(super) fn new(config: &EndpointConfig, timeout: Duration, origin: Origin, kit: &Kit) -> Result<Self, String> {
        let template = Template::parse(&config.url, config.method, config.body.as_ref())?;
        if config.headers.len() > HEADERS_MAX {
            return Err(format!(
                "`headers` has {} entries; {HEADERS_MAX} are the most",
                config.headers.len()
            ));
        }
        if let Some(result) = &config.result
            && !(result.is_empty() || result.starts_with('/'))
        {
            return Err("`result` must be a JSON pointer, such as `/data/items`".to_owned());
        }
        let headers = config.headers.iter().map(|(name, value)| {
            let parsed = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no header name"))?;
            if OURS.contains(&parsed) {
                return Err(format!("the header `{name}` is set by the gateway"));
            }
            Ok((parsed, value.clone()))
        });
        let endpoint = Self {
            headers: headers.collect::<Result<_, String>>()?,
            bearer: config.bearer.clone(),
            result: config.result.clone().filter(|pointer| !pointer.is_empty()),
            guarded: Guarded::new(Rules {
                schemes: if template.is_https() {
                    Schemes::HttpsOnly
                } else {
                    Schemes::HttpAndHttps
                },
                allow: kit.allow.clone(),
                body_bytes_max: ANSWER_BYTES_MAX,
                deadline: timeout,
            }),
            template,
            kit: kit.clone(),
        };
        endpoint.check_secrets(origin)?;
        // What is not there shows now and not in the middle of somebody's work.
        endpoint.sent_headers()?;
        Ok(endpoint)
    }

    /// Whoever may only declare tools must not read every secret of the machine with them.
    fn check_secrets(&self, origin: Origin) -> Result<(), String> {
        let in_headers = self.headers.iter().filter_map(|(_, value)| match value {
            HeaderConfig::Secret(reference) => Some(reference),
            HeaderConfig::Text(_) => None,
        });
        for reference in in_headers.chain(&self.bearer) {
            let is_allowed = match (origin, reference) {
                (Origin::File, _) => true,
                (Origin::Api, SecretRef::Env(name)) => name.starts_with(API_SECRET_PREFIX),
                (Origin::Api, SecretRef::File(_)) => false,
            };
            if !is_allowed {
                return Err(format!(
                    "this secret cannot be named over the API; use `{{env: NAME}}` with a name that begins with {API_SECRET_PREFIX}"
                ));
            }
            if origin == Origin::Api && !self.template.is_https() {
                return Err("a secret is sent over https alone".to_owned());
            }
        }
        Ok(())
    }

    /// Read for each request, so that a secret that was changed is the one that is sent.
    fn sent_headers(&self) -> Result<HeaderMap, String> {
        let secret = |reference: &SecretRef| self.kit.secrets.read(reference).map_err(|fault| fault.to_string());
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("application/json, text/*;q=0.9"),
        );
        for (name, value) in &self.headers {
            let value = match value {
                HeaderConfig::Text(text) => HeaderValue::from_str(text),
                HeaderConfig::Secret(reference) => HeaderValue::from_str(secret(reference)?.expose()),
            };
            let mut value = value.map_err(|_| format!("the value of the header `{name}` cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        if let Some(reference) = &self.bearer {
            let token = format!("Bearer {}", secret(reference)?.expose());
            let mut value =
                HeaderValue::from_str(&token).map_err(|_| "the token cannot be sent in a header".to_owned())?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(headers)
    }

    pub(super) async fn send(&self, filling: Filling) -> Result<Complete, Failure> {
        let mut request = Request::new(self.template.method(), filling.url);
        *request.headers_mut() = self.sent_headers().map_err(|what| {
            Failure::new(Code::UpstreamFailed, "The tool's own credentials cannot be read.").caused_by(what)
        })?;
        if let Some(body) = filling.body {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
            *request.body_mut() = Some(body.to_string().into());
        }
        let response = self.guarded.send(request).await?;
        answer::read(&response, self.result.as_deref())
    }
}
