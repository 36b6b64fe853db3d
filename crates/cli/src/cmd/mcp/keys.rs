//! Which key a client gets, and where it stands.
//!
//! A client gets a key of its own unless something else was asked for, so that an administrator's key does not end up
//! in other programs' files. Such a key is recognised by its name, `mcp:<client>`; nothing else is remembered about
//! it, and only keys of that name are ever revoked here. A key is shown to the gateway that it belongs to, and to no
//! other.

use super::{
    client::McpClient,
    entry::{self, KEY_TO_COME},
};
use crate::{
    connect::{Context, Gateway},
    report,
};
use forebay_api::{Client, Explanation, KeyCreate};
use forebay_domain::{Action, ErrorKind, Failure, Role, key::ApiKey};
use forebay_runtime::{Secret, http};
use serde_json::Value as Json;

/// Where the key stands.
#[derive(Debug, Clone)]
pub(super) enum KeyPlace {
    /// In the data directory, where `forebay stdio` finds it.
    DataDir,
    /// In the client's environment, in this variable.
    Variable(String),
    /// With the client, which asks its user.
    Prompt { input: String },
    /// In the file, as it was given.
    Given,
    /// In the file: a key that is made for the client.
    Fresh { role: Role, grants: Vec<String> },
}

impl KeyPlace {
    /// The file itself will hold a secret.
    pub(super) fn is_in_file(&self) -> bool {
        match self {
            Self::Given | Self::Fresh { .. } => true,
            Self::DataDir | Self::Variable(_) | Self::Prompt { .. } => false,
        }
    }
}

/// What an entry carries, as far as it is known before anything is made.
pub(super) enum Credential {
    /// The key is found elsewhere.
    None,
    /// Text to be written: a reference, or a key that exists.
    Text(Secret),
    /// A key has to be made first.
    ToMake(KeyCreate),
}

impl Credential {
    /// For a preview.
    pub(super) fn preview(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Text(text) => Some(text.expose()),
            Self::ToMake(_) => Some(KEY_TO_COME),
        }
    }
}

