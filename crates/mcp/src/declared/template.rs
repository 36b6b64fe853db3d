//! The request of a declared tool: a template whose arguments have places, and never become more than what stands there.
//!
//! Scheme, host and port are fixed. An argument fills a part of the path or the value of a query parameter, encoded so
//! that it can begin neither another part, nor another parameter, nor another host. Headers take no arguments.

use super::config::Method;
use forebay_domain::{Code, Failure};
use serde_json::{Map, Value};
use std::{borrow::Cow, collections::BTreeSet};
use url::{Url, form_urlencoded};

/// Text with places for arguments in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Text(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Argument(String),
}

/// The longest URL that is sent.
const URL_BYTES_MAX: usize = 8 << 10;

impl Text {
    /// `{name}` is a place, `{{` and `}}` are braces.
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            literal.push_str(before);
            if brace.starts_with("{{") || brace.starts_with("}}") {
                literal.push_str(&brace[..1]);
                rest = &brace[2..];
                continue;
            }
            let name = brace.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let Some((name, behind)) = name.filter(|(name, _)| is_name(name)) else {
                return Err(format!("`{text}` has a brace that belongs to no argument"));
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Argument(name.to_owned()));
            rest = behind;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// The argument that is all of it.
    fn only(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Argument(name)] => Some(name),
            _ => None,
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Argument(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// Filled in; an argument that is not there is nothing.
    fn fill(&self, arguments: &Map<String, Value>) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Literal(text) => Cow::Borrowed(text.as_str()),
            Part::Argument(name) => arguments.get(name).map_or(Cow::Borrowed(""), plain),
        });
        parts.collect()
    }
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// A value as text: a string as it is, anything else as JSON.
fn plain(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Template {
    base: Url,
    /// The parts between the slashes.
    path: Vec<Text>,
    query: Vec<(String, Text)>,
    method: Method,
    body: Option<Body>,
}

#[derive(Debug, Clone)]
enum Body {
    /// All arguments that do not stand in the URL.
    Rest,
    Template(Filled),
}

/// A JSON value with places in its strings.
#[derive(Debug, Clone)]
enum Filled {
    Fixed(Value),
    Text(Text),
    List(Vec<Filled>),
    Object(Vec<(String, Filled)>),
}

/// A request with its arguments in it.
pub(super) struct Filling {
    pub(super) url: Url,
    pub(super) body: Option<Value>,
}

impl Template {
    pub(super) fn parse(url: &str, method: Method, body: Option<&Value>) -> Result<Self, String> {
        let (origin, rest) = split(url)?;
        let base = Url::parse(origin).map_err(|fault| format!("`url` is no URL: {fault}"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err("`url` must begin with http:// or https://".to_owned());
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err("`url` must not hold a password; use `bearer` or `headers`".to_owned());
        }
        if rest.contains('#') {
            return Err("`url` must not have a fragment".to_owned());
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = path.strip_prefix('/').unwrap_or(path).split('/').map(Text::parse);
        let path: Vec<Text> = path.collect::<Result<_, _>>()?;
        let has_dots = |text: &Text| matches!(text.0.as_slice(), [Part::Literal(text)] if is_dots(text));
        if path.iter().any(has_dots) {
            return Err("`url` must not have `.` or `..` as a part of its path".to_owned());
        }
        let query = query.split('&').filter(|pair| !pair.is_empty()).map(pair);
        let has_body = matches!(method, Method::Post | Method::Put | Method::Patch);
        let body = match (has_body, body) {
            (true, Some(body)) => Some(Body::Template(Filled::parse(body)?)),
            (true, None) => Some(Body::Rest),
            (false, None) => None,
            (false, Some(_)) => return Err("`body` is for `POST`, `PUT` and `PATCH`".to_owned()),
        };
        Ok(Self {
            base,
            path,
            query: query.collect::<Result<_, _>>()?,
            method,
            body,
        })
    }

    pub(super) fn host(&self) -> &str {
        self.base.host_str().expect("it was parsed with a host")
    }

    pub(super) fn is_https(&self) -> bool {
        self.base.scheme() == "https"
    }

    pub(super) fn method(&self) -> http::Method {
        match self.method {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
            Method::Patch => http::Method::PATCH,
            Method::Delete => http::Method::DELETE,
        }
    }

    /// The arguments without which there is no path.
    pub(super) fn in_path(&self) -> BTreeSet<&str> {
        self.path.iter().flat_map(Text::names).collect()
    }

    /// All arguments that have a place.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let mut names = self.in_path();
        names.extend(self.query.iter().flat_map(|(_, text)| text.names()));
        if let Some(Body::Template(body)) = &self.body {
            body.names(&mut names);
        }
        names
    }

    pub(super) fn fill(&self, arguments: &Map<String, Value>) -> Result<Filling, Failure> {
        let mut url = self.base.clone();
        let path = self.filled_path(arguments)?;
        url.set_path(&path);
        // What the parser would read otherwise than it was meant goes nowhere.
        if url.path() != path {
            return Err(misplaced("The arguments make no path."));
        }
        let mut placed = self.in_path();
        let mut pairs = Vec::new();
        for (name, text) in &self.query {
            placed.extend(text.names());
            let is_left_out = text.only().is_some_and(|only| !arguments.contains_key(only));
            if !is_left_out {
                pairs.push((name.as_str(), text.fill(arguments)));
            }
        }
        let rest = arguments.iter().filter(|(name, _)| !placed.contains(name.as_str()));
        let body = match &self.body {
            None => {
                // There is no other place for what has none.
                pairs.extend(rest.map(|(name, value)| (name.as_str(), plain(value).into_owned())));
                None
            }
            Some(Body::Rest) => {
                let rest = rest.map(|(name, value)| (name.clone(), value.clone()));
                Some(Value::Object(rest.collect()))
            }
            Some(Body::Template(body)) => Some(body.fill(arguments).unwrap_or(Value::Null)),
        };
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(misplaced("The arguments make a URL that is too long."));
        }
        Ok(Filling { url, body })
    }

    fn filled_path(&self, arguments: &Map<String, Value>) -> Result<String, Failure> {
        let mut path = String::new();
        for text in &self.path {
            path.push('/');
            for part in &text.0 {
                match part {
                    Part::Literal(text) => encode(text, is_literal, &mut path),
                    Part::Argument(name) => {
                        let value = arguments.get(name).map_or(Cow::Borrowed(""), plain);
                        check_part(name, &value)?;
                        encode(&value, is_unreserved, &mut path);
                    }
                }
            }
            // `{a}{b}` of two dots makes what neither of them is.
            if is_dots(path.rsplit('/').next().unwrap_or_default()) {
                return Err(misplaced("The arguments make `.` or `..` of a part of the path."));
            }
        }
        Ok(path)
    }
}

/// An argument that fills a part of a path. Some servers decode what is encoded before they look for dots, so those are
/// refused in any piece of it.
fn check_part(name: &str, value: &str) -> Result<(), Failure> {
    if value.is_empty() {
        return Err(misplaced(format!(
            "`{name}` stands in the path, so it must not be empty."
        )));
    }
    if value.chars().any(char::is_control) || value.split(['/', '\\']).any(is_dots) {
        let message =
            format!("`{name}` stands in the path, so it must not have control characters, `.` or `..` in it.");
        return Err(misplaced(message));
    }
    Ok(())
}

fn misplaced(message: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidArguments, message)
}

