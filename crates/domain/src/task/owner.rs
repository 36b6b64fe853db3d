//! Whose work a task is, long after the request that submitted it.

use crate::{
    Grant, Pattern, Principal, Role,
    id::{KeyId, ProjectId, SessionId, SubjectId, TenantId},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who submitted a task, and what they were allowed to do then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOwner {
    pub tenant: TenantId,
    pub project: Option<ProjectId>,
    pub subject: SubjectId,
    /// Where they came by an API key, what counts is the key as it is when the task runs.
    pub key: Option<KeyId>,
    /// The rest of the principal, as JSON.
    pub snapshot: String,
}

/// Somebody else has written to the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the owner of the task cannot be read")]
pub struct SnapshotFault;

#[derive(Serialize, Deserialize)]
struct Snapshot {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
    role: Role,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    grants: Vec<Grant>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shown: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    good_until: Option<Timestamp>,
}

impl TaskOwner {
    pub fn of(principal: &Principal) -> Self {
        let snapshot = Snapshot {
            session: principal.session.clone(),
            role: principal.role,
            grants: principal.grants.clone(),
            shown: principal.shown.clone(),
            good_until: principal.good_until,
        };
        Self {
            tenant: principal.tenant.clone(),
            project: principal.project.clone(),
            subject: principal.subject.clone(),
            key: principal.key.clone(),
            snapshot: serde_json::to_string(&snapshot).expect("names and times are JSON"),
        }
    }

    /// Who they were when they submitted it.
    pub fn principal(&self) -> Result<Principal, SnapshotFault> {
        let snapshot: Snapshot = serde_json::from_str(&self.snapshot).map_err(|_| SnapshotFault)?;
        Ok(Principal {
            tenant: self.tenant.clone(),
            project: self.project.clone(),
            subject: self.subject.clone(),
            key: self.key.clone(),
            session: snapshot.session,
            role: snapshot.role,
            grants: snapshot.grants,
            shown: snapshot.shown,
            good_until: snapshot.good_until,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_survives_its_snapshot() {
        let principal = Principal {
            tenant: "acme".parse().unwrap(),
            project: Some("team".parse().unwrap()),
            subject: "ann".parse().unwrap(),
            key: Some("00ff".parse().unwrap()),
            session: Some("s-1".parse().unwrap()),
            role: Role::User,
            grants: vec!["tool:web_*".parse().unwrap(), "!tool:web_post".parse().unwrap()],
            shown: vec![serde_json::from_str(r#""web_*""#).unwrap()],
            good_until: Some("2030-01-01T00:00:00Z".parse().unwrap()),
        };
        let owner = TaskOwner::of(&principal);
        assert_eq!(owner.principal(), Ok(principal));
        let forged = TaskOwner {
            snapshot: r#"{"role":"emperor"}"#.to_owned(),
            ..owner
        };
        assert_eq!(forged.principal(), Err(SnapshotFault));
    }
}
