//! Whose a task is, and as whom it runs: as who submitted it, as far as they may still do it.
//!
//! Who came with an API key is looked up again when the task runs: a key that was revoked or has expired since runs
//! nothing any more, and its grants count as they are now. Who came with a token was let in for good when the task came
//! in: a token lives for minutes, and tasks for days. Its role and grants then are those of the snapshot.

use forebay_domain::{
    Code, Failure, Principal, Role,
    task::{SnapshotFault, TaskFault, TaskOwner},
};
use forebay_store::{keys::Keys, queue::Scope};
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
    let Some(key) = found else {
        let failure = Failure::new(
            Code::InvalidKey,
            "The API key that submitted this task is not known any more.",
        );
        return Err(TaskFault::lasting(failure));
    };
    key.usable(now).map_err(TaskFault::lasting)?;
    Ok(Principal {
        session: principal.session,
        ..key.principal()
    })
}

fn unreadable(fault: SnapshotFault) -> Failure {
    Failure::new(
        Code::InternalError,
        "It cannot be read any more who submitted this task.",
    )
    .caused_by(fault)
}

/// Whose tasks somebody may see: their own, for operators those of their tenant, for administrators all.
pub fn scope(principal: &Principal) -> Scope {
    match principal.role {
        Role::Admin => Scope::All,
        Role::Operator => Scope::Tenant(principal.tenant.clone()),
        Role::User | Role::Viewer => Scope::own(principal),
    }
}
