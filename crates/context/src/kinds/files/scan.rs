//! One look at a folder: which files there are, and what stands in one of them. Blocking; called off the runtime.
//!
//! Everything goes through a handle of the folder, so no link leads out of it. Hidden files, links to folders, and what
//! is no file are passed over.

use cap_std::{ambient_authority, fs::Dir};
use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Files of a folder at most; the rest is left out.
pub(super) const FILES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 32;
const PATH_BYTES_MAX: usize = 1024;

/// How a file looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) bytes: u64,
    pub(super) changed: Option<SystemTime>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By path, with `/` between folders.
    pub(super) files: Vec<(String, Stamp)>,
    /// Files that were passed over: too many, too deep, or with names that are no text.
    pub(super) passed_over: usize,
}

/// What stands in a file.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    Text(String),
    TooLarge,
    Binary,
}

pub(super) fn open(folder: &Path) -> io::Result<Dir> {
    Dir::open_ambient_dir(folder, ambient_authority())
}

/// All files with one of the endings, in no order.
pub(super) fn look(dir: &Dir, extensions: &[String]) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let mut folders = vec![(PathBuf::from("."), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match dir.read_dir(&folder) {
            Ok(entries) => entries,
            // A folder below that is gone meanwhile, or that nobody may read, is not the end of all others.
            Err(_) if depth > 0 => {
                seen.passed_over += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(ToOwned::to_owned) else {
                seen.passed_over += 1;
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let path = if depth == 0 {
                PathBuf::from(&name)
            } else {
                folder.join(&name)
            };
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                if depth < DEPTH_MAX {
                    folders.push((path, depth + 1));
                } else {
                    seen.passed_over += 1;
                }
                continue;
            }
            if has_ending(&path, extensions) {
                add(&mut seen, dir, &path);
            }
        }
    }
    Ok(seen)
}

fn add(seen: &mut Seen, dir: &Dir, path: &Path) {
    // This follows links, as long as they stay inside.
    let Ok(about) = dir.metadata(path) else { return };
    if !about.is_file() {
        return;
    }
    let Some(path) = path
        .to_str()
        .filter(|path| path.len() <= PATH_BYTES_MAX && seen.files.len() < FILES_MAX)
    else {
        seen.passed_over += 1;
        return;
    };
    let stamp = Stamp {
        bytes: about.len(),
        changed: about.modified().ok().map(cap_std::time::SystemTime::into_std),
    };
    seen.files.push((path.to_owned(), stamp));
}

fn has_ending(path: &Path, extensions: &[String]) -> bool {
    extensions.is_empty()
        || path
            .extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|ending| extensions.contains(&ending.to_lowercase()))
}

/// Reads a file, as long as it is text and not too large. What its size was when it was looked at counts for nothing.
pub(super) fn read(dir: &Dir, path: &str, bytes_max: u64) -> io::Result<Content> {
    let file = dir.open(path)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Ok(Content::TooLarge);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(bytes);
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(Content::Text(text)),
        Ok(_) | Err(_) => Ok(Content::Binary),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn paths(dir: &Dir, extensions: &[&str]) -> Vec<String> {
        let extensions: Vec<String> = extensions.iter().map(ToString::to_string).collect();
        let mut paths: Vec<String> = look(dir, &extensions)
            .unwrap()
            .files
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        paths.sort();
        paths
    }

    #[test]
    fn what_is_in_the_folder_is_seen_and_nothing_else() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.md"), "secret").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        fs::write(root.join("one.md"), "1").unwrap();
        fs::write(root.join("a/b/two.TXT"), "2").unwrap();
        fs::write(root.join(".git/config"), "x").unwrap();
        fs::write(root.join(".env"), "x").unwrap();
        symlink(outside.path().join("secret.md"), root.join("out.md")).unwrap();
        symlink(outside.path(), root.join("away")).unwrap();
        symlink("../one.md", root.join("a/in.md")).unwrap();
        symlink("..", root.join("a/up")).unwrap();
        let dir = open(root).unwrap();
        assert_eq!(paths(&dir, &[]), ["a/b/two.TXT", "a/in.md", "one.md"]);
        assert_eq!(paths(&dir, &["txt"]), ["a/b/two.TXT"]);
        assert!(read(&dir, "out.md", 100).is_err());
        assert!(read(&dir, "../../etc/passwd", 100).is_err());
        assert_eq!(read(&dir, "a/in.md", 100).unwrap(), Content::Text("1".to_owned()));
    }

    #[test]
    fn only_text_is_read_and_only_so_much() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("bom", b"\xef\xbb\xbfhello");
        write("nul", b"a\0b");
        write("latin", b"na\xefve");
        write("large", &[b'x'; 11]);
        let dir = open(folder.path()).unwrap();
        assert_eq!(read(&dir, "bom", 10).unwrap(), Content::Text("hello".to_owned()));
        assert_eq!(read(&dir, "nul", 10).unwrap(), Content::Binary);
        assert_eq!(read(&dir, "latin", 10).unwrap(), Content::Binary);
        assert_eq!(read(&dir, "large", 10).unwrap(), Content::TooLarge);
        assert_eq!(read(&dir, "large", 11).unwrap(), Content::Text("x".repeat(11)));
    }
}
