//! Who may do what: roles, grants, and the one decision over both.
//!
//! A role is a ceiling: a fixed list of patterns over actions. The grants of a key or token only narrow it: a denial
//! always wins, and where a key names any allowance, nothing outside its allowances remains. What no pattern names is
//! denied. So a grant can never raise its holder above the role.

use crate::grant::{Effect, Grant, GrantFault, PatternKind, check_pattern, glob};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

/// Something that may be allowed: `tool:calculator`, `model:qwen`, `keys:write`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Action(Cow<'static, str>);

impl Action {
    pub const TOOLS_LIST: Self = Self::named("tools:list");
    pub const RESOURCES_READ: Self = Self::named("resources:read");
    pub const MODELS_LIST: Self = Self::named("models:list");
    pub const STATUS_READ: Self = Self::named("status:read");
    pub const EXPLAIN_SELF: Self = Self::named("explain:self");
    pub const METRICS_READ: Self = Self::named("metrics:read");
    pub const EVENTS_READ: Self = Self::named("events:read");
    pub const EXPLAIN_OTHERS: Self = Self::named("explain:others");
    pub const AUDIT_READ: Self = Self::named("audit:read");
    pub const KEYS_READ: Self = Self::named("keys:read");
    pub const KEYS_WRITE: Self = Self::named("keys:write");
    /// Opening and using an MCP connection; what may be done over it is decided call by call.
    pub const MCP_CONNECT: Self = Self::named("mcp:connect");

    /// A tool that changes something. Effects are checked beside the tool's own action, so that a grant can deny them all.
    pub const EFFECT_WRITE: Self = Self::named("effect:write");
    pub const EFFECT_DESTRUCTIVE: Self = Self::named("effect:destructive");
    /// A tool that reaches beyond what it is given.
    pub const EFFECT_OPEN_WORLD: Self = Self::named("effect:open_world");
    /// What one spends oneself, and by which limits.
    pub const SPENDING_READ: Self = Self::named("spending:read");
    /// Agreeing to what policy wants somebody to agree to.
    pub const SPENDING_APPROVE: Self = Self::named("spending:approve");
    /// What others of the tenant spend.
    pub const SPENDING_OTHERS: Self = Self::named("spending:others");
    pub const BILLING_READ: Self = Self::named("billing:read");
    pub const BUDGETS_READ: Self = Self::named("budgets:read");
    pub const BUDGETS_WRITE: Self = Self::named("budgets:write");
    /// Looking at machines for rent, and at those that one has.
    pub const GPU_READ: Self = Self::named("gpu:read");
    /// Renting one, or renting it for longer.
    pub const GPU_CREATE: Self = Self::named("gpu:create");
    pub const GPU_DESTROY: Self = Self::named("gpu:destroy");
    /// Sending requests to what runs on one.
    pub const GPU_PROXY: Self = Self::named("gpu:proxy");
    /// Looking at contexts, and at what was said in them.
    pub const CONTEXTS_READ: Self = Self::named("contexts:read");
    /// Making contexts, asking in them, changing and removing them.
    pub const CONTEXTS_WRITE: Self = Self::named("contexts:write");
    /// Looking at tasks, and at what became of them.
    pub const TASKS_READ: Self = Self::named("tasks:read");
    /// Having something done later, taking it back, and having it tried again.
    pub const TASKS_WRITE: Self = Self::named("tasks:write");
    pub const UPSTREAMS_READ: Self = Self::named("upstreams:read");
    pub const UPSTREAMS_WRITE: Self = Self::named("upstreams:write");

    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    pub fn tool(name: &str) -> Self {
        Self(Cow::Owned(format!("tool:{name}")))
    }

    pub fn prompt(name: &str) -> Self {
        Self(Cow::Owned(format!("prompt:{name}")))
    }

    /// Reading the resources of one upstream.
    pub fn resource(server: &str) -> Self {
        Self(Cow::Owned(format!("resource:{server}")))
    }

