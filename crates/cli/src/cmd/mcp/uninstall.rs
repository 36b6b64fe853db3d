//! `forebay mcp uninstall`: takes the entry out of a client's file again.
//!
//! Where nothing else has changed since the install, the file becomes what it was before, byte for byte; otherwise the
//! entry alone goes. A key that the install made is revoked, once the file does not hold it any more.

use super::{
    Done, Outcome, ROUNDS_MAX,
    approval::Approval,
    diff::Change,
    document::{self, Fault, Input},
    entry,
    file::{self, Keep, Next, Snapshot, Target, Written},
    keys::Keys,
    never_still, not_ours,
    plan::{Place, Which},
    say_begins_anew,
};
use crate::{
    connect::{Context, Gateway},
    printer::Printer,
    report,
};
use forebay_domain::Failure;
use forebay_runtime::Clock;
use serde_json::Value as Json;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Take the gateway out of a client's file
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay mcp uninstall cursor
  forebay mcp uninstall claude-code --project . --dry-run

The file becomes what it was before the install, where nothing else in it has changed. A key that the install made is
revoked.")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    approval: Approval,
    /// Remove an entry of that name that leads to something else
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(args: Args, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let gateway = context.gateway()?;
    let place = Place::of(&args.which, &context.env)?;
    let uninstall = Uninstall {
        target: Target::locate(place.file.clone())?,
        keys: Keys::new(context, &gateway, place.client),
        approval: args.approval,
        force: args.force,
        gateway: &gateway,
        place,
    };
    uninstall.rounds().await?.print(printer)
}

struct Uninstall<'a> {
    place: Place,
    target: Target,
    keys: Keys<'a>,
    approval: Approval,
    force: bool,
    gateway: &'a Gateway,
}

/// What the file becomes.
enum Rest {
    /// What it was before: a backup's text.
    Former { text: String, backup: PathBuf },
    /// There was no file before.
    NoFile,
    /// What stands there, without the entry.
    Without(String),
}

impl Rest {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Former { text, .. } | Self::Without(text) => Some(text),
            Self::NoFile => None,
        }
    }
}

impl Uninstall<'_> {
    async fn rounds(&self) -> Result<Outcome, Failure> {
        for _ in 0..ROUNDS_MAX {
            let seen = self.target.read()?;
            if let Some(outcome) = self.round(&seen).await? {
                return Ok(outcome);
            }
            say_begins_anew(&self.place.file);
        }
        Err(never_still(&self.place.file))
    }

    async fn round(&self, seen: &Snapshot) -> Result<Option<Outcome>, Failure> {
        let entries =
            document::entries(seen.text(), self.place.client.section()).map_err(|fault| self.unread(&fault))?;
        let Some((_, standing)) = entries.into_iter().find(|(name, _)| *name == self.place.name) else {
            return Ok(Some(self.outcome(Done::Nothing)));
        };
        let ours = entry::is_ours(&standing, Some(&self.gateway.url));
        if !ours && !self.force {
            let hint = "Name another one with --name, or remove it all the same with --force.";
            return Err(not_ours(&self.place.file, &self.place.name, hint));
        }
        let input = self.place.input();
        let rest = self.rest(seen, &standing, input.as_ref())?;
        let change = Change {
            file: &self.place.file,
            before: seen.existing(),
            after: rest.text(),
            slot: self.place.slot(),
            was_ours: ours,
            input: input.as_ref().map(|input| input.id.as_str()),
        };
        report::say(change.shown().trim_end());
        if self.approval.dry_run {
            return Ok(Some(self.outcome(Done::DryRun)));
        }
        self.approval.ask(&self.place.file)?;

        let (next, keep) = match &rest {
            Rest::Former { text, .. } => (Next::Text { text, secret: false }, Keep::Nothing),
            Rest::Without(text) => (Next::Text { text, secret: false }, Keep::Backup),
            Rest::NoFile => (Next::Nothing, Keep::Nothing),
        };
        let Written::Done { backup } = self.target.write(seen, next, keep, &Clock::system())? else {
            return Ok(None);
        };
        let done = match &rest {
            Rest::Former { backup, .. } => {
                // The file itself is that backup now.
                let _left_over = fs::remove_file(backup);
                Done::Restored
            }
            Rest::NoFile => Done::Restored,
            Rest::Without(_) => Done::Removed,
        };
        let revoked = if ours { self.keys.retire(&standing).await } else { None };
        Ok(Some(Outcome {
            backup: backup.map(|path| path.display().to_string()),
            revoked,
            ..self.outcome(done)
        }))
    }

    /// What the file becomes: a former version, where installing into it gives exactly what stands there now.
    fn rest(&self, seen: &Snapshot, standing: &Json, input: Option<&Input>) -> Result<Rest, Failure> {
        let slot = self.place.slot();
        let asked = input.filter(|input| {
            let reference = format!("${{input:{}}}", input.id);
            entry::credential(standing) == Some(reference.as_str())
        });
        let leads_here = |before: &str| {
            let again = document::put_again(before, seen.text(), slot, asked);
            matches!(again, Ok(Some(text)) if text == seen.text())
        };
        for backup in self.target.backups() {
            if let Some(text) = text_of(&backup)
                && leads_here(&text)
            {
                return Ok(Rest::Former { text, backup });
            }
        }
        if leads_here("") {
            return Ok(Rest::NoFile);
        }
        let without = document::take(seen.text(), slot, input).map_err(|fault| self.unread(&fault))?;
        Ok(Rest::Without(without))
    }

    fn outcome(&self, done: Done) -> Outcome {
        Outcome {
            client: self.place.client,
            name: self.place.name.clone(),
            file: self.place.file.display().to_string(),
            done,
            backup: None,
            key: None,
            revoked: None,
        }
    }

    fn unread(&self, fault: &Fault) -> Failure {
        file::unreadable(&self.place.file, fault)
    }
}

/// A backup, where it can be read; it is as large as the file was, which was bounded.
fn text_of(backup: &Path) -> Option<String> {
    let target = Target::locate(backup.to_owned()).ok()?;
    target.read().ok()?.existing().map(str::to_owned)
}
