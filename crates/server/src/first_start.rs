//! The first start: a gateway that nobody holds a key to makes one for its administrator.
//!
//! The file comes first, the database second. A crash in between leaves a file whose key the next start registers; the
//! other order would leave a key that nobody ever sees.

use forebay_domain::{
    Action, Code, Failure, Role,
    event::{Intent, Surface},
    id::{SubjectId, TenantId},
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
        created_at: clock.now(),
        created_by: None,
        expires_at: None,
    };
    let intent = Intent {
        surface: Surface::System,
        trace: entropy.trace_id(),
        actor: None,
        action: Action::KEYS_WRITE.to_string(),
        reason: Some("first start: the administrator's key".to_owned()),
    };
    store.events().audit(intent.at(clock.now())).await?;
    if keys.ensure_first_admin(&new).await? {
        Ok(FirstKey::Made { key, file })
    } else {
        // Another replica was quicker; its key is the one, and ours opens nothing.
        fs::remove_file(&file).map_err(|error| unusable(&file, "removed", error))?;
        Ok(FirstKey::Existing)
    }
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

/// Writes the key so that it is either wholly there or not at all.
fn make(file: &Path, entropy: &Entropy) -> Result<ApiKey, Failure> {
    let key = ApiKey::from_entropy(entropy.bytes(), entropy.bytes());
    let draft = file.with_extension("key.draft");
    let write = || -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = options.open(&draft)?;
        writeln!(out, "{}", key.reveal())?;
        out.sync_all()?;
        fs::rename(&draft, file)
    };
    write().map_err(|error| unusable(file, "written", error))?;
    Ok(key)
}

fn unusable(file: &Path, what: &str, error: io::Error) -> Failure {
    Failure::new(
        Code::InvalidConfig,
        format!("{} cannot be {what}: {error}.", file.display()),
    )
    .hint("The data directory must be writable by whoever runs the gateway.")
    .caused_by(error)
}
