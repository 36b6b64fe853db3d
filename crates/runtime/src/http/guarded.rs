//! The client for URLs that somebody else chose: declared tools, providers, proxied calls.
//!
//! It resolves a name once, checks every address that comes back, and connects to exactly those: there is no second
//! look-up that could answer otherwise. Addresses in the URL itself never pass through a resolver, so they are checked
//! before (in any spelling: `url` has turned octal, hexadecimal and short forms into plain addresses by then).
//! It refuses credentials in URLs, ignores proxy variables, follows redirects only when asked to and then checks each
//! hop, and bounds the answer in size and the whole exchange in time. It never says which address a name led to.

use super::{AllowList, address::Class, trusted::common};
use bytes::{Bytes, BytesMut};
use forebay_domain::{Code, Failure, port::BoxFuture};
use hickory_resolver::TokioResolver;
use http::{
    Method, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HOST, LOCATION},
};
use reqwest::{
    Client, Request,
    dns::{Addrs, Name, Resolve, Resolving},
};
use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use url::{Host, Url};

const CONNECT_MAX: Duration = Duration::from_secs(5);
const IDLE_MAX: Duration = Duration::from_secs(4);
const IDLE_CONNECTIONS_PER_HOST_MAX: usize = 4;

/// What a guarded request may do.
#[derive(Debug, Clone)]
pub struct Rules {
    pub schemes: Schemes,
    /// What is allowed beyond the public internet.
    pub allow: AllowList,
    pub body_bytes_max: usize,
    /// For the whole exchange, redirects included.
    pub deadline: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schemes {
    HttpsOnly,
    HttpAndHttps,
}

/// Turns a host name into addresses.
pub type LookUp = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Vec<IpAddr>, BoxError>> + Send + Sync>;
type BoxError = Box<dyn Error + Send + Sync>;

/// Sends requests under [`Rules`]. Make one and clone it: its clones share their connections.
#[derive(Debug, Clone)]
pub struct Guarded {
    client: Client,
    rules: Arc<Rules>,
}

impl Guarded {
    /// With the machine's own resolver configuration, hosts file included.
    pub fn new(rules: Rules) -> Self {
        Self::with_look_up(rules, machine_look_up())
    }

    /// With names looked up elsewhere.
    pub fn with_look_up(rules: Rules, look_up: LookUp) -> Self {
        let rules = Arc::new(rules);
        let names = CheckedNames {
            rules: rules.clone(),
            look_up,
        };
        let options = || {
            common()
                .connect_timeout(CONNECT_MAX)
                .pool_idle_timeout(IDLE_MAX)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST_MAX)
        };
        let client = super::trusted::build(|| options().dns_resolver(names.clone()));
        Self { client, rules }
    }

    /// One exchange. A redirect is an answer like any other.
    pub async fn send(&self, request: Request) -> Result<Response<Bytes>, Failure> {
        let host = host_of(request.url());
        self.in_time(&host, self.exchange(request)).await
    }

    /// The head of an answer, whose body the caller reads as it comes, within bounds of its own. A redirect is an answer
    /// like any other.
    pub async fn open(&self, mut request: Request) -> Result<reqwest::Response, Failure> {
        self.rules.check_url(request.url())?;
        let host = host_of(request.url());
        request.headers_mut().remove(HOST);
        let opened = async { self.client.execute(request).await.map_err(|error| failed(&host, error)) };
        self.in_time(&host, opened).await
    }

    /// Follows at most so many redirects, each checked like the first request. Going elsewhere drops all headers but
    /// `Accept` and `Content-Type`, since the others were meant for the first host; going back to plain HTTP is refused.
    pub async fn follow(&self, request: Request, redirects_max: usize) -> Result<Response<Bytes>, Failure> {
        let host = host_of(request.url());
        let whole = async {
            let mut request = request;
            for _ in 0..=redirects_max {
                let (from, spare) = (request.url().clone(), request.try_clone());
                let response = self.exchange(request).await?;
                let Some(to) = redirect(&from, &response)? else {
                    return Ok(response);
                };
                let spare = spare.ok_or_else(|| {
                    Failure::new(
                        Code::UpstreamFailed,
                        format!("{host} redirects a request that cannot be repeated"),
                    )
                })?;
                request = redirected(spare, to, response.status());
            }
            let message = format!("{host} redirects more than {redirects_max} times");
            Err(Failure::new(Code::UpstreamFailed, message))
        };
        self.in_time(&host, whole).await
    }

