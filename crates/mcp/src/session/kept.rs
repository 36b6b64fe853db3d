//! Sessions that outlive their process: opened in the store before anybody hears of them, found there by any replica,
//! ended there as well.
//!
//! A session that is in memory is served from memory. One that is not costs its asker one look into the store, and
//! nothing is remembered of ids that are nobody's.

use super::{
    Hello, ID_BYTES, Owner, Session, Sessions,
    row::{self, Recalled},
};
use crate::index::Scope;
use forebay_domain::{Code, Failure, Principal, id::SessionId};
use std::sync::{Arc, atomic::Ordering};

/// A session that was asked for.
pub(crate) enum Found {
    /// It was here.
    Here(Arc<Session>),
    /// It has come back from the store, and what it watched is watched by nobody here yet.
    Back(Arc<Session>),
}

impl Sessions {
    /// Opens a session that outlives this process. When this returns it is written down.
    pub(crate) async fn open_kept(&self, principal: &Principal, hello: Hello) -> Result<Arc<Session>, Failure> {
        let session = self.make(self.draw_id(), Owner::from(principal), hello);
        let row = row::write(&session, self.shelf().now(), self.0.limits.idle);
        self.shelf().put(&session.id, &row).await?;
        let admitted = self.admit(&session);
        if admitted.is_err() {
            self.shelf().forget(&session);
        }
        admitted.map(|()| session)
    }

    /// The session of that id, wherever it was opened, if it is this principal's and still open.
    pub(crate) async fn find(&self, id: &str, principal: &Principal, scope: &Scope) -> Result<Found, Failure> {
        let id = SessionId::try_from(id).map_err(|_| unknown())?;
        if let Some(session) = self.find_here(&id, principal, scope)? {
            return Ok(Found::Here(session));
        }
        let hex = id.as_str().bytes().all(|b| b.is_ascii_hexdigit());
        if id.as_str().len() != 2 * ID_BYTES || !hex {
            return Err(unknown());
        }
        let row = self.shelf().find(&id).await?.ok_or_else(unknown)?;
        let recalled = row::read(row).ok_or_else(unknown)?;
        if !recalled.owner.is(principal) || recalled.hello.scope != *scope {
            return Err(unknown());
        }
        self.bring_back(id, recalled, principal, scope)
    }

    fn bring_back(
        &self,
        id: SessionId,
        recalled: Recalled,
        principal: &Principal,
        scope: &Scope,
    ) -> Result<Found, Failure> {
        let session = self.make(id, recalled.owner, recalled.hello);
        *session.level.lock().expect("nobody panics while holding a level") = recalled.level;
        *session.subscriptions() = recalled.subscriptions;
        // Nobody has told the store that it is in use again.
        session.noted_ms.store(u64::MAX, Ordering::Relaxed);
        match self.admit(&session) {
            Ok(()) => Ok(Found::Back(session)),
            // Somebody else asked at the same time, and came first.
            Err(failure) => match self.find_here(&session.id, principal, scope)? {
                Some(session) => Ok(Found::Here(session)),
                None => Err(failure),
            },
        }
    }

    /// Ends a session here and in the store, where every replica looks.
    pub(crate) async fn end_kept(&self, session: &Session) -> Result<(), Failure> {
        self.close(session);
        if session.is_kept() {
            self.shelf().remove(&session.id).await?;
        }
        Ok(())
    }

    /// Notes in the store which sessions are in use, and ends here what has ended elsewhere. To be called about each
    /// minute, and never as part of a request.
    pub async fn note_use(&self) -> Result<(), Failure> {
        let in_use: Vec<(Arc<Session>, u64)> = self
            .all()
            .into_iter()
            .filter(|session| session.is_kept())
            .map(|session| {
                let touched_ms = session.touched_ms.load(Ordering::Relaxed);
                (session, touched_ms)
            })
            .filter(|(session, touched_ms)| {
                let busy = session.under_way.load(Ordering::SeqCst) > 0;
                busy || session.noted_ms.load(Ordering::Relaxed) != *touched_ms
            })
            .collect();
        if in_use.is_empty() {
            return Ok(());
        }
        let ids: Vec<SessionId> = in_use.iter().map(|(session, _)| session.id.clone()).collect();
        let noted = self.shelf().touch(&ids, self.0.limits.idle).await?;
        let missing = usize::try_from(noted).unwrap_or(usize::MAX) < ids.len();
        for (session, touched_ms) in in_use {
            session.noted_ms.store(touched_ms, Ordering::Relaxed);
            // Either another replica noted its use a moment ago, or it is no more.
            if missing && self.shelf().find(&session.id).await?.is_none() {
                self.close(&session);
            }
        }
        Ok(())
    }
}

pub(super) fn unknown() -> Failure {
    Failure::new(Code::UnknownSession, "There is no such session, or it has ended.")
        .hint("Open a new one with `initialize`.")
}
