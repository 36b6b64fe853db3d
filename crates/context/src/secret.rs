//! Secrets as the section `mcp:` names them, and what is read out of them.

use crate::config::NamedSecret;
use forebay_domain::{Code, Failure};
use forebay_runtime::{
    Secret, SecretRef,
    secret::{SecretFault, SecretReader},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{cell::RefCell, path::PathBuf};

/// Who wrote a configuration. Only the operator's own file may name any file, any variable and any address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    File,
    Api,
}

/// The only variables that a configuration from the API may refer to.
const API_SECRET_PREFIX: &str = "FOREBAY_PROVIDER_";
const NAME_BYTES_MAX: usize = 128;

/// Reads the secrets of one configuration, and remembers a digest of them, so that a new one is noticed.
pub(crate) struct Secrets<'a> {
    pub(crate) reader: &'a SecretReader,
    pub(crate) folder: Option<&'a PathBuf>,
    pub(crate) origin: Origin,
    pub(crate) seen: RefCell<Sha256>,
}

/// A user and a password.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
}

impl Secrets<'_> {
    pub(crate) fn read(&self, reference: &SecretRef) -> Result<Secret, Failure> {
        let allowed = match (self.origin, reference) {
            (Origin::File, _) => true,
            (Origin::Api, SecretRef::Env(name)) => name.starts_with(API_SECRET_PREFIX),
            (Origin::Api, SecretRef::File(_)) => false,
        };
        if !allowed {
            let message = format!("{reference} may not be read for a provider that is registered over the API.");
            let hint = format!("Use a `secret_name`, or a variable whose name begins with {API_SECRET_PREFIX}.");
            return Err(Failure::new(Code::InvalidConfig, message).hint(hint));
        }
        self.take(reference).map_err(|fault| missing(&fault.to_string()))
    }

    pub(crate) fn named(&self, named: &NamedSecret) -> Result<Secret, Failure> {
        self.part(&named.secret_name, &["token", "api_key", "password", "value"])
    }

    /// A login out of one secret: a folder with `username` and `password` as Kubernetes mounts it, a JSON object with
    /// these two, `user:password` where the configuration names no user, or else a password.
    pub(crate) fn login(&self, named: &NamedSecret, user: Option<&str>) -> Result<Login, Failure> {
        let folder = self.folder_of(&named.secret_name)?;
        if let Some(folder) = folder.filter(|folder| folder.is_dir()) {
            let read = |name: &str| self.take(&SecretRef::File(folder.join(name))).ok();
            let found = read("username").or_else(|| read("user"));
            return Ok(Login {
                user: user
                    .map(ToOwned::to_owned)
                    .or(found.map(|user| user.expose().to_owned())),
                password: read("password"),
            });
        }
        let secret = self.named(named)?;
        Ok(login(&secret, user))
    }

    fn part(&self, name: &str, parts: &[&str]) -> Result<Secret, Failure> {
        let path = self.folder_of(name)?;
        if let Some(path) = &path {
            let file = |path: PathBuf| Some(SecretRef::File(path.clone())).filter(|_| path.is_file());
            let found = file(path.clone()).or_else(|| parts.iter().find_map(|part| file(path.join(part))));
            if let Some(reference) = found {
                return self.take(&reference).map_err(|fault| missing(&fault.to_string()));
            }
        }
        let variable = variable(name);
        let may_look = self.origin == Origin::File || variable.starts_with(API_SECRET_PREFIX);
        let found = may_look
            .then(|| self.take(&SecretRef::Env(variable.clone())).ok())
            .flatten();
        found.ok_or_else(|| {
            let place = path.map_or("there is no `secrets_dir`".to_owned(), |path| {
                format!("there is no file {}", path.display())
            });
            missing(&format!(
                "the secret `{name}` is nowhere: {place}, and no variable {variable}"
            ))
        })
    }

    /// Where a secret of this name would stand. A name is no path.
    fn folder_of(&self, name: &str) -> Result<Option<PathBuf>, Failure> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with('.') || !name.bytes().all(fine) {
            let message = format!("`{}` is no name of a secret.", name.escape_debug());
            return Err(Failure::new(Code::InvalidConfig, message).hint("Use letters, digits, `-`, `_` and `.`."));
        }
        Ok(self.folder.map(|folder| folder.join(name)))
    }

    fn take(&self, reference: &SecretRef) -> Result<Secret, SecretFault> {
        let secret = self.reader.read(reference)?;
        let mut seen = self.seen.borrow_mut();
        seen.update(secret.expose().len().to_le_bytes());
        seen.update(secret.expose());
        Ok(secret)
    }
}