    async fn in_time<T>(&self, host: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let deadline = self.rules.deadline;
        tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| {
            let message = format!("{host} did not answer wholly within {} ms", deadline.as_millis());
            Err(Failure::new(Code::UpstreamTimedOut, message))
        })
    }

    async fn exchange(&self, mut request: Request) -> Result<Response<Bytes>, Failure> {
        self.rules.check_url(request.url())?;
        let host = host_of(request.url());
        // The name in the URL is the one that was checked; another one here would reach another virtual host.
        request.headers_mut().remove(HOST);
        let mut answer = self
            .client
            .execute(request)
            .await
            .map_err(|error| failed(&host, error))?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        *response.body_mut() = self.body(&host, answer).await?;
        Ok(response)
    }

    async fn body(&self, host: &str, mut answer: reqwest::Response) -> Result<Bytes, Failure> {
        let bytes_max = self.rules.body_bytes_max;
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(host, error))? {
            if body.len() + chunk.len() > bytes_max {
                let message = format!("the answer of {host} has more than {bytes_max} bytes");
                return Err(Failure::new(Code::UpstreamTruncated, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

impl Rules {
    /// All that can be said about a URL without looking anything up.
    fn check_url(&self, url: &Url) -> Result<(), Failure> {
        match (url.scheme(), self.schemes) {
            ("https", _) | ("http", Schemes::HttpAndHttps) => {}
            ("http", Schemes::HttpsOnly) => {
                return Err(refusal("plain http is not allowed here").hint("Use an https URL."));
            }
            (scheme, _) => {
                return Err(refusal(format!("`{scheme}` URLs are not allowed")).hint("Use an https URL."));
            }
        }
        if !url.username().is_empty() || url.password().is_some() {
            let hint = "Put credentials into a header, by reference.";
            return Err(refusal("credentials in a URL are not allowed").hint(hint));
        }
        let address = match url.host() {
            Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
            Some(Host::Ipv6(v6)) => IpAddr::V6(v6),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(refusal("a URL without a host is not allowed")),
        };
        let host = host_of(url);
        self.allow
            .check(&host, address)
            .map_err(|class| Refused { host, class }.into())
    }
}

/// The resolver that the connector asks. What it returns is what is connected to.
#[derive(Clone)]
struct CheckedNames {
    rules: Arc<Rules>,
    look_up: LookUp,
}

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let found = (self.look_up)(host.clone());
        let rules = self.rules.clone();
        Box::pin(async move {
            let addresses = found.await?;
            // One address that is not allowed spoils all: an honest name does not lead both outside and inside.
            for address in &addresses {
                if let Err(class) = rules.allow.check(&host, *address) {
                    return Err(Refused { host, class }.into());
                }
            }
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

fn machine_look_up() -> LookUp {
    let resolver = TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build);
    match resolver {
        Ok(resolver) => Arc::new(move |host| {
            let resolver = resolver.clone();
            Box::pin(async move { Ok(resolver.lookup_ip(host).await?.iter().collect()) })
        }),
        Err(error) => {
            let reason = format!("the machine's resolver configuration cannot be used: {error}");
            Arc::new(move |_| {
                let reason = reason.clone();
                Box::pin(async move { Err(reason.into()) })
            })
        }
    }
}

/// The guard said no. It travels through the connector as an error, and becomes a [`Failure`] behind it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{host} is or leads to {class} address, which is not allowed")]
struct Refused {
    host: String,
    class: Class,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        refusal(refused.to_string()).hint("Use a public host, or ask the operator to list this one.")
    }
}

fn refusal(message: impl Into<String>) -> Failure {
    Failure::new(Code::AddressNotAllowed, message)
}

/// The cause goes without its URL, whose query may hold a secret.
fn failed(host: &str, error: reqwest::Error) -> Failure {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return refused.clone().into();
        }
        cause = inner.source();
    }
    let (code, what) = if error.is_timeout() {
        (Code::UpstreamTimedOut, "did not answer in time")
    } else if error.is_connect() {
        (Code::UpstreamFailed, "could not be reached")
    } else if error.is_body() || error.is_decode() {
        (Code::UpstreamTruncated, "broke off its answer")
    } else {
        (Code::UpstreamFailed, "did not answer in HTTP")
    };
    Failure::new(code, format!("{host} {what}")).caused_by(error.without_url())
}

fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or("(no host)").to_owned()
}

/// Where the answer sends us, if anywhere.
fn redirect(from: &Url, response: &Response<Bytes>) -> Result<Option<Url>, Failure> {
    let moved = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    let Some(location) = response.headers().get(LOCATION) else {
        return Ok(None);
    };
    if !moved.contains(&response.status()) {
        return Ok(None);
    }
    let to = location.to_str().ok().and_then(|location| from.join(location).ok());
    let to = to.ok_or_else(|| {
        let message = format!("{} redirects to something that is no URL", host_of(from));
        Failure::new(Code::UpstreamFailed, message)
    })?;
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(refusal("a redirect from https to plain http is not allowed"));
    }
    Ok(Some(to))
}

/// The next request, by the rules of RFC 9110 §15.4.
fn redirected(mut request: Request, to: Url, status: StatusCode) -> Request {
    if request.url().origin() != to.origin() {
        let kept = [ACCEPT, CONTENT_TYPE].map(|name| (request.headers().get(&name).cloned(), name));
        request.headers_mut().clear();
        for (value, name) in kept {
            if let Some(value) = value {
                request.headers_mut().insert(name, value);
            }
        }
    }
    let rewrites = match status {
        StatusCode::SEE_OTHER => request.method() != Method::HEAD,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => request.method() == Method::POST,
        _ => false,
    };
    if rewrites {
        *request.method_mut() = Method::GET;
        *request.body_mut() = None;
        request.headers_mut().remove(CONTENT_TYPE);
    }
    *request.url_mut() = to;
    request
}
