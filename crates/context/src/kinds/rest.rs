//! `rest`: a service that answers JSON over HTTP. It ranks by itself; the order of its answer is the rank.
//!
//! Always behind the outbound guard, whoever configured it: what is asked goes into its address.

use super::{
    Ground,
    http::{Http, host, post},
};
use crate::{
    pick::Picker,
    provider::{Ability, Asking, Finding, Provider},
    settings::Reading,
    template::{Body, Template, Values, address},
};
use forebay_domain::{Code, Failure, context::Strategy, port::BoxFuture};
use http::{HeaderMap, HeaderValue, Method, header::ACCEPT};
use reqwest::Request;
use url::Url;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    base: Url,
    path: Template,
    body: Option<Body>,
    headers: HeaderMap,
    picker: Picker,
}

impl Settings {
    pub(crate) fn parse(read: &Reading<'_>) -> Result<Self, Failure> {
        let config = read.config;
        let base = read.url("base_url", read.text("base_url", config.base_url.as_ref())?)?;
        let usual = "/search?q={query}";
        let body = config.body.as_ref().map(Body::parse).transpose();
        let body = body.map_err(|problem| read.wrong("body", problem))?;
        let path = match (&config.path, &body) {
            (Some(path), _) => path.as_str(),
            (None, Some(_)) => "",
            (None, None) => usual,
        };
        let path = Template::parse(path).map_err(|problem| read.wrong("path", problem))?;
        if !path.has_query() && !body.as_ref().is_some_and(Body::has_query) {
            return Err(read.wrong(
                "path",
                "has no `{query}`, and neither has `body`: every question would be the same",
            ));
        }
        let probe = Values { query: "x", limit: 1 };
        address(&base, &path, probe).map_err(|problem| read.wrong("path", problem))?;
        Ok(Self {
            base,
            path,
            body,
            headers: read.headers()?,
            picker: Picker::parse(config.items.as_ref(), &config.fields)
                .map_err(|problem| read.wrong("items", problem))?,
        })
    }
}

pub(crate) struct Rest {
    settings: Settings,
    http: Http,
}

impl Rest {
    pub(crate) fn new(settings: Settings, ground: &Ground) -> Self {
        Self {
            settings,
            http: Http::Guarded(ground.guarded.clone()),
        }
    }

    async fn ask(&self, asking: Asking<'_>) -> Result<Finding, Failure> {
        let settings = &self.settings;
        let values = Values {
            query: asking.query,
            limit: asking.limit,
        };
        let url = address(&settings.base, &settings.path, values)
            .map_err(|problem| Failure::new(Code::InvalidRequest, format!("The provider's address {problem}.")))?;
        let host = host(&url);
        let mut request = match &settings.body {
            Some(body) => post(url, &body.fill(values)),
            None => Request::new(Method::GET, url),
        };
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in &settings.headers {
            headers.insert(name, value.clone());
        }
        let answer = self.http.json(request).await?;
        let items = settings.picker.pick(&answer, &host, asking.limit);
        let items =
            items.map_err(|problem| Failure::new(Code::UpstreamFailed, format!("The answer of {host} {problem}.")))?;
        Ok(Finding {
            items,
            strategy: Strategy::Keyword,
        })
    }
}

impl Provider for Rest {
    /// How the service looks is its own affair; to the gateway it takes words.
    fn ability(&self) -> Ability {
        Ability::Keyword
    }

    fn find<'a>(&'a self, asking: Asking<'a>) -> BoxFuture<'a, Result<Finding, Failure>> {
        Box::pin(self.ask(asking))
    }
}
