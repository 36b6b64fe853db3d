//! Who pays: a movement counts for the tenant, and for each narrower scope that it came from.

use crate::{
    Principal,
    id::{KeyId, ProjectId, SessionId, SubjectId, TenantId},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a budget is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Tenant,
    Project,
    Key,
    Session,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Tenant, Self::Project, Self::Key, Self::Session];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Project => "project",
            Self::Key => "key",
            Self::Session => "session",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a limit counts: the spending of one tenant, or of one project, key or session of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Purse {
    pub tenant: TenantId,
    pub scope: Scope,
    /// Which project, key or session; the tenant's own name where it is the tenant.
    pub id: String,
}

impl fmt::Display for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            Scope::Tenant => write!(f, "tenant {}", self.tenant),
            scope => write!(f, "{scope} {} of tenant {}", self.id, self.tenant),
        }
    }
}

/// Whose money is spent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Payer {
    pub tenant: TenantId,
    pub project: Option<ProjectId>,
    pub key: Option<KeyId>,
    pub session: Option<SessionId>,
    /// Who acted, for the history. Nothing is limited by it.
    pub subject: Option<SubjectId>,
}

impl Payer {
    /// All that a movement counts for, the widest first.
    pub fn purses(&self) -> Vec<Purse> {
        let purse = |scope, id: &str| Purse {
            tenant: self.tenant.clone(),
            scope,
            id: id.to_owned(),
        };
        let narrower = [
            (Scope::Project, self.project.as_ref().map(ProjectId::as_str)),
            (Scope::Key, self.key.as_ref().map(KeyId::as_str)),
            (Scope::Session, self.session.as_ref().map(SessionId::as_str)),
        ];
        let narrower = narrower.into_iter().filter_map(|(scope, id)| Some(purse(scope, id?)));
        std::iter::once(purse(Scope::Tenant, self.tenant.as_str()))
            .chain(narrower)
            .collect()
    }
}

impl From<&Principal> for Payer {
    fn from(principal: &Principal) -> Self {
        Self {
            tenant: principal.tenant.clone(),
            project: principal.project.clone(),
            key: principal.key.clone(),
            session: principal.session.clone(),
            subject: Some(principal.subject.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payer_pays_from_every_purse_that_it_has() {
        let mut payer = Payer {
            tenant: "acme".parse().unwrap(),
            project: None,
            key: Some("k_1".parse().unwrap()),
            session: None,
            subject: Some("ann".parse().unwrap()),
        };
        let shown = |payer: &Payer| payer.purses().iter().map(Purse::to_string).collect::<Vec<_>>();
        assert_eq!(shown(&payer), ["tenant acme", "key k_1 of tenant acme"]);
        payer.project = Some("search".parse().unwrap());
        payer.session = Some("s1".parse().unwrap());
        assert_eq!(payer.purses().len(), 4);
        assert_eq!(shown(&payer)[1], "project search of tenant acme");
    }

    #[test]
    fn scopes_have_their_names() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
        assert_eq!(Scope::parse("Tenant"), None);
    }
}