    /// Reading context from a provider.
    pub fn context(provider: &str) -> Self {
        Self(Cow::Owned(format!("context:{provider}")))
    }

    pub fn model(name: &str) -> Self {
        Self(Cow::Owned(format!("model:{name}")))
    }

    /// An action named by a caller, as `forebay explain` takes it.
    pub fn parse(text: &str) -> Result<Self, GrantFault> {
        check_pattern(text, PatternKind::Exact).map(|()| Self(Cow::Owned(text.to_owned())))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ladder of roles; each allows all that the one below allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks: lists, status.
    Viewer,
    /// Works: calls tools, asks models, rents machines; sees what it spends.
    User,
    /// Watches: metrics and events of its tenant, and what the gateway is set up to reach; sets what its tenant may spend.
    Operator,
    /// Administers the installation, over all tenants.
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::User, Self::Operator, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The patterns that this role adds to those of the roles below it.
    fn patterns(self) -> &'static [&'static str] {
        match self {
            Self::Viewer => &[
                "mcp:connect",
                "tools:list",
                "tool:gateway_status",
                "resources:read",
                "models:list",
                "status:read",
                "explain:self",
            ],
            Self::User => &[
                "tool:*",
                "model:*",
                "prompt:*",
                "resource:*",
                "context:*",
                "contexts:*",
                "tasks:*",
                "effect:*",
                "gpu:*",
                "spending:read",
                "budgets:read",
                "billing:read",
            ],
            Self::Operator => &[
                "metrics:read",
                "events:read",
                "explain:others",
                "upstreams:read",
                "providers:read",
                "tools:read",
                "spending:others",
                "spending:approve",
                "budgets:write",
            ],
            Self::Admin => &["*"],
        }
    }

    /// The pattern of this role that allows the action, with the role that brought it.
    fn allows(self, action: &Action) -> Option<(Self, &'static str)> {
        Self::ALL
            .into_iter()
            .filter(|role| *role <= self)
            .flat_map(|role| role.patterns().iter().map(move |pattern| (role, *pattern)))
            .find(|(_, pattern)| glob(pattern, action.as_str()))
    }
}

impl std::str::FromStr for Role {
    type Err = GrantFault;
    fn from_str(text: &str) -> Result<Self, GrantFault> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| GrantFault::Role(text.to_owned()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was decided, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The role allows it; where the key has allowances, so does the named one.
    Allowed {
        role: Role,
        pattern: &'static str,
        grant: Option<Grant>,
    },
    /// No pattern of the role names the action.
    RoleDenies { role: Role, needs: Option<Role> },
    /// A denial among the grants names it.
    GrantDenies { grant: Grant },
    /// The grants name other things, and not this.
    NotGranted { grants: Vec<Grant> },
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed {
                role,
                pattern,
                grant: None,
            } => write!(f, "allowed by `{pattern}` of role {role}"),
            Self::Allowed {
                role,
                pattern,
                grant: Some(grant),
            } => {
                write!(f, "allowed by `{pattern}` of role {role} and by grant `{grant}`")
            }
            Self::RoleDenies {
                role,
                needs: Some(needs),
            } => {
                write!(f, "role {role} does not allow it; role {needs} does")
            }
            Self::RoleDenies { role, needs: None } => write!(f, "role {role} does not allow it, and no role does"),
            Self::GrantDenies { grant } => write!(f, "denied by grant `{grant}`"),
            Self::NotGranted { grants } => {
                let list = grants.iter().map(ToString::to_string).collect::<Vec<_>>().join("`, `");
                write!(f, "not among the grants `{list}`")
            }
        }
    }
}

