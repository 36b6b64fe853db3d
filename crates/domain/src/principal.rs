//! Who is asking. A request that reaches a handler carries one of these; no handler ever looks at a key itself.

use crate::{
    Code, Failure,
    access::{self, Action, Decision, Role},
    grant::Grant,
    id::{KeyId, ProjectId, SessionId, SubjectId, TenantId},
    pattern::Pattern,
};
use jiff::Timestamp;

/// The authenticated caller of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub tenant: TenantId,
    pub project: Option<ProjectId>,
    pub subject: SubjectId,
    /// The API key that proved it; `None` for a token.
    pub key: Option<KeyId>,
    pub session: Option<SessionId>,
    pub role: Role,
    pub grants: Vec<Grant>,
    /// The tools that lists show to it; all where there is none. What is not shown may still be called.
    pub shown: Vec<Pattern>,
    /// When the key or the token that proved it stops being good; never, where there is none. What it holds open ends then.
    pub good_until: Option<Timestamp>,
}

impl Principal {
    pub fn decide(&self, action: &Action) -> Decision {
        access::decide(self.role, &self.grants, action)
    }

    /// Refuses with the rule that denies.
    pub fn require(&self, action: &Action) -> Result<(), Failure> {
        let decision = self.decide(action);
        let code = match &decision {
            Decision::Allowed { .. } => return Ok(()),
            Decision::RoleDenies { .. } => Code::Forbidden,
            Decision::GrantDenies { .. } | Decision::NotGranted { .. } => Code::InsufficientScope,
        };
        Err(Failure::new(code, format!("`{action}` is not allowed: {decision}."))
            .hint("Use a key that allows it, or ask an administrator; `forebay explain` shows the rule."))
    }

    /// Whether lists show this tool, by its name in the whole catalogue.
    pub fn is_shown(&self, tool: &str) -> bool {
        self.shown.is_empty() || self.shown.iter().any(|pattern| pattern.matches(tool))
    }

    /// Whether this caller may see what belongs to `tenant`.
    pub fn reaches(&self, tenant: &TenantId) -> bool {
        self.role == Role::Admin || self.tenant == *tenant
    }
}
