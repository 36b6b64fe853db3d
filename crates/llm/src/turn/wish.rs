//! What a request wants of the gateway beyond a model's answer: the fields that no engine is to see.

use crate::dialect::Map;
use forebay_domain::{
    Code, Failure,
    context::{ContextQuery, OnFailure, Strategy},
};
use serde_json::{Value, json};

const CONTEXT: &str = "mcp_context";
const EXECUTION: &str = "tool_execution";
const PROVIDERS_MAX: usize = 16;
const QUERY_BYTES_MAX: usize = 16 << 10;
const ITEMS_MAX: u64 = 100;
const TOKENS_MAX: u64 = 131_072;

/// The gateway's own fields of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) context: Option<Wanted>,
    pub(crate) execution: Execution,
}

/// Context as the request asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) providers: Vec<String>,
    /// What the user said last, where the request names no query.
    pub(crate) query: Option<String>,
    pub(crate) strategy: Option<Strategy>,
    pub(crate) items_max: Option<usize>,
    pub(crate) tokens_max: Option<usize>,
    pub(crate) on_failure: Option<OnFailure>,
}

/// Who runs the gateway's tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Execution {
    #[default]
    Server,
    /// All calls go back to the client.
    Client,
}

impl Wish {
    /// Takes the gateway's own fields out of a request. The header's context counts where the body names none.
    pub(crate) fn take(request: &mut Map, header: Option<&[u8]>) -> Result<Self, Failure> {
        let context = match request.remove(CONTEXT) {
            Some(Value::Null) | None => header.map(of_header).transpose()?,
            Some(Value::Object(fields)) => Some(Wanted::read(fields)?),
            Some(_) => return Err(invalid(CONTEXT, "must be an object like {\"providers\": [\"docs\"]}")),
        };
        let execution = match request.remove(EXECUTION) {
            None | Some(Value::Null) => Execution::Server,
            Some(Value::String(word)) if word == "server" => Execution::Server,
            Some(Value::String(word)) if word == "client" => Execution::Client,
            Some(_) => return Err(invalid(EXECUTION, "must be \"server\" or \"client\"")),
        };
        Ok(Self { context, execution })
    }
}

fn of_header(bytes: &[u8]) -> Result<Wanted, Failure> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Wanted::read(fields),
        _ => Err(invalid(
            CONTEXT,
            "in the header `x-forebay-mcp-context` must be a JSON object",
        )),
    }
}

impl Wanted {
    fn read(mut fields: Map) -> Result<Self, Failure> {
        let wanted = Self {
            providers: providers(take(&mut fields, &["providers"]))?,
            query: text(take(&mut fields, &["query"]), "query")?,
            strategy: word(
                &take(&mut fields, &["strategy", "retrieval_strategy", "retrievalStrategy"]),
                "strategy",
                "must be \"keyword\", \"semantic_search\" or \"hybrid\"",
                Strategy::parse,
            )?,
            items_max: count(&take(&mut fields, &["max_items", "maxItems"]), "max_items", ITEMS_MAX)?,
            tokens_max: count(
                &take(&mut fields, &["max_length", "maxLength"]),
                "max_length",
                TOKENS_MAX,
            )?,
            on_failure: word(
                &take(&mut fields, &["on_failure", "onFailure"]),
                "on_failure",
                "must be \"continue\" or \"fail\"",
                |word| match word {
                    "continue" => Some(OnFailure::Continue),
                    "fail" => Some(OnFailure::Fail),
                    _ => None,
                },
            )?,
        };
        match fields.keys().next() {
            None => Ok(wanted),
            Some(unknown) => Err(invalid(
                &format!("{CONTEXT}.{}", unknown.escape_debug()),
                "is no field of it; there are providers, query, strategy, max_items, max_length and on_failure",
            )),
        }
    }

    /// The query to the providers. `said` is what the user said last.
    pub(crate) fn query(self, said: Option<String>) -> Result<ContextQuery, Failure> {
        let query = self.query.or(said).filter(|query| !query.trim().is_empty());
        let mut query = query.ok_or_else(|| {
            invalid(
                "mcp_context.query",
                "is needed where no message of the user says what to look for",
            )
        })?;
        query.truncate(query.floor_char_boundary(QUERY_BYTES_MAX));
        Ok(ContextQuery {
            providers: self.providers,
            query,
            strategy: self.strategy,
            items_max: self.items_max,
            tokens_max: self.tokens_max,
            on_failure: self.on_failure,
        })
    }
}

/// The first of a field's spellings that is there. The others stay, and are then unknown.
fn take(fields: &mut Map, spellings: &[&str]) -> Value {
    let value = spellings.iter().find_map(|name| fields.remove(*name));
    value.unwrap_or_default()
}

fn providers(value: Value) -> Result<Vec<String>, Failure> {
    let expected = || invalid("mcp_context.providers", "must name one provider of context or more");
    let mut names = match value {
        Value::String(name) => vec![name],
        Value::Array(names) => names
            .into_iter()
            .map(|name| name.as_str().map(str::to_owned).ok_or_else(expected))
            .collect::<Result<_, _>>()?,
        _ => return Err(expected()),
    };
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    if names.is_empty() {
        return Err(expected());
    }
    if names.len() > PROVIDERS_MAX {
        return Err(invalid(
            "mcp_context.providers",
            &format!("must not name more than {PROVIDERS_MAX}"),
        ));
    }
    Ok(names)
}

