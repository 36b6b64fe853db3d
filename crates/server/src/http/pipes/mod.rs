//! Connections that last, beside Streamable HTTP: WebSocket, and HTTP+SSE of 2024-11-05 with its POSTs.
//!
//! Here is known which ones are open and whose they are. There are only so many, for each principal and in all, and one
//! that is somebody else's does not exist for whoever asks.

mod frames;
pub(super) mod sse;
pub(super) mod ws;

use forebay_domain::{Code, Failure, Principal};
use forebay_mcp::{DuplexHandle, Owner, Scope};
use forebay_runtime::Entropy;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

/// Connections that one principal may have open.
const PER_PRINCIPAL_MAX: usize = 100;
/// Connections that all of them together may have open.
const TOTAL_MAX: usize = 4_000;
/// Random bytes of an id.
const ID_BYTES: usize = 20;

/// All connections of this process. Cheap to clone; all clones are one list.
#[derive(Clone, Default)]
pub struct Pipes(Arc<Mutex<HashMap<String, Pipe>>>);

struct Pipe {
    owner: Owner,
    /// Where its POSTs go; one that needs none has none.
    mailbox: Option<Mailbox>,
}

struct Mailbox {
    handle: DuplexHandle,
    scope: Scope,
}

/// The place of one connection; dropping it makes it free.
pub(super) struct Berth {
    pipes: Pipes,
    id: String,
}

impl Pipes {
    /// How many are open.
    pub fn count(&self) -> usize {
        self.table().len()
    }

    /// Takes a place for one more connection of this principal.
    pub(super) fn reserve(&self, principal: &Principal, entropy: &Entropy) -> Result<Berth, Failure> {
        let owner = Owner::from(principal);
        let mut table = self.table();
        if table.len() >= TOTAL_MAX {
            return Err(too_many(TOTAL_MAX, "in all"));
        }
        if table.values().filter(|pipe| pipe.owner == owner).count() >= PER_PRINCIPAL_MAX {
            return Err(too_many(PER_PRINCIPAL_MAX, "of this key"));
        }
        let id = hex::encode(entropy.bytes::<ID_BYTES>());
        table.insert(id.clone(), Pipe { owner, mailbox: None });
        drop(table);
        Ok(Berth {
            pipes: self.clone(),
            id,
        })
    }

    /// The way into the connection of that id, if it is this principal's and of this scope.
    fn find(&self, id: &str, principal: &Principal, scope: &Scope) -> Result<DuplexHandle, Failure> {
        let owner = Owner::from(principal);
        let table = self.table();
        let theirs = table.get(id).filter(|pipe| pipe.owner == owner);
        let mailbox = theirs.and_then(|pipe| pipe.mailbox.as_ref());
        let found = mailbox.filter(|mailbox| mailbox.scope == *scope);
        found.map(|mailbox| mailbox.handle.clone()).ok_or_else(|| {
            Failure::new(Code::UnknownSession, "There is no such connection, or it has ended.")
                .hint("Open the stream of events again; its first event says where to post.")
        })
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Pipe>> {
        self.0
            .lock()
            .expect("nobody panics while holding the list of connections")
    }
}

impl Berth {
    /// What nobody guesses, and only its client is told.
    fn id(&self) -> &str {
        &self.id
    }

    /// From now on, POSTs find their way in.
    fn take_posts(&self, handle: DuplexHandle, scope: Scope) {
        if let Some(pipe) = self.pipes.table().get_mut(&self.id) {
            pipe.mailbox = Some(Mailbox { handle, scope });
        }
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.pipes.table().remove(&self.id);
    }
}

fn too_many(max: usize, whose: &str) -> Failure {
    let message = format!("{max} connections {whose} are open already.");
    Failure::new(Code::Overloaded, message).hint("Close one, or use Streamable HTTP at `/mcp`, which holds none open.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::{
        Role,
        id::{KeyId, SubjectId, TenantId},
    };

    fn principal(key: &str) -> Principal {
        Principal {
            tenant: TenantId::try_from("t").unwrap(),
            project: None,
            subject: SubjectId::try_from("s").unwrap(),
            key: Some(KeyId::try_from(key).unwrap()),
            session: None,
            role: Role::User,
            grants: Vec::new(),
            shown: Vec::new(),
            good_until: None,
        }
    }

    #[test]
    fn one_principal_cannot_take_all_places_and_gets_its_own_back() {
        let (pipes, entropy) = (Pipes::default(), Entropy::seeded(1));
        let mut held: Vec<Berth> = (0..PER_PRINCIPAL_MAX)
            .map(|_| pipes.reserve(&principal("a"), &entropy).unwrap())
            .collect();
        let refused = pipes.reserve(&principal("a"), &entropy).err().unwrap();
        assert_eq!(refused.code, Code::Overloaded);
        assert!(pipes.reserve(&principal("b"), &entropy).is_ok(), "others have theirs");
        held.pop();
        held.push(pipes.reserve(&principal("a"), &entropy).unwrap());
        assert!(held[0].id().len() * 4 >= 128, "an id nobody guesses");
        held.clear();
        assert_eq!(pipes.count(), 0);
    }

    #[test]
    fn all_together_have_only_so_many() {
        let (pipes, entropy) = (Pipes::default(), Entropy::seeded(1));
        let held: Vec<Berth> = (0..TOTAL_MAX)
            .map(|number| {
                let someone = principal(&format!("k{}", number / PER_PRINCIPAL_MAX));
                pipes.reserve(&someone, &entropy).unwrap()
            })
            .collect();
        let refused = pipes.reserve(&principal("z"), &entropy).err().unwrap();
        assert_eq!(refused.code, Code::Overloaded);
        drop(held);
        assert!(pipes.reserve(&principal("z"), &entropy).is_ok());
    }
}
