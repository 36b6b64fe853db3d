//! `forebay mcp install`: brings an entry for this gateway into a client's file.
//!
//! Reads, decides, shows, asks, makes a key where one is wanted, writes. Should somebody else write to the file
//! meanwhile, it begins anew with what stands there then. What is there already and right is not touched at all.

use super::{
    Done, Outcome, ROUNDS_MAX,
    approval::Approval,
    client::Scope,
    diff::Change,
    document::{self, Fault, Former},
    entry::{self, Entry},
    file::{self, Keep, Next, Snapshot, Target, Written},
    keys::{KeyPlace, Keys},
    never_still, not_ours,
    plan::{Access, OwnKey, Place, Plan, Which},
    say_begins_anew,
};
use crate::{
    connect::{Context, Gateway},
    printer::Printer,
    report,
};
use forebay_domain::Failure;
use forebay_runtime::{Clock, Secret};
use serde_json::Value as Json;
use std::path::PathBuf;

/// Bring the gateway into a client's file
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay mcp install cursor                       for yourself, with a key of its own (role user)
  forebay mcp install claude-code --project .      in ./.mcp.json; the key comes from $FOREBAY_KEY
  forebay mcp install crush --role user --grant 'tool:web_*' --grant '!tool:file_reader'
  forebay mcp install claude-desktop --dry-run     show what would change
  forebay mcp install vscode --server compose      only the server `compose`

The file's former version is kept beside it as FILE.bak-TIME, the last five of them.
An entry of that name that leads to something else is left alone, unless --force is given.")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    own: OwnKey,
    #[command(flatten)]
    approval: Approval,
    /// Replace an entry of that name that leads to something else
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(args: Args, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let gateway = context.gateway()?;
    let place = Place::of(&args.which, &context.env)?;
    let plan = Plan::of(&place, &args.which, &args.access, &args.own, context, &gateway)?;
    let mut install = Install {
        target: Target::locate(place.file.clone())?,
        keys: Keys::new(context, &gateway, place.client),
        approval: args.approval,
        force: args.force,
        gateway: &gateway,
        place,
        plan,
    };
    let ended = install.rounds().await;
    install.keys.give_back().await;
    let outcome = ended?;
    outcome.print(printer)?;
    if matches!(outcome.done, Done::Added | Done::Updated) {
        report::say(install.place.client.afterwards());
    }
    Ok(())
}

struct Install<'a> {
    place: Place,
    plan: Plan,
    target: Target,
    keys: Keys<'a>,
    approval: Approval,
    force: bool,
    gateway: &'a Gateway,
}