fn text(value: Value, field: &str) -> Result<Option<String>, Failure> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.len() <= QUERY_BYTES_MAX => Ok(Some(text)),
        _ => Err(invalid(
            &format!("{CONTEXT}.{field}"),
            &format!("must be text of at most {QUERY_BYTES_MAX} bytes"),
        )),
    }
}

fn word<T>(
    value: &Value,
    field: &str,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Failure> {
    if value.is_null() {
        return Ok(None);
    }
    match value.as_str().and_then(parse) {
        Some(parsed) => Ok(Some(parsed)),
        None => Err(invalid(&format!("{CONTEXT}.{field}"), expected)),
    }
}

fn count(value: &Value, field: &str, most: u64) -> Result<Option<usize>, Failure> {
    if value.is_null() {
        return Ok(None);
    }
    match value.as_u64().filter(|count| (1..=most).contains(count)) {
        Some(count) => Ok(usize::try_from(count).ok()),
        None => Err(invalid(
            &format!("{CONTEXT}.{field}"),
            &format!("must be a whole number from 1 to {most}"),
        )),
    }
}

fn invalid(field: &str, expected: &str) -> Failure {
    Failure::new(Code::InvalidRequest, format!("`{field}` {expected}."))
        .hint("docs/openai.md describes the fields that the gateway adds to OpenAI's API.")
        .details(json!({ "param": field }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: Value, header: Option<&str>) -> Result<(Wish, Value), String> {
        let Value::Object(mut request) = body else { panic!() };
        let wish = Wish::take(&mut request, header.map(str::as_bytes)).map_err(|failure| failure.message)?;
        Ok((wish, request.into()))
    }

    #[test]
    fn the_seeds_own_request_is_read_and_its_fields_are_gone() {
        let body = json!({"model": "m", "mcp_context": {"providers": ["postgres-db"], "query": "database content"}});
        let (wish, rest) = take(body, Some("{")).unwrap();
        let wanted = wish.context.unwrap();
        assert_eq!(wanted.providers, ["postgres-db"]);
        assert_eq!(wish.execution, Execution::Server);
        assert_eq!(rest, json!({"model": "m"}));
        let query = wanted.query(Some("what the user said".to_owned())).unwrap();
        assert_eq!(query.query, "database content");
    }

    #[test]
    fn both_spellings_count_and_each_provider_once() {
        let context = json!({"providers": ["a", "b", "a"], "maxLength": 9, "max_items": 3, "retrievalStrategy": "hybrid",
            "on_failure": "fail"});
        let (wish, _) = take(json!({"mcp_context": context, "tool_execution": "client"}), None).unwrap();
        assert_eq!(wish.execution, Execution::Client);
        let query = wish.context.unwrap().query(Some("said".to_owned())).unwrap();
        let expected = ContextQuery {
            providers: vec!["a".to_owned(), "b".to_owned()],
            query: "said".to_owned(),
            strategy: Some(Strategy::Hybrid),
            items_max: Some(3),
            tokens_max: Some(9),
            on_failure: Some(OnFailure::Fail),
        };
        assert_eq!(query, expected);
    }

    #[test]
    fn a_header_speaks_for_clients_that_cannot_add_fields() {
        let (wish, _) = take(json!({}), Some(r#"{"providers":"docs"}"#)).unwrap();
        assert_eq!(wish.context.unwrap().providers, ["docs"]);
        let (wish, _) = take(
            json!({"mcp_context": {"providers": ["body"]}}),
            Some(r#"{"providers":"docs"}"#),
        )
        .unwrap();
        assert_eq!(wish.context.unwrap().providers, ["body"]);
        assert!(
            take(json!({}), Some("[]"))
                .unwrap_err()
                .contains("x-forebay-mcp-context")
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (body, expected) in [
            (json!({"mcp_context": 7}), "`mcp_context` must be an object"),
            (json!({"mcp_context": {}}), "`mcp_context.providers` must name one"),
            (
                json!({"mcp_context": {"providers": []}}),
                "`mcp_context.providers` must name one",
            ),
            (
                json!({"mcp_context": {"providers": [1]}}),
                "`mcp_context.providers` must name one",
            ),
            (
                json!({"mcp_context": {"providers": "a", "max_items": 0}}),
                "`mcp_context.max_items` must be a whole",
            ),
            (
                json!({"mcp_context": {"providers": "a", "max_length": "9"}}),
                "`mcp_context.max_length` must be a whole",
            ),
            (
                json!({"mcp_context": {"providers": "a", "strategy": "magic"}}),
                "`mcp_context.strategy` must be",
            ),
            (
                json!({"mcp_context": {"providers": "a", "on_failure": 1}}),
                "`mcp_context.on_failure` must be",
            ),
            (
                json!({"mcp_context": {"providers": "a", "quest": ""}}),
                "`mcp_context.quest` is no field",
            ),
            (
                json!({"mcp_context": {"providers": "a", "query": 1}}),
                "`mcp_context.query` must be text",
            ),
            (json!({"tool_execution": "both"}), "`tool_execution` must be"),
        ] {
            let problem = take(body.clone(), None).unwrap_err();
            assert!(problem.starts_with(expected), "{body}: {problem}");
        }
        let (wish, _) = take(json!({"mcp_context": {"providers": "a", "query": " "}}), None).unwrap();
        assert!(wish.context.unwrap().query(None).is_err());
    }
}
