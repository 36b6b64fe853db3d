//! Reading files below a few allowed folders, and nothing else.
//!
//! Every open goes through a handle of the folder (`cap-std`), so neither `..` nor a link leads out of it. Pipes,
//! sockets and devices are refused, and are never waited for.

use crate::tools::{FileReaderConfig, READ_BYTES_MAX};
use base64::{Engine, prelude::BASE64_STANDARD};
use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions, OpenOptionsExt},
};
use forebay_domain::{Code, Failure};
use rustix::fs::OFlags;
use std::{
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

/// The allowed folders.
pub(crate) struct Files {
    roots: Arc<Vec<Root>>,
    bytes_max: u32,
}

struct Root {
    /// As configured, and as it really is: a caller may use either spelling.
    spellings: [PathBuf; 2],
    dir: Dir,
}

/// The part of a file that is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    /// As much as is allowed where `None`.
    pub(crate) length: Option<u64>,
}

/// A part of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) size: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) content: Content,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Text(String),
    Base64(String),
}

impl Files {
    /// Opens the allowed folders; `None` where there are none.
    pub(crate) fn open(config: &FileReaderConfig) -> Result<Option<Self>, Failure> {
        if config.max_bytes == 0 || config.max_bytes > READ_BYTES_MAX {
            let message = format!("tools.file_reader.max_bytes must be between 1 and {READ_BYTES_MAX}.");
            return Err(Failure::new(Code::InvalidConfig, message));
        }
        let roots = config
            .allowed_paths
            .iter()
            .map(|path| Root::open(path))
            .collect::<Result<Vec<_>, _>>()?;
        Ok((!roots.is_empty()).then(|| Self {
            roots: Arc::new(roots),
            bytes_max: config.max_bytes,
        }))
    }

    pub(crate) fn bytes_max(&self) -> u32 {
        self.bytes_max
    }

    /// Reads a part of a file, off the event loop.
    pub(crate) async fn read(&self, path: String, range: Range) -> Result<Slice, Failure> {
        let (roots, bytes_max) = (self.roots.clone(), self.bytes_max);
        tokio::task::spawn_blocking(move || read(&roots, Path::new(&path), range, bytes_max))
            .await
            .map_err(|fault| Failure::new(Code::InternalError, "Reading a file broke down.").caused_by(fault))?
    }
}

impl Root {
    fn open(path: &Path) -> Result<Self, Failure> {
        let unusable = |what: &str, fault: std::io::Error| {
            let message = format!("tools.file_reader.allowed_paths: {} {what}.", path.display());
            Failure::new(Code::InvalidConfig, message)
                .hint("Name folders that exist and that the gateway may read.")
                .caused_by(fault)
        };
        let spelled = std::path::absolute(path).map_err(|fault| unusable("is no path", fault))?;
        let real = path
            .canonicalize()
            .map_err(|fault| unusable("cannot be found", fault))?;
        let dir = Dir::open_ambient_dir(&real, ambient_authority())
            .map_err(|fault| unusable("cannot be opened as a folder", fault))?;
        Ok(Self {
            spellings: [spelled, real],
            dir,
        })
    }

    /// The path as seen from this folder, where it can lie below it.
    fn relative<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        if path.is_relative() {
            return Some(path);
        }
        self.spellings.iter().find_map(|root| path.strip_prefix(root).ok())
    }
}

fn read(roots: &[Root], path: &Path, range: Range, bytes_max: u32) -> Result<Slice, Failure> {
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(refused("A path must not hold `..`."));
    }
    let mut below_any = false;
    for root in roots {
        let Some(relative) = root.relative(path) else { continue };
        below_any = true;
        match root.dir.metadata(relative) {
            Ok(found) if found.is_file() => return read_file(&root.dir, relative, range, bytes_max),
            Ok(found) if found.is_dir() => return Err(refused("That is a folder, not a file.")),
            Ok(_) => return Err(refused("That is no regular file.")),
            Err(fault) if fault.kind() == ErrorKind::NotFound => {}
            Err(fault) => return Err(explain(fault)),
        }
    }
    if below_any {
        Err(missing())
    } else {
        Err(refused("That path lies outside the allowed folders."))
    }
}

fn read_file(dir: &Dir, path: &Path, range: Range, bytes_max: u32) -> Result<Slice, Failure> {
    let mut options = OpenOptions::new();
    // Not blocking, because what was a file a moment ago may have become a pipe that nobody writes to.
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let mut file = dir.open_with(path, &options).map_err(explain)?;
    let found = file.metadata().map_err(explain)?;
    if !found.is_file() {
        return Err(refused("That is no regular file."));
    }
    file.seek(SeekFrom::Start(range.offset)).map_err(explain)?;
    let wanted = range.length.unwrap_or(u64::MAX).min(u64::from(bytes_max));
    let mut bytes = Vec::new();
    file.take(wanted).read_to_end(&mut bytes).map_err(explain)?;
    let read = bytes.len() as u64;
    // The file may have grown since its size was asked for; what was read counts.
    let size = if read == 0 {
        found.len()
    } else {
        found.len().max(range.offset + read)
    };
    Ok(slice(bytes, range.offset, size))
}

/// Text where it is text. A character that the end of the part cut in two is left for the next part.
fn slice(bytes: Vec<u8>, offset: u64, size: u64) -> Slice {
    let goes_on = offset + (bytes.len() as u64) < size;
    let (length, content) = match String::from_utf8(bytes) {
        Ok(text) => (text.len(), Content::Text(text)),
        Err(fault) => {
            let cut = fault.utf8_error();
            let only_cut = goes_on && cut.error_len().is_none() && cut.valid_up_to() > 0;
            let mut bytes = fault.into_bytes();
            if only_cut {
                bytes.truncate(cut.valid_up_to());
                let text = String::from_utf8(bytes).expect("cut where the text was valid");
                (text.len(), Content::Text(text))
            } else {
                (bytes.len(), Content::Base64(BASE64_STANDARD.encode(bytes)))
            }
        }
    };
    Slice {
        size,
        offset,
        length: length as u64,
        content,
    }
}

fn explain(fault: std::io::Error) -> Failure {
    match fault.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidInput | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => {
            missing()
        }
        ErrorKind::PermissionDenied => refused("That file leads outside the allowed folders, or may not be read."),
        _ => Failure::new(Code::ToolRefused, "That file cannot be read.").caused_by(fault),
    }
}

fn missing() -> Failure {
    Failure::new(Code::UnknownResource, "There is no such file in the allowed folders.")
        .hint("Give a path relative to an allowed folder, or an absolute one inside it.")
}

fn refused(message: &str) -> Failure {
    Failure::new(Code::ToolRefused, message).hint("Only regular files below the allowed folders can be read.")
}
