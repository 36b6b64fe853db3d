//! A client's file on the disk: read whole, replaced whole or not at all.
//!
//! A new version is written beside the old one, brought to the disk, and moved over it; links are followed, so that
//! the file itself changes and not what points at it. What somebody else has written since it was read is never
//! overwritten: [`Written::Changed`] says so, and whoever asked begins anew.

use super::document::Fault;
use forebay_domain::{Code, Failure};
use forebay_runtime::{Clock, Entropy};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    time::Duration,
};

/// The largest file that is edited. Claude Code keeps a history in its own, so that there are large ones.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// How many backups of one file are kept.
const BACKUPS_MAX: usize = 5;
const BACKUP_MARK: &str = ".bak-";
/// What the time in a backup's name looks like, `20261121T113100.123Z`: a name of any other form is not ours.
const BACKUP_TIME: &str = "%Y%m%dT%H%M%S.%3fZ";
const BACKUP_TIME_BYTES: usize = 20;
/// A file that holds a secret is its owner's alone.
const MODE_SECRET: u32 = 0o600;
const MODE_PLAIN: u32 = 0o644;

/// Where a file is.
pub(super) struct Target {
    /// As people know it.
    pub(super) path: PathBuf,
    /// With all links followed.
    real: PathBuf,
}

/// A file as it was read.
pub(super) struct Snapshot {
    text: Option<String>,
    status: Option<Status>,
}

#[derive(Debug, Clone, Copy)]
struct Status {
    mode: u32,
    owner: u32,
    group: u32,
}

impl Snapshot {
    /// What stands in it; nothing, where there is no file.
    pub(super) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    pub(super) fn existing(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The permissions of a file that others than its owner may read.
    pub(super) fn mode_open_to_others(&self) -> Option<u32> {
        let mode = self.status?.mode & 0o777;
        (mode & 0o044 != 0).then_some(mode)
    }
}

/// What is to stand there.
#[derive(Clone, Copy)]
pub(super) enum Next<'a> {
    /// This text; a new file is readable by its owner only where it holds a secret.
    Text { text: &'a str, secret: bool },
    /// No file.
    Nothing,
}

/// Whether the old version is kept beside the new one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Backup,
    /// The old version is known to hold nothing that is not elsewhere.
    Nothing,
}

/// How a write ended.
pub(super) enum Written {
    Done {
        backup: Option<PathBuf>,
    },
    /// Somebody else wrote to the file since it was read; nothing was done.
    Changed,
}

impl Target {
    /// Finds the file itself. A link that leads nowhere is refused, since nobody knows what it was to lead to.
    pub(super) fn locate(path: PathBuf) -> Result<Self, Failure> {
        let is_link = fs::symlink_metadata(&path).is_ok_and(|status| status.file_type().is_symlink());
        let real = match fs::canonicalize(&path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link => path.clone(),
            Err(error) => return Err(unusable(&path, "cannot be found", error)),
        };
        Ok(Self { path, real })
    }

