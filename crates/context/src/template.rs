//! Templates of requests: where `{query}` and `{limit}` stand, each value goes in as its place wants it.
//!
//! A value never becomes part of the structure: in an address it is percent-encoded, so that it ends no segment and
//! begins no parameter; in a JSON body it stays inside its string.

use serde_json::Value;
use std::fmt::Write;
use url::Url;

/// What goes into a template.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) query: &'a str,
    pub(crate) limit: usize,
}

/// A text with places for values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Query,
    Limit,
}

impl Template {
    /// Refuses a `{name}` that it does not know. Braces around anything but a name are text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            plain.push_str(&rest[..start]);
            rest = &rest[start..];
            let name = rest[1..]
                .split_once('}')
                .map(|(name, _)| name)
                .filter(|name| is_name(name));
            let Some(name) = name else {
                plain.push('{');
                rest = &rest[1..];
                continue;
            };
            let part = match name {
                "query" => Part::Query,
                "limit" => Part::Limit,
                other => return Err(format!("knows no `{{{other}}}`; there are `{{query}}` and `{{limit}}`")),
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
            rest = &rest[name.len() + 2..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    pub(crate) fn has_query(&self) -> bool {
        self.0.contains(&Part::Query)
    }

    /// For a text in which nothing needs escaping.
    pub(crate) fn plain(&self, values: Values<'_>) -> String {
        self.filled(values, |query, out| out.push_str(query))
    }

    /// For a part of an address: a path with a query.
    pub(crate) fn encoded(&self, values: Values<'_>) -> String {
        self.filled(values, percent_encode)
    }

    fn filled(&self, values: Values<'_>, mut put: impl FnMut(&str, &mut String)) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Query => put(values.query, &mut out),
                Part::Limit => write!(out, "{}", values.limit).expect("a string takes whatever is written"),
            }
        }
        out
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Everything but the unreserved characters of RFC 3986. A value of dots alone would still be a way up in a path, so
/// those are encoded with it; `url` decodes `%2e` for that purpose, so whoever fills a path checks the result too.
fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes whatever is written");
        }
    }
}

/// The address of a request: the base with a filled path behind it. The path never leads above the base, to another host
/// or to another number of segments than the template has.
pub(crate) fn address(base: &Url, path: &Template, values: Values<'_>) -> Result<Url, String> {
    let filled = path.encoded(values);
    let expected = path.encoded(Values { query: "x", ..values });
    let build = |path: &str| {
        let joined = format!(
            "{}/{}",
            base.as_str().trim_end_matches('/'),
            path.trim_start_matches('/')
        );
        Url::parse(&joined).map_err(|fault| format!("makes no address: {fault}"))
    };
    let (url, plain) = (build(&filled)?, build(&expected)?);
    let segments = |url: &Url| url.path_segments().map_or(0, Iterator::count);
    if url.origin() != base.origin() || segments(&url) != segments(&plain) {
        return Err("would lead elsewhere with this value".to_owned());
    }
    Ok(url)
}

/// A JSON document with templates in its strings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Body(Shape);

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Plain(Value),
    Text(Template),
    /// `"{limit}"` alone is a number.
    Limit,
    List(Vec<Shape>),
    Object(Vec<(String, Shape)>),
}

impl Body {
    pub(crate) fn parse(value: &Value) -> Result<Self, String> {
        shape(value).map(Self)
    }

    pub(crate) fn has_query(&self) -> bool {
        has_query(&self.0)
    }

    pub(crate) fn fill(&self, values: Values<'_>) -> Value {
        fill(&self.0, values)
    }
}

fn shape(value: &Value) -> Result<Shape, String> {
    Ok(match value {
        Value::String(text) if text == "{limit}" => Shape::Limit,
        Value::String(text) => Shape::Text(Template::parse(text)?),
        Value::Array(list) => Shape::List(list.iter().map(shape).collect::<Result<_, _>>()?),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| Ok((name.clone(), shape(value)?)));
            Shape::Object(members.collect::<Result<_, String>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Shape::Plain(value.clone()),
    })
}

