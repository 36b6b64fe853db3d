//! `chroma`: a collection of a Chroma server, over its API v2.
//!
//! By meaning: the gateway embeds the question, Chroma compares. By words: Chroma finds the documents that contain one,
//! and the gateway ranks them.

use super::{
    Ground,
    http::{Http, post, refused},
};
use crate::{
    config::TlsConfig,
    embed::Embedder,
    item::{ITEMS_MAX, Item},
    provider::{Ability, Asking, Finding, Provider, look},
    secret::Origin,
    settings::Reading,
    words::{rank, words},
};
use forebay_domain::{Code, Failure, port::BoxFuture};
use http::{HeaderMap, Method, StatusCode};
use reqwest::Request;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Mutex;
use url::Url;

/// Words that are looked for at most: Chroma takes each in its usual spellings as a condition of its own.
const WORDS_MAX: usize = 8;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `…/api/v2/tenants/T/databases/D/collections`.
    collections: Url,
    collection: String,
    model: Option<String>,
    headers: HeaderMap,
    origin: Origin,
}

impl Settings {
    pub(crate) fn parse(read: &Reading<'_>) -> Result<Self, Failure> {
        let config = read.config;
        let scheme = match config.tls {
            None | Some(TlsConfig::Disable) => "http",
            Some(TlsConfig::Require) => "https",
            Some(TlsConfig::Prefer) => return Err(read.wrong("tls", "is `disable` or `require` for chroma")),
        };
        let host = read.text("host", config.host.as_ref())?;
        let port = config.port.map_or(8000, std::num::NonZero::get);
        // An IPv6 address stands in brackets in an address.
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let mut collections = Url::parse(&format!("{scheme}://{shown}:{port}/"))
            .ok()
            .filter(|url| url.path() == "/" && url.username().is_empty() && url.password().is_none())
            .ok_or_else(|| read.wrong("host", "is no host name and no address"))?;
        let or = |value: &Option<String>, usual: &str| value.clone().unwrap_or_else(|| usual.to_owned());
        let tenant = or(&config.tenant, "default_tenant");
        let database = or(&config.database, "default_database");
        for (key, value) in [("tenant", &tenant), ("database", &database)] {
            if matches!(value.as_str(), "." | ".." | "") {
                return Err(read.wrong(key, "is no name"));
            }
        }
        let path = ["api", "v2", "tenants", &tenant, "databases", &database, "collections"];
        collections
            .path_segments_mut()
            .expect("an http address has a path")
            .clear()
            .extend(path);
        let collection = read.text("collection", config.collection.as_ref())?;
        if matches!(collection, "." | "..") {
            return Err(read.wrong("collection", "is no name"));
        }
        Ok(Self {
            collections,
            collection: collection.to_owned(),
            model: read.model()?,
            headers: read.headers()?,
            origin: read.origin,
        })
    }
}

pub(crate) struct Chroma {
    settings: Settings,
    http: Http,
    embedder: Option<Embedder>,
    /// The collection's id, once it is known. A collection that is made anew has another one.
    id: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct Collection {
    id: String,
}

/// What is said of a document.
type About = Map<String, Value>;

/// The answer to `query`: a list for each vector that was asked for.
#[derive(Deserialize)]
struct Nearest {
    ids: Vec<Vec<String>>,
    documents: Option<Vec<Vec<Option<String>>>>,
    metadatas: Option<Vec<Vec<Option<About>>>>,
}

/// The answer to `get`.
#[derive(Deserialize)]
struct Got {
    ids: Vec<String>,
    documents: Option<Vec<Option<String>>>,
    metadatas: Option<Vec<Option<About>>>,
}

impl Chroma {
    pub(crate) fn new(settings: Settings, ground: &Ground) -> Self {
        Self {
            http: Http::of(settings.origin, ground),
            embedder: ground.embedder(settings.model.as_ref()),
            settings,
            id: Mutex::default(),
        }
    }

    async fn semantic(&self, asking: Asking<'_>) -> Result<Vec<Item>, Failure> {
        let embedder = self.embedder.as_ref().ok_or_else(no_model)?;
        let vector = embedder.one(asking.principal, asking.via, asking.query).await?;
        let body = json!({
            "query_embeddings": [vector],
            "n_results": asking.limit,
            "include": ["documents", "metadatas", "distances"],
        });
        let nearest: Nearest = self.ask("query", &body).await?;
        let first = |lists: Option<Vec<Vec<_>>>| lists.and_then(|lists| lists.into_iter().next());
        Ok(self.items(Got {
            ids: nearest.ids.into_iter().next().unwrap_or_default(),
            documents: nearest.documents.and_then(|lists| lists.into_iter().next()),
            metadatas: first(nearest.metadatas),
        }))
    }

    async fn keyword(&self, asking: Asking<'_>) -> Result<Vec<Item>, Failure> {
        let mut words = words(asking.query);
        words.truncate(WORDS_MAX);
        let mut conditions = words.iter().flat_map(|word| spellings(word));
        let contains = |word: String| json!({ "$contains": word });
        let where_document = match (conditions.next(), conditions.next()) {
            (None, _) => return Ok(Vec::new()),
            (Some(one), None) => contains(one),
            (Some(one), Some(two)) => {
                let any: Value = [one, two].into_iter().chain(conditions).map(contains).collect();
                json!({ "$or": any })
            }
        };
        let body = json!({
            "where_document": where_document,
            "limit": ITEMS_MAX,
            "include": ["documents", "metadatas"],
        });
        let items = self.items(self.ask("get", &body).await?);
        let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
        let places = rank(&texts, &words);
        Ok(places
            .into_iter()
            .take(asking.limit)
            .map(|place| items[place].clone())
            .collect())
    }

