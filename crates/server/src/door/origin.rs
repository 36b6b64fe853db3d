//! Host and Origin: which names a request may be addressed to, and which pages may send it.
//!
//! A page that a browser loaded from elsewhere can send requests to loopback addresses, and by rebinding its own DNS
//! name it can even read the answers. The Host check stops the second, the Origin check the first. Both hold for every
//! kind of request, SSE and upgrades included.

use forebay_domain::{Code, Failure};
use http::{HeaderMap, header, uri::Authority};
use std::net::{IpAddr, SocketAddr};
use url::Url;

/// The names and origins accepted, made once for each configuration.
#[derive(Debug, Clone)]
pub struct Neighbours {
    hosts: Vec<String>,
    origins: Vec<Origin>,
    /// Bound beyond loopback: then any IP literal is a fine Host. Rebinding needs a name, never a literal.
    open_to_network: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    /// `None` accepts any port.
    port: Option<u16>,
}

/// Why the configuration names no usable origin or address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OriginFault {
    #[error("`auth.origins`: `{0}` is no web origin; one looks like `https://app.example.com` or `http://localhost:*`")]
    Origin(String),
    #[error("`server.public_url`: `{0}` is no web address; one looks like `https://ai.example.com`")]
    PublicUrl(Url),
}

impl Neighbours {
    pub fn new(
        listen: SocketAddr,
        public_url: Option<&Url>,
        hosts: &[String],
        origins: &[String],
    ) -> Result<Self, OriginFault> {
        let mut names: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let mut pages = origins
            .iter()
            .map(|text| Origin::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(url) = public_url {
            let host = url.host_str().filter(|_| ["http", "https"].contains(&url.scheme()));
            let host = host.ok_or_else(|| OriginFault::PublicUrl(url.clone()))?;
            names.push(host.to_ascii_lowercase());
            pages.push(Origin::parse(&url.origin().ascii_serialization())?);
        }
        names.push(bare_ip(listen.ip()));
        Ok(Self {
            hosts: names,
            origins: pages,
            open_to_network: !listen.ip().is_loopback(),
        })
    }

    /// Refuses a request that is addressed to, or comes from, a stranger.
    pub fn check(&self, authority: Option<&Authority>, headers: &HeaderMap) -> Result<(), Failure> {
        self.check_host(authority, headers)?;
        self.check_origin(headers)
    }

    fn check_host(&self, authority: Option<&Authority>, headers: &HeaderMap) -> Result<(), Failure> {
        let refuse = |what: String| {
            Err(Failure::new(Code::HostNotAllowed, what)
                .hint("Use the address the gateway listens on, or add the name to `server.hosts`."))
        };
        let mut given = headers.get_all(header::HOST).iter();
        let host = match (given.next(), given.next(), authority) {
            (Some(_), Some(_), _) => return refuse("The request has more than one Host header.".to_owned()),
            (Some(value), None, _) => host_of(value.as_bytes()),
            (None, _, Some(authority)) => host_of(authority.as_str().as_bytes()),
            (None, _, None) => return refuse("The request has no Host header.".to_owned()),
        };
        let Some(host) = host else {
            return refuse("The Host header is no name or address with an optional port.".to_owned());
        };
        let name = host.host().to_ascii_lowercase();
        let ip = name.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let fine = name == "localhost"
            || ip.is_some_and(|ip| ip.is_loopback() || self.open_to_network)
            || self.hosts.contains(&name);
        if fine {
            Ok(())
        } else {
            refuse(format!(
                "The Host {:?} is not one of this gateway's names.",
                host.as_str()
            ))
        }
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let mut given = headers.get_all(header::ORIGIN).iter();
        let origin = match (given.next(), given.next()) {
            (None, _) => return Ok(()),
            (Some(value), None) => value.to_str().unwrap_or_default(),
            (Some(_), Some(_)) => {
                return Err(Failure::new(
                    Code::OriginNotAllowed,
                    "The request has more than one Origin header.",
                ));
            }
        };
        if self.allows(origin) {
            return Ok(());
        }
        Err(Failure::new(
            Code::OriginNotAllowed,
            format!("The Origin {origin:?} may not call this gateway."),
        )
        .hint("Add it to `auth.origins` if that page is yours."))
    }

    /// Whether a page of this origin may call. `null` never may.
    pub fn allows(&self, origin: &str) -> bool {
        let Ok(origin) = Origin::parse(origin) else {
            return false;
        };
        origin.is_loopback() || self.origins.iter().any(|allowed| allowed.covers(&origin))
    }
}

/// A Host header (RFC 9110 §7.2): a name or address, and a port. Nothing else gets through, since it is written back into
/// headers and documents.
pub fn host_of(value: &[u8]) -> Option<Authority> {
    let authority = Authority::try_from(value).ok()?;
    let port = &authority.as_str()[authority.host().len()..];
    let plain_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    // With userinfo the host is not at the beginning, so that the rest is no port.
    (plain_port && authority.as_str().starts_with(authority.host())).then_some(authority)
}

impl Origin {
    fn parse(text: &str) -> Result<Self, OriginFault> {
        let fault = || OriginFault::Origin(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(fault)?;
        let scheme_fine =
            !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if !scheme_fine || rest.contains(['/', '@', '?', '#', ' ']) {
            return Err(fault());
        }
        let host = without_port(rest);
        let port = match rest[host.len()..].strip_prefix(':') {
            None => default_port(scheme),
            Some("*") => None,
            Some(digits) => Some(digits.parse().map_err(|_| fault())?),
        };
        // An extension's origin (`vscode-webview://…`) may have any name, a page of the web must have one.
        if host.is_empty() && default_port(scheme).is_some() {
            return Err(fault());
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    fn covers(&self, origin: &Self) -> bool {
        self.scheme == origin.scheme && self.host == origin.host && (self.port.is_none() || self.port == origin.port)
    }

    fn is_loopback(&self) -> bool {
        let ip = self.host.trim_matches(['[', ']']).parse::<IpAddr>();
        let web = self.scheme == "http" || self.scheme == "https";
        web && (self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback()))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// The host of an authority; an IPv6 literal keeps its brackets.
fn without_port(authority: &str) -> &str {
    let after_literal = authority.find(']').map_or(0, |at| at + 1);
    match authority[after_literal..].find(':') {
        Some(colon) => &authority[..after_literal + colon],
        None => authority,
    }
}

fn bare_ip(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn neighbours(listen: &str) -> Neighbours {
        let url = Url::parse("https://gw.example.com/base").unwrap();
        let origins = [
            "https://app.example.com".to_owned(),
            "vscode://ext".to_owned(),
            "http://dev.example:*".to_owned(),
        ];
        Neighbours::new(
            listen.parse().unwrap(),
            Some(&url),
            &["Alias.Example".to_owned()],
            &origins,
        )
        .unwrap()
    }

    fn verdict(neighbours: &Neighbours, headers: &[(&'static str, &str)]) -> Option<Code> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        neighbours.check(None, &map).err().map(|failure| failure.code)
    }

    #[test]
    fn only_known_names_are_hosts() {
        let local = neighbours("127.0.0.1:8080");
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "[::1]:80",
            "gw.example.com",
            "alias.example:9",
        ] {
            assert_eq!(verdict(&local, &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "",
            "127.0.0.1.nip.io:8080",
            "localhost:x",
            "localhost:1@evil.example",
            "user@localhost",
            "localhost:80/path",
            "localhost:80\"",
            "localhost:99999",
        ] {
            assert_eq!(verdict(&local, &[("host", host)]), Some(Code::HostNotAllowed), "{host}");
        }
        assert_eq!(verdict(&local, &[]), Some(Code::HostNotAllowed));
        assert_eq!(
            verdict(&local, &[("host", "localhost"), ("host", "localhost")]),
            Some(Code::HostNotAllowed)
        );
        let open = neighbours("0.0.0.0:8080");
        assert_eq!(verdict(&open, &[("host", "10.0.0.1:8080")]), None);
        assert_eq!(verdict(&open, &[("host", "evil.example")]), Some(Code::HostNotAllowed));
    }

    #[test]
    fn only_known_pages_may_call() {
        let local = neighbours("127.0.0.1:8080");
        let origin = |origin| verdict(&local, &[("host", "localhost"), ("origin", origin)]);
        for fine in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://[::1]:5173",
            "https://app.example.com",
            "https://app.example.com:443",
            "https://gw.example.com",
            "vscode://ext",
            "http://dev.example:8123",
        ] {
            assert_eq!(origin(fine), None, "{fine}");
        }
        for bad in [
            "null",
            "",
            "https://evil.example",
            "http://app.example.com",
            "https://app.example.com:444",
            "https://app.example.com.evil.example",
            "http://localhost.evil.example",
            "https://user@app.example.com",
            "file://localhost",
            "vscode://other",
        ] {
            assert_eq!(origin(bad), Some(Code::OriginNotAllowed), "{bad}");
        }
        let twice = [
            ("host", "localhost"),
            ("origin", "http://localhost"),
            ("origin", "http://localhost"),
        ];
        assert_eq!(verdict(&local, &twice), Some(Code::OriginNotAllowed));
    }

    #[test]
    fn a_bad_origin_in_the_configuration_is_named() {
        let fault =
            Neighbours::new("127.0.0.1:1".parse().unwrap(), None, &[], &["example.com".to_owned()]).unwrap_err();
        assert!(fault.to_string().contains("`example.com`"), "{fault}");
        let mail = Url::parse("mailto:x@example.com").unwrap();
        let fault = Neighbours::new("127.0.0.1:1".parse().unwrap(), Some(&mail), &[], &[]).unwrap_err();
        assert!(fault.to_string().starts_with("`server.public_url`"), "{fault}");
    }
}