/// The keys of one client.
pub(super) struct Keys<'a> {
    context: &'a Context,
    gateway: &'a Gateway,
    client: McpClient,
    /// A key that was made and does not stand in a file yet.
    made: Option<(String, Secret)>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(context: &'a Context, gateway: &'a Gateway, client: McpClient) -> Self {
        Self {
            context,
            gateway,
            client,
            made: None,
        }
    }

    /// What the entry is to carry. `standing` is the entry of ours that is there already, if any.
    pub(super) async fn settle(&self, place: &KeyPlace, standing: Option<&Json>) -> Result<Credential, Failure> {
        match place {
            KeyPlace::DataDir => Ok(Credential::None),
            KeyPlace::Variable(name) => Ok(self.reference(name)),
            KeyPlace::Prompt { input } => Ok(text(format!("${{input:{input}}}"))),
            KeyPlace::Given => self.given().map(Credential::Text),
            KeyPlace::Fresh { role, grants } => {
                let wanted = KeyCreate {
                    name: self.name(),
                    role: role.to_string(),
                    tenant: None,
                    project: None,
                    grants: grants.clone(),
                    shown: Vec::new(),
                    expires_in_s: None,
                };
                self.fresh(wanted, standing).await
            }
        }
    }

    fn reference(&self, variable: &str) -> Credential {
        let reference = self.client.reference(variable);
        reference.map_or(Credential::None, text)
    }

    fn given(&self) -> Result<Secret, Failure> {
        // Asking for a client names what to do where there is no key.
        self.gateway.client(&self.context.data)?;
        Ok(self.gateway.key.clone().unwrap_or_else(|| Secret::new(String::new())))
    }

    async fn fresh(&self, wanted: KeyCreate, standing: Option<&Json>) -> Result<Credential, Failure> {
        if let Some((_, key)) = &self.made {
            return Ok(Credential::Text(key.clone()));
        }
        let given = self.given()?;
        let asked = self.gateway.client(&self.context.data)?;
        let may_make = asked
            .explain(Action::KEYS_WRITE.as_str(), None)
            .await
            .map_err(|error| {
                let failure = Failure::from(error);
                let hint = failure.hint.clone().unwrap_or_default();
                failure.hint(format!(
                    "{hint} With --embed-key your own key is written, and nobody is asked."
                ))
            })?;
        if !may_make.allowed {
            report::say("Your key may not make keys, so the client gets your own.");
            return Ok(Credential::Text(given));
        }
        let reusable = self.standing_key(standing);
        if let Some(key) = reusable
            && self.known_by(&key).await?.is_some_and(|told| fits(&told, &wanted))
        {
            return Ok(text(key.reveal()));
        }
        Ok(Credential::ToMake(wanted))
    }

    /// The key that stands in the file, where it belongs to the gateway at hand.
    fn standing_key(&self, standing: Option<&Json>) -> Option<ApiKey> {
        let standing = standing?;
        let leads_here = entry::leads_to(standing).is_some_and(|url| entry::same_origin(&url, &self.gateway.url));
        entry::key(standing).filter(|_| leads_here)
    }

    /// Whom the gateway takes the holder of a key for; nobody, where it does not take the key.
    async fn known_by(&self, key: &ApiKey) -> Result<Option<Explanation>, Failure> {
        let holder = Client::new(&self.gateway.url, Some(&key.reveal()), http::trusted())?;
        match holder.explain(Action::MCP_CONNECT.as_str(), None).await {
            Ok(told) => Ok(Some(told)),
            Err(error) if matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Forbidden) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the key where one has to be made, once.
    pub(super) async fn make(&mut self, credential: Credential) -> Result<Option<Secret>, Failure> {
        match credential {
            Credential::None => Ok(None),
            Credential::Text(text) => Ok(Some(text)),
            Credential::ToMake(wanted) => {
                let made = self.gateway.client(&self.context.data)?.create_key(&wanted).await?;
                let key = Secret::new(made.key);
                self.made = Some((made.id, key.clone()));
                Ok(Some(key))
            }
        }
    }

    /// The key that was made stands in the file now.
    pub(super) fn keep(&mut self) {
        self.made = None;
    }

    /// Ends a key that was made and did not get into the file.
    pub(super) async fn give_back(&mut self) {
        if let Some((id, _)) = self.made.take() {
            self.revoke(&id).await;
        }
    }

    /// Ends the key of an entry that is gone, if it was made for this client. Gives its id.
    pub(super) async fn retire(&self, gone: &Json) -> Option<String> {
        let key = entry::key(gone)?;
        let id = key.id().to_string();
        if self.standing_key(Some(gone)).is_none() {
            report::say(&format!("Key {id} belongs to another gateway, and stays in force."));
            return None;
        }
        match self.known_by(&key).await {
            Ok(Some(told)) if told.subject == self.name() => self.revoke(&id).await,
            Ok(Some(_)) => {
                report::say(&format!("Key {id} was not made for this client, and stays in force."));
                None
            }
            // It has ended already.
            Ok(None) => None,
            Err(failure) => {
                report::say(&format!(
                    "Nobody could say whether key {id} was made for this client: {} If it was, end it with \
                     `forebay key revoke {id}`.",
                    failure.message
                ));
                None
            }
        }
    }

    async fn revoke(&self, id: &str) -> Option<String> {
        let revoked = match self.gateway.client(&self.context.data) {
            Ok(client) => client.revoke_key(id).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match revoked {
            Ok(_) => Some(id.to_owned()),
            Err(failure) => {
                say_not_revoked(id, &failure);
                None
            }
        }
    }

    fn name(&self) -> String {
        format!("mcp:{}", self.client.id())
    }
}

fn text(text: String) -> Credential {
    Credential::Text(Secret::new(text))
}

fn fits(told: &Explanation, wanted: &KeyCreate) -> bool {
    let sorted = |grants: &[String]| {
        let mut grants = grants.to_vec();
        grants.sort_unstable();
        grants
    };
    told.subject == wanted.name && told.role == wanted.role && sorted(&told.grants) == sorted(&wanted.grants)
}

fn say_not_revoked(id: &str, failure: &Failure) {
    report::say(&format!(
        "Key {id} was not revoked: {} Do it with `forebay key revoke {id}`.",
        failure.message
    ));
}
