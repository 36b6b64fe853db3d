//! API keys over REST: create, list, revoke.

mod create;
mod list;
mod revoke;

pub(crate) use create::{__path_create, create};
pub(crate) use list::{__path_list, list};
pub(crate) use revoke::{__path_revoke, revoke};

use forebay_api::KeyInfo;
use forebay_store::keys::StoredKey;

fn info(stored: &StoredKey) -> KeyInfo {
    KeyInfo {
        id: stored.id.to_string(),
        tenant: stored.tenant.to_string(),
        project: stored.project.as_ref().map(ToString::to_string),
        name: stored.subject.to_string(),
        role: stored.role.to_string(),
        grants: stored.grants.iter().map(ToString::to_string).collect(),
        shown: stored.shown.iter().map(ToString::to_string).collect(),
        created_at: stored.created_at,
        expires_at: stored.expires_at,
        revoked_at: stored.revoked_at,
    }
}
