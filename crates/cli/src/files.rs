//! Files in the data directory that commands find a running gateway by.

use forebay_domain::{Code, Failure};
use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// Where the gateway of this data directory listens, while it runs.
const URL_FILE: &str = "gateway.url";

/// Makes the data directory, which nobody else may read.
pub(crate) fn make_data_dir(data: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|error| {
            Failure::new(
                Code::InvalidConfig,
                format!("The data directory {} cannot be made: {error}.", data.display()),
            )
            .hint("Choose another one with --data or FOREBAY_DATA.")
        })
}

/// The note that says where a gateway listens. It goes when the gateway does.
pub(crate) struct UrlNote(PathBuf);

impl UrlNote {
    pub(crate) fn leave(data: &Path, url: &str) -> io::Result<Self> {
        let (file, draft) = (data.join(URL_FILE), data.join("gateway.url.draft"));
        fs::write(&draft, format!("{url}\n"))?;
        fs::rename(&draft, &file)?;
        Ok(Self(file))
    }

    pub(crate) fn read(data: &Path) -> Option<String> {
        let text = fs::read_to_string(data.join(URL_FILE)).ok()?;
        Some(text.trim().to_owned()).filter(|url| !url.is_empty())
    }
}

impl Drop for UrlNote {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, "the note of the gateway's address was not removed");
        }
    }
}