    /// Asks the collection. Where its id is not known any more, it is looked up once again.
    async fn ask<T: for<'de> Deserialize<'de>>(&self, verb: &str, body: &Value) -> Result<T, Failure> {
        let known = self.id.lock().expect("nobody panics while holding the id").clone();
        if let Some(id) = known {
            match self.post(&id, verb, body).await? {
                Ok(answer) => return parsed(answer),
                Err(StatusCode::NOT_FOUND) => {}
                Err(status) => return Err(self.refused(status)),
            }
        }
        let id = self.look_up().await?;
        *self.id.lock().expect("nobody panics while holding the id") = Some(id.clone());
        let answer = self.post(&id, verb, body).await?;
        parsed(answer.map_err(|status| self.refused(status))?)
    }

    async fn look_up(&self) -> Result<String, Failure> {
        let url = self.below(&[&self.settings.collection]);
        let answer = self.send(Request::new(Method::GET, url)).await?;
        let answer = answer.map_err(|status| match status {
            StatusCode::NOT_FOUND => {
                let message = format!("The Chroma server has no collection `{}`.", self.settings.collection);
                Failure::new(Code::UpstreamFailed, message)
            }
            status => self.refused(status),
        })?;
        Ok(parsed::<Collection>(answer)?.id)
    }

    async fn post(&self, id: &str, verb: &str, body: &Value) -> Result<Result<Value, StatusCode>, Failure> {
        self.send(post(self.below(&[id, verb]), body)).await
    }

    async fn send(&self, mut request: Request) -> Result<Result<Value, StatusCode>, Failure> {
        for (name, value) in &self.settings.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let (status, body) = self.http.send(request).await?;
        if !status.is_success() {
            return Ok(Err(status));
        }
        let answer = serde_json::from_slice(&body).map_err(|fault| nonsense().caused_by(fault))?;
        Ok(Ok(answer))
    }

    fn below(&self, path: &[&str]) -> Url {
        let mut url = self.settings.collections.clone();
        url.path_segments_mut()
            .expect("an http address has a path")
            .extend(path);
        url
    }

    /// A vector of another length is what a 400 is about, as a rule.
    fn refused(&self, status: StatusCode) -> Failure {
        let failure = refused("The Chroma server", status);
        if status == StatusCode::BAD_REQUEST && self.embedder.is_some() {
            return failure.hint("Is `embedding_model` the model with which the documents were embedded?");
        }
        failure
    }

    fn items(&self, got: Got) -> Vec<Item> {
        let mut documents = got.documents.unwrap_or_default().into_iter();
        let mut metadatas = got.metadatas.unwrap_or_default().into_iter();
        let mut items = Vec::new();
        for id in got.ids.into_iter().take(ITEMS_MAX) {
            let document = documents.next().flatten();
            let about = metadatas.next().flatten().unwrap_or_default();
            let named = |names: &[&str]| names.iter().find_map(|name| about.get(*name)?.as_str());
            let place = format!("{}#{id}", self.settings.collection);
            let source = named(&["source", "url", "uri", "path", "file", "filename"]).unwrap_or(&place);
            let title = named(&["title", "name", "heading"]);
            items.extend(document.and_then(|text| Item::new(&id, &text, source, title)));
        }
        items
    }
}

impl Provider for Chroma {
    fn ability(&self) -> Ability {
        if self.embedder.is_some() {
            Ability::Both
        } else {
            Ability::Keyword
        }
    }

    fn find<'a>(&'a self, asking: Asking<'a>) -> BoxFuture<'a, Result<Finding, Failure>> {
        Box::pin(look(asking.strategy, self.keyword(asking), self.semantic(asking)))
    }
}

/// Chroma compares letter by letter, so a word is looked for as it may stand in a text.
fn spellings(word: &str) -> Vec<String> {
    let mut letters = word.chars();
    let capital = letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect::<String>());
    let mut all = vec![word.to_owned()];
    for other in capital.into_iter().chain([word.to_uppercase()]) {
        if !all.contains(&other) {
            all.push(other);
        }
    }
    all
}

fn parsed<T: for<'de> Deserialize<'de>>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|fault| nonsense().caused_by(fault))
}

fn nonsense() -> Failure {
    Failure::new(
        Code::UpstreamFailed,
        "The Chroma server answered something that is no answer of Chroma's.",
    )
}

fn no_model() -> Failure {
    Failure::new(Code::InvalidConfig, "The provider has no `embedding_model`.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_looked_for_as_it_may_stand() {
        assert_eq!(spellings("zubrowka"), ["zubrowka", "Zubrowka", "ZUBROWKA"]);
        assert_eq!(spellings("4711"), ["4711"]);
        assert_eq!(spellings("ä"), ["ä", "Ä"]);
    }
}