fn has_query(shape: &Shape) -> bool {
    match shape {
        Shape::Plain(_) | Shape::Limit => false,
        Shape::Text(template) => template.has_query(),
        Shape::List(list) => list.iter().any(has_query),
        Shape::Object(members) => members.iter().any(|(_, shape)| has_query(shape)),
    }
}

fn fill(shape: &Shape, values: Values<'_>) -> Value {
    match shape {
        Shape::Plain(value) => value.clone(),
        Shape::Limit => values.limit.into(),
        Shape::Text(template) => template.plain(values).into(),
        Shape::List(list) => list.iter().map(|shape| fill(shape, values)).collect(),
        Shape::Object(members) => {
            let members = members.iter().map(|(name, shape)| (name.clone(), fill(shape, values)));
            Value::Object(members.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(path: &str, query: &str, expected: Result<&str, &str>) {
        let base = Url::parse("https://api.example.com/v2/").unwrap();
        let values = Values { query, limit: 5 };
        let found = Template::parse(path).and_then(|path| address(&base, &path, values));
        match (found, expected) {
            (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected, "{path} {query}"),
            (Err(fault), Err(expected)) => assert!(fault.contains(expected), "{path} {query}: {fault}"),
            (found, _) => panic!("{path} {query}: {found:?}"),
        }
    }

    #[test]
    fn a_value_stays_in_its_place() {
        let at = |rest: &str| format!("https://api.example.com/v2/{rest}");
        check(
            "/search?q={query}&n={limit}",
            "a b&c=d#e",
            Ok(&at("search?q=a%20b%26c%3Dd%23e&n=5")),
        );
        check("docs/{query}/text", "a/b?c", Ok(&at("docs/a%2Fb%3Fc/text")));
        check("docs/{query}/text", "..", Err("elsewhere"));
        check("docs/{query}", "%2e%2e", Ok(&at("docs/%252e%252e")));
        check("{query}", "//evil.example/", Ok(&at("%2F%2Fevil.example%2F")));
        check("{query}", "@evil.example", Ok(&at("%40evil.example")));
        check("/search?q={query}", "a\r\nX: y", Ok(&at("search?q=a%0D%0AX%3A%20y")));
        check("/search?q={words}", "x", Err("knows no `{words}`"));
        check("/search?q={ {query}", "ü", Ok(&at("search?q={%20%C3%BC")));
    }

    #[test]
    fn a_body_keeps_its_structure() {
        let body = json!({ "q": "say {query}!", "n": "{limit}", "deep": [{ "{query}": ["{query}", 1, null] }] });
        let body = Body::parse(&body).unwrap();
        assert!(body.has_query());
        let values = Values {
            query: "\"}], {limit}",
            limit: 3,
        };
        let expected = json!({
            "q": "say \"}], {limit}!", "n": 3, "deep": [{ "{query}": ["\"}], {limit}", 1, null] }],
        });
        assert_eq!(body.fill(values), expected);
        assert!(!Body::parse(&json!({ "q": "fixed" })).unwrap().has_query());
    }

    proptest! {
        #[test]
        fn no_value_changes_host_path_or_parameters(query in "\\PC{0,40}|[./%@:#?&\\\\]{0,12}") {
            let base = Url::parse("https://api.example.com/v2").unwrap();
            let path = Template::parse("/a/{query}/b?q={query}&k=v").unwrap();
            if let Ok(url) = address(&base, &path, Values { query: &query, limit: 1 }) {
                prop_assert_eq!(url.host_str(), Some("api.example.com"));
                prop_assert!(url.path().starts_with("/v2/a/") && url.path().ends_with("/b"), "{}", url);
                let pairs: Vec<_> = url.query_pairs().into_owned().collect();
                prop_assert_eq!(pairs, vec![("q".to_owned(), query), ("k".to_owned(), "v".to_owned())]);
            }
        }
    }
}
