//! Names of fields, as engines may read them. Pure.
//!
//! Some engines read names without regard to case, and the last one wins (Go's JSON does): `MAX_TOKENS` behind the
//! `max_tokens` that the gateway wrote or counted would be the one that is heeded. Where a budget counts there is one way to
//! write each field that it depends on.

use crate::dialect::Map;
use forebay_domain::{Code, Failure};
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, json};
use std::{borrow::Cow, fmt};

/// What a bound is read from beside the limits and counts: how much is asked of which model, and whether it tells.
const OTHERS: [&str; 11] = [
    "anthropic",
    "functions",
    "input",
    "messages",
    "model",
    "prediction",
    "prompt",
    "stream",
    "stream_options",
    "suffix",
    "tools",
];

/// Fields with which an engine that tells each word at once still does. Others may hide what it thinks, hold words back
/// (`stop`), or let it write what is no text (`ignore_eos`).
const PLAIN: [&str; 14] = [
    "frequency_penalty",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "min_p",
    "model",
    "presence_penalty",
    "prompt",
    "seed",
    "stream",
    "temperature",
    "top_k",
    "top_p",
    "user",
];

/// Fields by which a gateway or vendor behind this one may ask another model than the one that was priced.
const OTHER_MODELS: [&str; 3] = ["fallbacks", "models", "preset"];

/// An object in which no key stands twice: some engines would take the first one, and others the last.
struct Once(Map);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Once;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Once, A::Error> {
                let mut map = Map::new();
                while let Some((key, value)) = members.next_entry::<String, Value>()? {
                    if map.insert(key, value).is_some() {
                        return Err(A::Error::custom("a key stands twice"));
                    }
                }
                Ok(Once(map))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// The fields of a request, each once.
pub(crate) fn once(body: &[u8]) -> Result<Map, Failure> {
    let read = serde_json::from_slice::<Once>(body).map_err(|error| {
        let message = "The body must be a JSON object with each key once.";
        Failure::new(Code::InvalidRequest, message).caused_by(error)
    });
    read.map(|once| once.0)
}

/// The names of the fields of an object.
struct Names<'a>(Vec<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Names<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Names<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Names<'de>, A::Error> {
                let mut names = Vec::new();
                while let Some((Name(name), IgnoredAny)) = members.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Refuses a request that an engine may read as one to another model than the one that was decided on, whatever either
/// costs. What is no object is for others to refuse.
pub(crate) fn check_model(body: &[u8], has_budget: bool) -> Result<(), Failure> {
    let Ok(Names(names)) = serde_json::from_slice::<Names<'_>>(body) else {
        return Ok(());
    };
    if let Some(key) = names.iter().find(|key| alike(key, ["model"]).is_some()) {
        let message = format!("`{}` may be read as `model`.", key.escape_debug());
        return Err(Failure::new(Code::InvalidRequest, message)
            .hint("Write `model`, or leave it out.")
            .details(json!({ "param": key })));
    }
    let others = || names.iter().find(|key| OTHER_MODELS.contains(&&***key));
    match has_budget.then(others).flatten() {
        Some(field) => says_others(body, field),
        None => Ok(()),
    }
}

/// A field for other models that says nothing does no harm.
fn says_others(body: &[u8], field: &str) -> Result<(), Failure> {
    match once(body)?.get(field) {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(other_models(field)),
    }
}

fn other_models(field: &str) -> Failure {
    let message = format!("`{field}` may have another model answer, and a budget counts for this request.");
    Failure::new(Code::InvalidRequest, message)
        .hint("Leave it out; an administrator can set `models.*.fallbacks`, which have prices of their own.")
        .details(json!({ "param": field }))
}

/// Refuses fields that equal a known one only where case is ignored.
pub(super) fn check(request: &Map, known: &[&[&str]]) -> Result<(), Failure> {
    let names = || {
        known
            .iter()
            .copied()
            .chain([&OTHERS[..], &OTHER_MODELS[..]])
            .flatten()
            .copied()
    };
    if let Some((key, name)) = request.keys().find_map(|key| Some((key, alike(key, names())?))) {
        return Err(refused(key, key, name));
    }
    let is_said = |field: &&str| request.get(*field).is_some_and(|value| !value.is_null());
    if let Some(field) = OTHER_MODELS.into_iter().find(|field| is_said(field)) {
        return Err(other_models(field));
    }
    if let Some(Value::Object(options)) = request.get("stream_options") {
        let found = options
            .keys()
            .find_map(|key| Some((key, alike(key, ["include_usage"])?)));
        if let Some((key, name)) = found {
            return Err(refused(&format!("stream_options.{key}"), key, name));
        }
    }
    Ok(())
}

fn refused(param: &str, key: &str, name: &str) -> Failure {
    let message = format!(
        "`{}` may be read as `{name}`, and a budget counts for this request.",
        key.escape_debug()
    );
    Failure::new(Code::InvalidRequest, message)
        .hint(format!("Write `{name}`, or leave it out."))
        .details(json!({ "param": param }))
}

/// The name that a key is like, and is not.
pub(super) fn alike<'a>(key: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = folded(key);
    names.into_iter().find(|name| *name != key && *name == folded)
}

