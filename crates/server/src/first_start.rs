//! The first start: a gateway that nobody holds a key to makes one for its administrator.
//!
//! The file comes first, the database second. A crash in between leaves a file whose key the next start registers; the
//! other order would leave a key that nobody ever sees.

use forebay_domain::{
    Action, Code, Failure, Role,
    event::{Intent, Surface},
    id::{SubjectId, TenantId, TraceId},
    key::ApiKey,
};
use forebay_runtime::{Clock, Entropy};
use forebay_store::{Store, keys::NewKey};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The file that holds the administrator's key, alone on one line.
pub const KEY_FILE: &str = "admin.key";
/// Whoever starts a gateway first is this tenant, unless keys say otherwise.
pub const FIRST_TENANT: &str = "default";

/// How the administrator's key stands after the start.
pub enum FirstKey {
    /// An administrator was there before.
    Existing,
    /// This key was made (or found in the file, unregistered) and now opens the door.
    Made { key: ApiKey, file: PathBuf },
}

pub async fn ensure_admin(store: &Store, data: &Path, clock: &Clock, entropy: &Entropy) -> Result<FirstKey, Failure> {
    let keys = store.keys();
    if keys.any_admin().await? {
        return Ok(FirstKey::Existing);
    }
    let file = data.join(KEY_FILE);
    let key = match read(&file)? {
        Some(key) => key,
        None => make(&file, entropy)?,
    };
    let new = NewKey {
        id: key.id().clone(),
        hash: key.hash(),
        tenant: TenantId::try_from(FIRST_TENANT).expect("a plain word is an identifier"),
        project: None,
        subject: SubjectId::try_from("admin").expect("a plain word is an identifier"),
        role: Role::Admin,
        grants: Vec::new(),
        shown: Vec::new(),
        created_at: clock.now(),
        created_by: None,
        expires_at: None,
    };
    let intent = Intent {
        surface: Surface::System,
        trace: TraceId::new(clock.now(), entropy.bytes()),
        actor: None,
        action: Action::KEYS_WRITE.to_string(),
        reason: Some("first start: the administrator's key".to_owned()),
    };
    store.events().audit(intent.at(clock.now())).await?;
    if keys.ensure_first_admin(&new).await? {
        return Ok(FirstKey::Made { key, file });
    }
    // Another process was quicker. On the same data directory its key is the one in the file; elsewhere ours opens
    // nothing, and a file that opens nothing would only mislead.
    if keys.find(key.id()).await?.is_none() {
        fs::remove_file(&file).map_err(|error| unusable(&file, "removed", error))?;
    }
    Ok(FirstKey::Existing)
}

fn read(file: &Path) -> Result<Option<ApiKey>, Failure> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(file, "read", error)),
    };
    let key = ApiKey::parse(text.trim_end()).ok_or_else(|| {
        Failure::new(Code::InvalidConfig, format!("{} holds no API key.", file.display()))
            .hint("Remove the file; the next start makes a new one.")
    })?;
    key.check_strength().map_err(|weakness| {
        Failure::new(
            Code::InvalidConfig,
            format!("The key in {} is refused: {weakness}.", file.display()),
        )
        .hint("Remove the file; the next start draws a strong one.")
    })?;
    Ok(Some(key))
}

/// Makes a key and its file, wholly or not at all. Where another process made one meanwhile, that one counts.
fn make(file: &Path, entropy: &Entropy) -> Result<ApiKey, Failure> {
    let key = ApiKey::from_entropy(entropy.bytes(), entropy.bytes());
    let draft = file.with_extension(format!("key.{}", key.id()));
    let write = || -> io::Result<bool> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = options.open(&draft)?;
        writeln!(out, "{}", key.reveal())?;
        out.sync_all()?;
        // Unlike a rename, a link never replaces what is there.
        let linked = fs::hard_link(&draft, file);
        fs::remove_file(&draft)?;
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    };
    if write().map_err(|error| unusable(file, "written", error))? {
        return Ok(key);
    }
    read(file)?.ok_or_else(|| unusable(file, "read", io::ErrorKind::NotFound.into()))
}

fn unusable(file: &Path, what: &str, error: io::Error) -> Failure {
    Failure::new(
        Code::InvalidConfig,
        format!("{} cannot be {what}: {error}.", file.display()),
    )
    .hint("The data directory must be writable by whoever runs the gateway.")
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_never_replaced_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(KEY_FILE);
        let first = make(&file, &Entropy::system()).unwrap();
        let second = make(&file, &Entropy::system()).unwrap();
        assert_eq!(first.reveal(), second.reveal());
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", first.reveal()));
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft stays");
    }

    #[test]
    fn a_weak_or_foreign_key_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(KEY_FILE);
        for text in ["hello", &ApiKey::from_entropy([1; 8], [0; 32]).reveal()] {
            fs::write(&file, text).unwrap();
            assert_eq!(read(&file).unwrap_err().code, Code::InvalidConfig, "{text}");
        }
    }
}