    pub(super) fn read(&self) -> Result<Snapshot, Failure> {
        let unreadable = |error| unusable(&self.path, "cannot be read", error);
        let status = match fs::metadata(&self.real) {
            Ok(status) => status,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Snapshot {
                    text: None,
                    status: None,
                });
            }
            Err(error) => return Err(unreadable(error)),
        };
        // Opening a pipe would wait for whoever writes to it.
        if !status.is_file() {
            return Err(refused(&self.path, "is no regular file"));
        }
        let mut bytes = Vec::new();
        let file = File::open(&self.real).map_err(unreadable)?;
        let mut bounded = file.take(FILE_BYTES_MAX + 1);
        bounded.read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(refused(
                &self.path,
                &format!("has more than {FILE_BYTES_MAX} bytes, which no such file has"),
            ));
        }
        let text = String::from_utf8(bytes).map_err(|error| unusable(&self.path, "is no text in UTF-8", error))?;
        Ok(Snapshot {
            text: Some(text),
            status: Some(Status {
                mode: status.mode() & 0o7777,
                owner: status.uid(),
                group: status.gid(),
            }),
        })
    }

    /// Brings what is to stand there to the disk, unless the file is not what `seen` says any more.
    pub(super) fn write(&self, seen: &Snapshot, next: Next, keep: Keep, clock: &Clock) -> Result<Written, Failure> {
        let unwritable = |error| unusable(&self.path, "cannot be written", error);
        let folder = self.folder();
        fs::create_dir_all(folder).map_err(unwritable)?;
        let draft = match next {
            Next::Text { text, secret } => Some(self.draft(text, secret, seen.status).map_err(unwritable)?),
            Next::Nothing => None,
        };
        // Two of us never write at one time. A file system that knows no locks still has the comparison below.
        let lock = File::open(folder).map_err(unwritable)?;
        let _unlocked = lock.lock();
        if self.read()?.text != seen.text {
            return Ok(Written::Changed);
        }
        let backup = match (keep, &seen.text) {
            (Keep::Backup, Some(text)) => {
                let backup = self.back_up(text, seen.status, clock);
                Some(backup.map_err(|error| unusable(&self.path, "cannot be backed up", error))?)
            }
            (Keep::Backup | Keep::Nothing, _) => None,
        };
        match draft {
            Some(draft) => draft.become_file(&self.real).map_err(unwritable)?,
            None => fs::remove_file(&self.real).map_err(unwritable)?,
        }
        // The move is lost in a crash unless the folder is written too; a file system that cannot has done its best.
        let _unsynced = lock.sync_all();
        self.prune();
        Ok(Written::Done { backup })
    }

    /// The backups that we made, the newest first.
    pub(super) fn backups(&self) -> Vec<PathBuf> {
        let prefix = format!("{}{BACKUP_MARK}", self.file_name());
        let Ok(entries) = fs::read_dir(self.folder()) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.strip_prefix(&prefix).is_some_and(is_time))
            .collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.into_iter().map(|name| self.folder().join(name)).collect()
    }

    fn draft(&self, text: &str, secret: bool, former: Option<Status>) -> io::Result<Draft> {
        let mark = u64::from_le_bytes(Entropy::system().bytes());
        let path = self.folder().join(format!(".{}.{mark:016x}.tmp", self.file_name()));
        let mode = match former {
            Some(former) => former.mode,
            None if secret => MODE_SECRET,
            None => MODE_PLAIN,
        };
        let draft = Draft { path };
        let mut file = create(&draft.path, mode, former)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(draft)
    }

    fn back_up(&self, text: &str, status: Option<Status>, clock: &Clock) -> io::Result<PathBuf> {
        let mut time = clock.now();
        loop {
            let name = format!("{}{BACKUP_MARK}{}", self.file_name(), time.strftime(BACKUP_TIME));
            let path = self.folder().join(name);
            match create(&path, status.map_or(MODE_SECRET, |status| status.mode), status) {
                Ok(mut file) => {
                    file.write_all(text.as_bytes())?;
                    file.sync_all()?;
                    return Ok(path);
                }
                // Another backup of the same millisecond; there are five of them at most.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => time += Duration::from_millis(1),
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes our oldest backups. One that cannot be removed does no harm.
    fn prune(&self) {
        for old in self.backups().into_iter().skip(BACKUPS_MAX) {
            let _kept = fs::remove_file(old);
        }
    }

    fn folder(&self) -> &Path {
        match self.real.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        }
    }

    fn file_name(&self) -> String {
        let name = self.real.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// A new version that is not in its place yet; it goes where it never gets there.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn become_file(self, real: &Path) -> io::Result<()> {
        fs::rename(&self.path, real)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Where it has become the file there is nothing left to remove.
        let _gone = fs::remove_file(&self.path);
    }
}

/// A file that nobody else can read before it has its owner and permissions.
fn create(path: &Path, mode: u32, former: Option<Status>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    let Some(former) = former else {
        return options.mode(mode).open(path);
    };
    let file = options.mode(MODE_SECRET).open(path)?;
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (former.owner, former.group) {
        // Only root may give a file away; others keep the group where they can.
        let _kept =
            fchown(&file, Some(former.owner), Some(former.group)).or_else(|_| fchown(&file, None, Some(former.group)));
    }
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

fn is_time(text: &str) -> bool {
    let shape = |(index, byte): (usize, u8)| match index {
        8 => byte == b'T',
        15 => byte == b'.',
        19 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    text.len() == BACKUP_TIME_BYTES && text.bytes().enumerate().all(shape)
}

/// A file that is left alone, and why.
pub(super) fn refused(path: &Path, what: &str) -> Failure {
    let message = format!("{} {what}; it was left as it is.", path.display());
    Failure::new(Code::InvalidConfig, message).hint("Mend the file, or name another one with --config-file.")
}

/// A file that cannot be edited.
pub(super) fn unreadable(path: &Path, fault: &Fault) -> Failure {
    refused(path, &format!("cannot be edited ({fault})"))
}

fn unusable(path: &Path, what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    refused(path, what).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    struct Place {
        folder: tempfile::TempDir,
        clock: Clock,
    }

    impl Place {
        fn new() -> Self {
            Self {
                folder: tempfile::tempdir().unwrap(),
                clock: Clock::manual("2026-11-21T11:31:00.123Z".parse::<Timestamp>().unwrap()),
            }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("mcp.json")
        }

        fn target(&self) -> Target {
            Target::locate(self.path()).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.folder.path()).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }

        fn write(&self, text: &str) -> Written {
            let target = self.target();
            let seen = target.read().unwrap();
            let next = Next::Text { text, secret: true };
            target.write(&seen, next, Keep::Backup, &self.clock).unwrap()
        }
    }

    #[test]
    fn a_new_file_with_a_secret_is_its_owners_alone() {
        let place = Place::new();
        assert!(matches!(place.write("{}"), Written::Done { backup: None }));
        assert_eq!(fs::metadata(place.path()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(place.names(), ["mcp.json"], "no draft is left");
    }

    #[test]
    fn the_old_version_is_kept_with_its_permissions() {
        let place = Place::new();
        fs::write(place.path(), "old").unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o640)).unwrap();
        let Written::Done { backup: Some(backup) } = place.write("new") else {
            panic!("a backup was made");
        };
        assert_eq!(place.names(), ["mcp.json", "mcp.json.bak-20261121T113100.123Z"]);
        assert_eq!(fs::read_to_string(&backup).unwrap(), "old");
        for file in [&backup, &place.path()] {
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o640, "{file:?}");
        }
    }

    #[test]
    fn five_backups_are_kept_and_files_of_others_are_not_touched() {
        let place = Place::new();
        fs::write(place.folder.path().join("mcp.json.bak-mine"), "").unwrap();
        for text in ["0", "1", "2", "3", "4", "5", "6", "7"] {
            place.write(text);
            place.clock.advance(Duration::from_millis(1));
        }
        let kept = place.target().backups();
        let texts: Vec<String> = kept.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(texts, ["6", "5", "4", "3", "2"], "the newest first");
        assert_eq!(place.names().len(), 7);
    }

    #[test]
    fn what_somebody_else_wrote_meanwhile_stays() {
        let place = Place::new();
        for before in [None, Some("old")] {
            if let Some(text) = before {
                fs::write(place.path(), text).unwrap();
            }
            let target = place.target();
            let seen = target.read().unwrap();
            fs::write(place.path(), "theirs").unwrap();
            let next = Next::Text {
                text: "ours",
                secret: false,
            };
            let written = target.write(&seen, next, Keep::Backup, &place.clock).unwrap();
            assert!(matches!(written, Written::Changed), "{before:?}");
            assert_eq!(fs::read_to_string(place.path()).unwrap(), "theirs");
            assert_eq!(place.names(), ["mcp.json"], "neither draft nor backup");
            fs::remove_file(place.path()).unwrap();
        }
    }

    #[test]
    fn a_link_keeps_pointing_and_its_file_changes() {
        let place = Place::new();
        let real = place.folder.path().join("real.json");
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink("real.json", place.path()).unwrap();
        place.write("new");
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::read_link(place.path()).unwrap(), Path::new("real.json"));
        fs::remove_file(&real).unwrap();
        assert!(Target::locate(place.path()).is_err(), "it leads nowhere");
    }

    #[test]
    fn what_is_no_text_file_of_bearable_size_is_refused() {
        let place = Place::new();
        fs::create_dir(place.path()).unwrap();
        assert!(place.target().read().is_err());
        fs::remove_dir(place.path()).unwrap();
        fs::write(place.path(), b"\xff").unwrap();
        assert!(place.target().read().is_err());
        let large = File::create(place.path()).unwrap();
        large.set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(place.target().read().is_err());
    }
}
