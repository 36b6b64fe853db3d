//! Which gateway a command asks, and with which key.
//!
//! What is said on the command line counts first, then the environment, then the data directory. The administrator's
//! key of the data directory goes only to its own gateway, or to this machine: never to an address from elsewhere.

use crate::{
    cmd::Global,
    config::{Sources, data_dir},
    env::Env,
    files::UrlNote,
};
use forebay_api::Client;
use forebay_domain::{Code, Failure};
use forebay_runtime::{Secret, http};
use forebay_server::first_start::KEY_FILE;
use std::{fs, path::PathBuf};
use url::{Host, Url};

/// What every command starts from.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) env: Env,
    pub(crate) data: PathBuf,
}

impl Context {
    pub(crate) fn new(global: Global, env: Env) -> Self {
        let data = data_dir(global.data.as_deref(), &env);
        Self { global, env, data }
    }

    pub(crate) fn sources(&self) -> Sources {
        Sources {
            named: self.global.config.clone().or_else(|| self.env.path("FOREBAY_CONFIG")),
            data: self.data.clone(),
            env: self.env.clone(),
            flags: Vec::new(),
        }
    }

    /// The gateway to ask.
    pub(crate) fn gateway(&self) -> Result<Gateway, Failure> {
        let (url, is_own) = match self.global.url.as_deref().or_else(|| self.env.get("FOREBAY_URL")) {
            Some(named) => (parse(named)?, false),
            None => (self.own_url()?, true),
        };
        let named = self.global.key.as_deref().or_else(|| self.env.get("FOREBAY_KEY"));
        let key = match named {
            Some(key) => Some(Secret::new(key.trim().to_owned())),
            None if is_own || is_loopback(&url) => self.own_key(),
            None => None,
        };
        Ok(Gateway { url, key })
    }

    /// The key for a gateway of this data directory: the one that was given, else the administrator's.
    pub(crate) fn local_key(&self) -> Result<Secret, Failure> {
        let named = self.global.key.as_deref().or_else(|| self.env.get("FOREBAY_KEY"));
        let key = named.map(|key| Secret::new(key.trim().to_owned()));
        key.or_else(|| self.own_key()).ok_or_else(|| {
            let file = self.data.join(KEY_FILE);
            let message = format!("There is no key to serve as: {} cannot be read.", file.display());
            Failure::new(Code::MissingCredentials, message)
                .hint("Give one with --key or FOREBAY_KEY, or name the data directory that has one with --data or FOREBAY_DATA.")
        })
    }

    /// Where the gateway of the data directory listens, or would.
    fn own_url(&self) -> Result<Url, Failure> {
        if let Some(noted) = UrlNote::read(&self.data) {
            return parse(&noted);
        }
        // A configuration with mistakes is the business of whoever starts the gateway.
        let server = self
            .sources()
            .load_without_secrets()
            .map(|loaded| loaded.config.server)
            .unwrap_or_default();
        parse(&format!("http://{}", server.listen))
    }

    fn own_key(&self) -> Option<Secret> {
        let text = fs::read_to_string(self.data.join(KEY_FILE)).ok()?;
        Some(Secret::new(text.trim().to_owned()))
    }

    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.gateway()?.client(&self.data)
    }
}

/// A gateway and the key for it.
pub(crate) struct Gateway {
    pub(crate) url: Url,
    pub(crate) key: Option<Secret>,
}

impl Gateway {
    /// A client with a key.
    pub(crate) fn client(&self, data: &std::path::Path) -> Result<Client, Failure> {
        let key = self.key.as_ref().ok_or_else(|| {
            let message = format!("There is no key for the gateway at {}.", self.url);
            Failure::new(Code::MissingCredentials, message).hint(format!(
                "Give one with --key or FOREBAY_KEY. On the gateway's own machine its data directory has one: name it with \
                 --data or FOREBAY_DATA (now {}).",
                data.display()
            ))
        })?;
        Ok(Client::new(&self.url, Some(key.expose()), http::trusted())?)
    }

    /// A client for the routes that ask nobody who they are.
    pub(crate) fn anonymous(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.url, None, http::trusted())?)
    }
}

fn parse(text: &str) -> Result<Url, Failure> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| {
        Failure::new(Code::InvalidConfig, "The gateway's address is no http or https URL.")
            .hint("It looks like http://127.0.0.1:8080; see --url and FOREBAY_URL.")
    })
}

/// The address is this machine's own.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