/// Without regard to case, as Unicode has it: the long s is an s, and the sign for kelvins a k.
fn folded(key: &str) -> String {
    let upper = key.chars().flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).collect()
}

/// Whether nothing in the request makes an engine work without a word.
pub(super) fn is_plain(request: &Map) -> bool {
    request
        .iter()
        .all(|(key, value)| value.is_null() || PLAIN.contains(&key.as_str()) || is_plain_option(key, value))
}

fn is_plain_option(key: &str, value: &Value) -> bool {
    let options = value.as_object().filter(|_| key == "stream_options");
    options.is_some_and(|options| options.keys().all(|key| key == "include_usage"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map {
        let Value::Object(map) = value else { panic!() };
        map
    }

    #[test]
    fn a_field_in_another_case_is_refused_by_name() {
        let refusal = |request: Value| check(&map(request), &[&["max_tokens", "n"]]).err();
        for (request, param) in [
            (json!({ "max_tokens": 9, "MAX_TOKENS": 100_000 }), "MAX_TOKENS"),
            (json!({ "Max_Tokens": null }), "Max_Tokens"),
            (json!({ "N": 9 }), "N"),
            (json!({ "max_to\u{212a}ens": 9 }), "max_to\u{212a}ens"),
            (json!({ "meſſages": [] }), "meſſages"),
            (json!({ "Stream": true }), "Stream"),
            (json!({ "MODEL": "dear" }), "MODEL"),
            (
                json!({ "stream_options": { "Include_usage": false } }),
                "stream_options.Include_usage",
            ),
        ] {
            let refused = refusal(request).expect(param);
            assert_eq!(refused.code, Code::InvalidRequest);
            assert_eq!(refused.details.unwrap()["param"], param);
        }
        let fine = json!({ "max_tokens": 9, "n": 1, "Metadata": {}, "messages": [{ "N": 1 }], "stream_options": null });
        assert!(refusal(fine).is_none());
    }

    #[test]
    fn a_field_for_other_models_is_refused() {
        for field in ["models", "fallbacks", "preset", "Models"] {
            let refused = check(&map(json!({ (field): ["dear"] })), &[]).unwrap_err();
            assert_eq!(refused.details.unwrap()["param"], field);
        }
        assert!(check(&map(json!({ "models": null })), &[]).is_ok());
    }

    #[test]
    fn a_request_names_one_model() {
        let refused = |body: &str, has_budget| check_model(body.as_bytes(), has_budget).err();
        for body in [
            r#"{"model":"free","MODEL":"dear"}"#,
            r#"{"Model":"dear","messages":[]}"#,
            r#"{"model":"free","\u004dodel":"dear"}"#,
        ] {
            assert_eq!(refused(body, false).expect(body).code, Code::InvalidRequest, "{body}");
        }
        assert!(refused(r#"{"model":"free","models":["dear"]}"#, false).is_none());
        let others = refused(r#"{"model":"free","models":["dear"]}"#, true).unwrap();
        assert_eq!(others.details.unwrap()["param"], "models");
        for fine in [r#"{"model":"m","models":null,"x":{"MODEL":1}}"#, "[]", "{", "7"] {
            assert!(refused(fine, true).is_none(), "{fine}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        assert!(once(br#"{"n":1,"m":[{"a":1},{"a":1}]}"#).is_ok());
        for body in [r#"{"n":99,"n":1}"#, r#"{"n":1,"\u006e":1}"#, "[]", "{"] {
            assert_eq!(once(body.as_bytes()).unwrap_err().code, Code::InvalidRequest, "{body}");
        }
    }

    #[test]
    fn what_may_hide_words_is_not_plain() {
        assert!(is_plain(&map(
            json!({ "model": "m", "messages": [], "max_tokens": 9, "tools": null,
            "stream": true, "stream_options": { "include_usage": true } })
        )));
        for field in [
            "tools",
            "stop",
            "include_reasoning",
            "reasoning_effort",
            "ignore_eos",
            "n",
        ] {
            assert!(!is_plain(&map(json!({ "messages": [], (field): 1 }))), "{field}");
        }
        assert!(!is_plain(&map(json!({ "stream_options": { "more": 1 } }))));
    }
}
