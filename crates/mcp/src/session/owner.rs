//! Whose sessions and connections are.

use forebay_domain::{
    Principal,
    id::{KeyId, SubjectId, TenantId},
};

/// Whose a session or a connection is. Another key of the same subject is somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    pub(super) tenant: TenantId,
    pub(super) subject: SubjectId,
    pub(super) key: Option<KeyId>,
}

impl Owner {
    pub(crate) fn key(&self) -> Option<&KeyId> {
        self.key.as_ref()
    }

    pub(super) fn is(&self, principal: &Principal) -> bool {
        let Principal {
            tenant, subject, key, ..
        } = principal;
        (&self.tenant, &self.subject, &self.key) == (tenant, subject, key)
    }

    /// A text that is the same for the same owner, and for nobody else.
    pub(crate) fn fingerprint(&self) -> String {
        let key = self.key.as_ref().map_or("", KeyId::as_str);
        // No identifier holds a line break, so no two owners have one text.
        format!("{}\n{}\n{key}", self.tenant, self.subject)
    }
}

impl From<&Principal> for Owner {
    fn from(principal: &Principal) -> Self {
        Self {
            tenant: principal.tenant.clone(),
            subject: principal.subject.clone(),
            key: principal.key.clone(),
        }
    }
}
