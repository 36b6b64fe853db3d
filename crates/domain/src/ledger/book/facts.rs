//! What is known before anything is decided.

use crate::{
    id::{HoldId, TenantId},
    ledger::{HoldRecord, Payer, Purpose, Purse, Scope, Standing, Window},
    money::{Usd, UsdRate},
};
use std::collections::{BTreeSet, HashMap};

/// A purse as it stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// Set aside by whatever is open.
    pub held: Usd,
    /// What runs costs.
    pub burn: UsdRate,
    /// All that was ever posted; what was taken off again is not taken off here.
    pub posted: Usd,
    /// When something last happened to it. Nothing ever happens before that, even where a clock jumps back: what had left a
    /// window would come back into it, and meet what was let in instead.
    pub last_at_ms: i64,
}

/// What was done under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    pub hold: Option<HoldId>,
    /// What was set aside by it.
    pub held: Usd,
    pub rate: UsdRate,
    pub posted: Usd,
}

/// What a hold has posted at a time, less what was taken off again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Post {
    pub at_ms: i64,
    pub left: Usd,
}

/// All that some requests need to know.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub now_ms: i64,
    pub heads: HashMap<Purse, Head>,
    /// The limits that count for each purse.
    pub windows: HashMap<Purse, Vec<Window>>,
    /// What of all that was posted to a purse is not within so many minutes: posted before they began, or taken off again.
    pub outside: HashMap<(Purse, u32), Usd>,
    pub holds: HashMap<HoldId, HoldRecord>,
    pub keyed: HashMap<String, Keyed>,
    /// The newest first; of those holds of which something may have to be taken off.
    pub posts: HashMap<HoldId, Vec<Post>>,
}

impl Facts {
    pub fn head(&self, purse: &Purse) -> Head {
        self.heads.get(purse).copied().unwrap_or_default()
    }

    /// The time at which something happens to a tenant: now, but never before what happened last. All that a movement
    /// counts for belongs to the tenant, and so does not lie after it.
    pub fn at_ms(&self, tenant: &TenantId) -> i64 {
        let purse = Purse {
            tenant: tenant.clone(),
            scope: Scope::Tenant,
            id: tenant.as_str().to_owned(),
        };
        self.now_ms.max(self.head(&purse).last_at_ms)
    }

    /// What was posted at this time or before no longer counts.
    pub fn begin_ms(&self, tenant: &TenantId, minutes: u32) -> i64 {
        self.at_ms(tenant).saturating_sub(i64::from(minutes) * 60_000)
    }

    /// How all limits stand that count for a payer.
    pub fn standings(&self, payer: &Payer) -> Vec<Standing> {
        let mut standings = Vec::new();
        for purse in payer.purses() {
            let head = self.head(&purse);
            for window in self.windows.get(&purse).into_iter().flatten() {
                let outside = self.outside.get(&(purse.clone(), window.minutes));
                standings.push(Standing {
                    purse: purse.clone(),
                    window: *window,
                    posted: head.posted.saturating_sub(outside.copied().unwrap_or_default()),
                    held: head.held,
                    burn: head.burn,
                });
            }
        }
        standings
    }

    /// Takes so much off what a hold has posted, the newest of it first, and says where; less where it has not so much.
    pub(super) fn take_off(&mut self, hold: &HoldId, amount: Usd) -> Vec<Post> {
        let mut wanted = amount;
        let mut parts = Vec::new();
        for post in self.posts.get_mut(hold).into_iter().flatten() {
            let part = post.left.min(wanted);
            if part > Usd::ZERO {
                post.left = post.left.saturating_sub(part);
                wanted = wanted.saturating_sub(part);
                parts.push(Post { left: part, ..*post });
            }
        }
        parts
    }

    /// What was taken off is in no window any more.
    pub(super) fn leave_windows(&mut self, purse: &Purse, part: Post) {
        let begins = |minutes| self.begin_ms(&purse.tenant, minutes);
        let counted = self.windows.get(purse).into_iter().flatten();
        let minutes: BTreeSet<u32> = counted
            .map(|window| window.minutes)
            .filter(|minutes| part.at_ms > begins(*minutes))
            .collect();
        for minutes in minutes {
            let outside = self.outside.entry((purse.clone(), minutes)).or_default();
            *outside = outside.saturating_add(part.left);
        }
    }
}

/// What a movement belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub payer: &'a Payer,
    pub purpose: &'a Purpose,
}
