//! Whose a task is, and as whom it runs: as who submitted it, as far as they may still do it.
//!
//! Who came with an API key is looked up again when the task runs: a key that was revoked or has expired since runs
//! nothing any more, and its grants count as they are now. Who came with a token was let in for good when the task came
//! in: a token lives for minutes, and tasks for days. Its role and grants then are those of the snapshot. A key is looked
//! at again while its tasks run, with each beat.

use forebay_domain::{
    Code, Failure, Principal, Role,
    task::{SnapshotFault, TaskFault, TaskOwner},
};
use forebay_store::{
    keys::{Keys, StoredKey},
    queue::Scope,
};
use jiff::Timestamp;

pub(crate) async fn principal(keys: &Keys, owner: &TaskOwner, now: Timestamp) -> Result<Principal, TaskFault> {
    let mut principal = owner
        .principal()
        .map_err(|fault| TaskFault::lasting(unreadable(fault)))?;
    let Some(id) = &principal.key else {
        principal.good_until = None;
        return Ok(principal);
    };
    let found = keys.find(id).await.map_err(|error| TaskFault::passing(error.into()))?;
    let key = usable(found.as_ref(), now).map_err(TaskFault::lasting)?;
    Ok(Principal {
        session: principal.session,
        ..key.principal()
    })
}

/// The key that a task was submitted with, if it is still good.
pub(crate) fn usable(key: Option<&StoredKey>, now: Timestamp) -> Result<&StoredKey, Failure> {
    let unknown = || {
        let message = "The API key that submitted this task is not known any more.";
        Failure::new(Code::InvalidKey, message)
    };
    let key = key.ok_or_else(unknown)?;
    key.usable(now).map(|()| key)
}

fn unreadable(fault: SnapshotFault) -> Failure {
    Failure::new(
        Code::InternalError,
        "It cannot be read any more who submitted this task.",
    )
    .caused_by(fault)
}

/// Whose tasks somebody may see and end: their own, for operators those of their tenant, for administrators all.
pub fn scope(principal: &Principal) -> Scope {
    match principal.role {
        Role::Admin => Scope::All,
        Role::Operator => Scope::Tenant(principal.tenant.clone()),
        Role::User | Role::Viewer => Scope::own(principal),
    }
}

/// Whether somebody submitted a task themselves: what it was given and what it came to is for them alone.
pub fn is_own(principal: &Principal, owner: &TaskOwner) -> bool {
    // As [`Scope::own`] has it.
    principal.tenant == owner.tenant
        && principal.project == owner.project
        && principal.subject == owner.subject
        && principal.key.is_some() == owner.key.is_some()
}
