//! Whose an answer is.

use forebay_domain::{
    Principal,
    id::{ProjectId, SubjectId, TenantId},
};

/// Whose an answer is: a name means somebody within a project, and only among its keys or among the tokens. What a key
/// is called whoever makes keys decides, and what a token says whoever signs tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseOwner {
    pub tenant: TenantId,
    pub project: Option<ProjectId>,
    pub kind: OwnerKind,
    pub subject: SubjectId,
}

/// How somebody proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerKind {
    Key,
    Token,
}

impl OwnerKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Token => "token",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Key, Self::Token].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl ResponseOwner {
    /// The project as its column has it: no identifier is empty.
    pub(crate) fn project_text(&self) -> &str {
        self.project.as_ref().map_or("", ProjectId::as_str)
    }
}

impl From<&Principal> for ResponseOwner {
    fn from(principal: &Principal) -> Self {
        let kind = match principal.key {
            Some(_) => OwnerKind::Key,
            None => OwnerKind::Token,
        };
        Self {
            tenant: principal.tenant.clone(),
            project: principal.project.clone(),
            kind,
            subject: principal.subject.clone(),
        }
    }
}