impl Install<'_> {
    async fn rounds(&mut self) -> Result<Outcome, Failure> {
        for _ in 0..ROUNDS_MAX {
            let seen = self.target.read()?;
            if let Some(outcome) = self.round(&seen).await? {
                return Ok(outcome);
            }
            say_begins_anew(&self.place.file);
        }
        Err(never_still(&self.place.file))
    }

    /// One pass over the file as it was read. `None` where it has changed before it could be written.
    async fn round(&mut self, seen: &Snapshot) -> Result<Option<Outcome>, Failure> {
        let standing = self.standing(seen)?;
        let was_ours = standing.as_ref().is_none_or(|entry| self.is_ours(entry));
        if !was_ours && !self.force {
            let hint = "Choose another name with --name, or replace it with --force.";
            return Err(not_ours(&self.place.file, &self.place.name, hint));
        }
        let former = if was_ours { Former::Merge } else { Former::Replace };
        let own_standing = standing.as_ref().filter(|_| was_ours);
        let credential = self.keys.settle(&self.plan.key, own_standing).await?;
        let preview = self.text(seen, credential.preview(), former)?;
        if seen.existing() == Some(preview.as_str()) {
            return Ok(Some(self.outcome(Done::Nothing, None, &preview)?));
        }
        report::say(self.change(seen, &preview, was_ours).shown().trim_end());
        if self.approval.dry_run {
            return Ok(Some(self.outcome(Done::DryRun, None, seen.text())?));
        }
        self.approval.ask(&self.place.file)?;

        let key = self.keys.make(credential).await?;
        let text = self.text(seen, key.as_ref().map(Secret::expose), former)?;
        let next = Next::Text {
            text: &text,
            secret: self.plan.key.is_in_file(),
        };
        let Written::Done { backup } = self.target.write(seen, next, Keep::Backup, &Clock::system())? else {
            return Ok(None);
        };
        self.keys.keep();
        self.warn(seen);
        let done = if standing.is_some() { Done::Updated } else { Done::Added };
        let mut outcome = self.outcome(done, backup, &text)?;
        if let Some(gone) = own_standing
            && entry::key(gone).is_some_and(|key| Some(key.id().as_str()) != outcome.key.as_deref())
        {
            outcome.revoked = self.keys.retire(gone).await;
        }
        Ok(Some(outcome))
    }

    fn standing(&self, seen: &Snapshot) -> Result<Option<Json>, Failure> {
        let entries =
            document::entries(seen.text(), self.place.client.section()).map_err(|fault| self.unread(&fault))?;
        let named = entries.into_iter().find(|(name, _)| *name == self.place.name);
        Ok(named.map(|(_, entry)| entry))
    }

    fn is_ours(&self, entry: &Json) -> bool {
        entry::is_ours(entry, Some(&self.gateway.url))
    }

    /// The file with the entry as it is to be.
    fn text(&self, seen: &Snapshot, credential: Option<&str>, former: Former) -> Result<String, Failure> {
        let entry = Entry::new(self.place.client, &self.plan.connection, credential);
        let input = match &self.plan.key {
            KeyPlace::Prompt { .. } => self.place.input(),
            KeyPlace::DataDir | KeyPlace::Variable(_) | KeyPlace::Given | KeyPlace::Fresh { .. } => None,
        };
        document::put(seen.text(), self.place.slot(), &entry, former, input.as_ref())
            .map_err(|fault| self.unread(&fault))
    }

    fn change<'a>(&'a self, seen: &'a Snapshot, after: &'a str, was_ours: bool) -> Change<'a> {
        let input = match &self.plan.key {
            KeyPlace::Prompt { input } => Some(input.as_str()),
            KeyPlace::DataDir | KeyPlace::Variable(_) | KeyPlace::Given | KeyPlace::Fresh { .. } => None,
        };
        Change {
            file: &self.place.file,
            before: seen.existing(),
            after: Some(after),
            slot: self.place.slot(),
            was_ours,
            input,
        }
    }

    fn outcome(&self, done: Done, backup: Option<PathBuf>, text: &str) -> Result<Outcome, Failure> {
        let entries = document::entries(text, self.place.client.section()).map_err(|fault| self.unread(&fault))?;
        let entry = entries.iter().find(|(name, _)| *name == self.place.name);
        Ok(Outcome {
            client: self.place.client,
            name: self.place.name.clone(),
            file: self.place.file.display().to_string(),
            done,
            backup: backup.map(|path| path.display().to_string()),
            key: entry
                .and_then(|(_, entry)| entry::key(entry))
                .map(|key| key.id().to_string()),
            revoked: None,
        })
    }

    /// Says where a key lies more openly than a key should.
    fn warn(&self, seen: &Snapshot) {
        let file = self.place.file.display();
        match &self.plan.key {
            KeyPlace::Given | KeyPlace::Fresh { .. } => {
                if let Some(mode) = seen.mode_open_to_others() {
                    report::say(&format!(
                        "warning: others on this machine can read {file} (mode {mode:o}), which holds a key now; \
                         `chmod 600` ends that."
                    ));
                }
                if self.place.scope == Scope::Project {
                    report::say(&format!(
                        "warning: {file} holds a key now; keep it out of version control."
                    ));
                }
            }
            KeyPlace::Variable(name) => {
                report::say(&format!(
                    "The client takes the key from {name}: set it where the client is started from. \
                     `forebay key create --role user` makes one."
                ));
            }
            KeyPlace::Prompt { .. } => {
                report::say("The client will ask for the key once. `forebay key create --role user` makes one.");
            }
            KeyPlace::DataDir => {}
        }
    }

    fn unread(&self, fault: &Fault) -> Failure {
        file::unreadable(&self.place.file, fault)
    }
}