/// The one decision: role as ceiling, grants narrow, a denial wins, unknown is denied.
pub fn decide(role: Role, grants: &[Grant], action: &Action) -> Decision {
    let Some((by, pattern)) = role.allows(action) else {
        let needs = Role::ALL.into_iter().find(|higher| higher.allows(action).is_some());
        return Decision::RoleDenies { role, needs };
    };
    if grants.is_empty() {
        return Decision::Allowed {
            role: by,
            pattern,
            grant: None,
        };
    }
    let matching = |effect| grants.iter().find(|grant| grant.is(effect, action.as_str()));
    if let Some(denial) = matching(Effect::Deny) {
        return Decision::GrantDenies { grant: denial.clone() };
    }
    let allowances = grants.iter().any(|grant| grant.effect() == Effect::Allow);
    match matching(Effect::Allow) {
        Some(grant) => Decision::Allowed {
            role: by,
            pattern,
            grant: Some(grant.clone()),
        },
        None if allowances && !is_connection(action) => Decision::NotGranted {
            grants: grants.to_vec(),
        },
        None => Decision::Allowed {
            role: by,
            pattern,
            grant: None,
        },
    }
}

/// Connecting and listing are what a narrowed key needs to reach the very thing it is narrowed to. A list shows only
/// what its reader may use, so these never widen anything.
fn is_connection(action: &Action) -> bool {
    [
        Action::MCP_CONNECT,
        Action::TOOLS_LIST,
        Action::MODELS_LIST,
        Action::EXPLAIN_SELF,
        // An allowance names what may be done; effects are there to be denied.
        Action::EFFECT_WRITE,
        Action::EFFECT_DESTRUCTIVE,
        Action::EFFECT_OPEN_WORLD,
    ]
    .contains(action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(role: Role, grants: &str, action: &str, expected: &str) {
        let grants: Vec<Grant> = grants.split_whitespace().map(|g| g.parse().unwrap()).collect();
        let action = Action::parse(action).unwrap();
        assert_eq!(
            decide(role, &grants, &action).to_string(),
            expected,
            "{role} {grants:?} {action}"
        );
    }

    #[test]
    fn an_action_is_no_pattern() {
        assert!(Action::parse("tool:*").is_err());
    }

    #[test]
    fn a_role_is_a_ceiling_and_grants_narrow_it() {
        check(Role::User, "", "tool:calculator", "allowed by `tool:*` of role user");
        check(
            Role::Viewer,
            "",
            "tool:calculator",
            "role viewer does not allow it; role user does",
        );
        check(
            Role::Viewer,
            "tool:*",
            "tool:calculator",
            "role viewer does not allow it; role user does",
        );
        check(
            Role::User,
            "tool:calc*",
            "tool:calculator",
            "allowed by `tool:*` of role user and by grant `tool:calc*`",
        );
        check(
            Role::User,
            "tool:web_*",
            "tool:calculator",
            "not among the grants `tool:web_*`",
        );
        check(
            Role::User,
            "tool:web_*",
            "tools:list",
            "allowed by `tools:list` of role viewer",
        );
        check(
            Role::User,
            "tool:* !tool:d*",
            "tool:destroy",
            "denied by grant `!tool:d*`",
        );
        check(Role::User, "!tool:d*", "tool:list", "allowed by `tool:*` of role user");
        check(Role::User, "!mcp:*", "mcp:connect", "denied by grant `!mcp:*`");
        check(Role::Admin, "", "keys:write", "allowed by `*` of role admin");
        check(
            Role::Operator,
            "",
            "keys:write",
            "role operator does not allow it; role admin does",
        );
    }

    proptest! {
        #[test]
        fn grants_never_raise_anyone(patterns in prop::collection::vec("!?[a-z*]{1,4}:[a-z*]{0,5}", 0..5), action in "[a-z]{1,4}:[a-z]{1,5}") {
            let grants: Vec<Grant> = patterns.iter().filter_map(|p| p.parse().ok()).collect();
            let action = Action::parse(&action).unwrap();
            for role in Role::ALL {
                if decide(role, &grants, &action).is_allowed() {
                    prop_assert!(decide(role, &[], &action).is_allowed());
                }
            }
        }
    }
}