fn missing(what: &str) -> Failure {
    Failure::new(Code::InvalidConfig, format!("{what}."))
}

/// `db-credentials` is `DB_CREDENTIALS`.
fn variable(name: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    name.chars().map(letter).collect()
}

fn login(secret: &Secret, user: Option<&str>) -> Login {
    #[derive(Deserialize)]
    struct Both {
        #[serde(alias = "user")]
        username: Option<String>,
        password: Option<String>,
    }
    let text = secret.expose();
    if text.trim_start().starts_with('{')
        && let Ok(both) = serde_json::from_str::<Both>(text)
    {
        return Login {
            user: user.map(ToOwned::to_owned).or(both.username),
            password: both.password.map(Secret::new),
        };
    }
    match (user, text.split_once(':')) {
        (None, Some((user, password))) => Login {
            user: Some(user.to_owned()),
            password: Some(Secret::new(password.to_owned())),
        },
        (user, _) => Login {
            user: user.map(ToOwned::to_owned),
            password: Some(secret.clone()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(origin: Origin, folder: Option<&PathBuf>, name: &str, user: Option<&str>) -> Result<String, String> {
        let reader = SecretReader::new(|name| match name {
            "DB_CREDENTIALS" => Some("from:variable".to_owned()),
            "FOREBAY_PROVIDER_X" => Some("open".to_owned()),
            _ => None,
        });
        let secrets = Secrets {
            reader: &reader,
            folder,
            origin,
            seen: RefCell::default(),
        };
        let named = NamedSecret {
            secret_name: name.to_owned(),
        };
        let login = secrets.login(&named, user).map_err(|failure| failure.message)?;
        let password = login.password.as_ref().map_or("-", Secret::expose);
        Ok(format!("{} {password}", login.user.as_deref().unwrap_or("-")))
    }

    #[test]
    fn a_login_is_read_from_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_owned();
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("plain", "s3cret:x\n");
        write("json", r#"{"username":"u","password":"p"}"#);
        std::fs::create_dir(dir.join("mounted")).unwrap();
        write("mounted/username", "k8s\n");
        write("mounted/password", "mp\n");
        let check = |name: &str, user: Option<&str>, expected: &str| {
            assert_eq!(
                read(Origin::File, Some(&dir), name, user),
                Ok(expected.to_owned()),
                "{name}"
            );
        };
        check("plain", Some("me"), "me s3cret:x");
        check("plain", None, "s3cret x");
        check("json", None, "u p");
        check("json", Some("me"), "me p");
        check("mounted", None, "k8s mp");
        check("db-credentials", None, "from variable");
    }

    #[test]
    fn a_name_is_no_path_and_the_api_reads_no_variable_but_its_own() {
        for bad in ["../etc/passwd", "/etc/passwd", "", ".hidden", "a b", "a\0"] {
            let fault = read(Origin::File, Some(&PathBuf::from("/tmp")), bad, None).unwrap_err();
            assert!(fault.contains("is no name of a secret"), "{fault}");
        }
        let fault = read(Origin::Api, None, "db-credentials", None).unwrap_err();
        assert!(
            fault.contains("is nowhere") && !fault.contains("from:variable"),
            "{fault}"
        );
        assert_eq!(
            read(Origin::Api, None, "forebay-provider-x", Some("u")),
            Ok("u open".to_owned())
        );
    }
}
