//! Which hosts are meant: exact names, and all names below one.

use forebay_domain::{Code, Failure};
use url::Host;

/// `api.example.com`, or `*.example.com` for every name below `example.com` but not that one itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Domains(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    /// With the dot before it.
    Below(String),
}

/// Patterns of one list at most.
const PATTERNS_MAX: usize = 100;

impl Domains {
    pub(crate) fn parse(written: &[String]) -> Result<Self, Failure> {
        if written.len() > PATTERNS_MAX {
            let message = format!(
                "`allowed_domains` has {} entries; {PATTERNS_MAX} are the most.",
                written.len()
            );
            return Err(Failure::new(Code::InvalidConfig, message));
        }
        written
            .iter()
            .map(|text| pattern(text))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the patterns means this host. `host` is as a parsed URL writes it: lower case, in ASCII.
    pub(crate) fn has(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(name) => name == host,
            Pattern::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        })
    }
}

fn pattern(text: &str) -> Result<Pattern, Failure> {
    let wrong = || {
        let message = format!("`{text}` in `allowed_domains` is neither a host nor `*.` before one.");
        Failure::new(Code::InvalidConfig, message).hint("Write `api.example.com` or `*.example.com`.")
    };
    let (name, is_below) = text.strip_prefix("*.").map_or((text, false), |rest| (rest, true));
    match Host::parse(name) {
        Ok(Host::Domain(name)) if !name.is_empty() && !name.contains('*') => {
            let name = name.strip_suffix('.').unwrap_or(&name);
            Ok(if is_below {
                Pattern::Below(format!(".{name}"))
            } else {
                Pattern::Exact(name.to_owned())
            })
        }
        Ok(address @ (Host::Ipv4(_) | Host::Ipv6(_))) if !is_below => Ok(Pattern::Exact(address.to_string())),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_what_it_says_and_nothing_beside_it() {
        let written = ["*.google.com", "Example.ORG.", "bücher.example", "10.0.0.1"].map(str::to_owned);
        let domains = Domains::parse(&written).unwrap();
        for host in [
            "www.google.com",
            "a.b.google.com",
            "example.org",
            "example.org.",
            "xn--bcher-kva.example",
            "10.0.0.1",
        ] {
            assert!(domains.has(host), "{host}");
        }
        for host in [
            "google.com",
            ".google.com",
            "evilgoogle.com",
            "google.com.evil.example",
            "www.example.org",
            "10.0.0.10",
        ] {
            assert!(!domains.has(host), "{host}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for wrong in [
            "",
            "*",
            "*.",
            "*.*.com",
            "a.*.com",
            "http://a",
            "a/b",
            "*.10.0.0.1",
            "a b",
        ] {
            assert!(Domains::parse(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
