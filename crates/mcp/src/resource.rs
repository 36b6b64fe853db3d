//! The resources of the gateway itself, and files as resources.

use crate::{
    catalogue::StatusSource,
    files::{Content, Files, Range},
    reading::unknown,
    source,
};
use forebay_domain::{Action, Code, Failure, Principal, port::AskModel};
use serde_json::{Value, json};
use url::Url;

const STATUS_URI: &str = "forebay://status";
const MODELS_URI: &str = "forebay://models";
const FILE_TEMPLATE: &str = "file:///{+path}";

/// A resource of the gateway itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    Status,
    Models,
}

impl Resource {
    pub(crate) const ALL: [Self; 2] = [Self::Models, Self::Status];

    pub(crate) fn uri(self) -> &'static str {
        match self {
            Self::Models => MODELS_URI,
            Self::Status => STATUS_URI,
        }
    }

    /// What its reader has to be allowed, beside reading resources at all.
    pub(crate) fn action(self) -> Action {
        match self {
            Self::Models => Action::MODELS_LIST,
            Self::Status => Action::STATUS_READ,
        }
    }

    fn definition(self) -> Value {
        let (name, title, description) = match self {
            Self::Models => ("models", "Models", "The models that this key may ask, by name."),
            Self::Status => (
                "status",
                "Gateway status",
                "Version, uptime, health of the store, models and sessions.",
            ),
        };
        json!({
            "uri": self.uri(),
            "name": name,
            "title": title,
            "description": description,
            "mimeType": "application/json",
        })
    }

    pub(crate) fn listed(self) -> source::Resource {
        source::Resource {
            uri: self.uri().to_owned(),
            raw: crate::call::raw(&self.definition()),
        }
    }

    pub(crate) fn content(self, principal: &Principal, models: &dyn AskModel, status: &StatusSource) -> Value {
        let body = match self {
            Self::Models => {
                let list: Vec<Value> = models
                    .models(principal)
                    .into_iter()
                    .map(|model| json!({"name": model.name, "engine": model.engine}))
                    .collect();
                json!({"models": list})
            }
            Self::Status => Value::Object(status()),
        };
        json!({"uri": self.uri(), "mimeType": "application/json", "text": body.to_string()})
    }
}

/// The template of files, for whoever may read them.
pub(crate) fn file_template() -> source::Template {
    let definition = json!({
        "uriTemplate": FILE_TEMPLATE,
        "name": "file",
        "title": "Files",
        "description": "A file below the folders that the operator has allowed, by its absolute path.",
    });
    source::Template {
        template: FILE_TEMPLATE.to_owned(),
        raw: crate::call::raw(&definition),
    }
}

/// What a URI means here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Own(Resource),
    /// An absolute path.
    File(String),
}

impl Target {
    pub(crate) fn parse(uri: &str) -> Result<Self, Failure> {
        if let Some(own) = Resource::ALL.into_iter().find(|resource| resource.uri() == uri) {
            return Ok(Self::Own(own));
        }
        Url::parse(uri)
            .ok()
            .filter(|url| url.scheme() == "file")
            .and_then(|url| url.to_file_path().ok())
            .and_then(|path| path.into_os_string().into_string().ok())
            .map(Self::File)
            .ok_or_else(|| unknown(uri))
    }
}

/// The content of a file, as a resource.
pub(crate) async fn file_content(files: &Files, uri: &str, path: String) -> Result<Value, Failure> {
    let slice = files.read(path, Range::default()).await?;
    if slice.length < slice.size {
        let message = format!(
            "The file has {} bytes; a resource has at most {}.",
            slice.size,
            files.bytes_max()
        );
        return Err(Failure::new(Code::ResultTooLarge, message).hint("Read it in parts with the tool `file_reader`."));
    }
    Ok(match slice.content {
        Content::Text(text) => json!({"uri": uri, "mimeType": "text/plain", "text": text}),
        Content::Base64(blob) => json!({"uri": uri, "mimeType": "application/octet-stream", "blob": blob}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_ours_or_a_file_or_unknown() {
        for (uri, expected) in [
            ("forebay://status", Some(Target::Own(Resource::Status))),
            ("forebay://models", Some(Target::Own(Resource::Models))),
            ("file:///srv/a%20b.txt", Some(Target::File("/srv/a b.txt".to_owned()))),
            (
                "file:///srv/../etc/passwd",
                Some(Target::File("/etc/passwd".to_owned())),
            ),
            ("file://elsewhere/srv/a", None),
            ("forebay://nothing", None),
            ("http://example.org/", None),
            ("status", None),
        ] {
            assert_eq!(Target::parse(uri).ok(), expected, "{uri}");
        }
    }
}