fn is_dots(part: &str) -> bool {
    part == "." || part == ".." || {
        let decoded = part.to_ascii_lowercase().replace("%2e", ".");
        decoded == "." || decoded == ".."
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What the operator wrote may have been encoded already.
fn is_literal(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'%' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

fn encode(text: &str, stays: impl Fn(u8) -> bool, to: &mut String) {
    use std::fmt::Write;
    for byte in text.bytes() {
        if stays(byte) {
            to.push(byte.into());
        } else {
            write!(to, "%{byte:02X}").expect("a string takes everything");
        }
    }
}

/// Scheme and authority, and all behind them. Neither may have a place for an argument.
fn split(url: &str) -> Result<(&str, &str), String> {
    let authority = url.find("://").ok_or("`url` must begin with http:// or https://")? + 3;
    let end = url[authority..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| authority + at);
    let (origin, rest) = url.split_at(end);
    if origin.contains(['{', '}', '\\']) {
        return Err("`url` must not have an argument in its host".to_owned());
    }
    Ok((origin, rest))
}

fn pair(text: &str) -> Result<(String, Text), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.contains(['{', '}']) {
        return Err("`url` must not have an argument in the name of a query parameter".to_owned());
    }
    // What is written is encoded for a URL, what is filled in is not: both are encoded once when it is sent.
    let decoded = |text: &str| {
        let pairs = form_urlencoded::parse(text.as_bytes()).next();
        pairs.map(|(name, _)| name.into_owned()).unwrap_or_default()
    };
    let mut value = Text::parse(value)?;
    for part in &mut value.0 {
        if let Part::Literal(text) = part {
            *text = decoded(&text.replace('=', "%3D"));
        }
    }
    Ok((decoded(name), value))
}

impl Filled {
    fn parse(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Self::Text(Text::parse(text)?),
            Value::Array(items) => Self::List(items.iter().map(Self::parse).collect::<Result<_, _>>()?),
            Value::Object(members) => {
                let members = members
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), Self::parse(value)?)));
                Self::Object(members.collect::<Result<_, String>>()?)
            }
            fixed @ (Value::Null | Value::Bool(_) | Value::Number(_)) => Self::Fixed(fixed.clone()),
        })
    }

    fn names<'a>(&'a self, names: &mut BTreeSet<&'a str>) {
        match self {
            Self::Fixed(_) => {}
            Self::Text(text) => names.extend(text.names()),
            Self::List(items) => items.iter().for_each(|item| item.names(names)),
            Self::Object(members) => members.iter().for_each(|(_, member)| member.names(names)),
        }
    }

    /// A string that is one place becomes the argument itself, with its type; nothing, where it is not there.
    fn fill(&self, arguments: &Map<String, Value>) -> Option<Value> {
        Some(match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(text) => match text.only() {
                Some(name) => arguments.get(name)?.clone(),
                None => Value::String(text.fill(arguments)),
            },
            Self::List(items) => items.iter().filter_map(|item| item.fill(arguments)).collect(),
            Self::Object(members) => {
                let members = members.iter();
                Value::Object(
                    members
                        .filter_map(|(key, member)| Some((key.clone(), member.fill(arguments)?)))
                        .collect(),
                )
            }
        })
    }
}

#[cfg(test)]
mod tests;
