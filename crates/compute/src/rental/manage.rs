//! What owners do with their machines, and what the machines themselves say.

use super::{
    Rentals,
    body::Why,
    bootstrap,
    record::{Record, between},
    state,
    types::{Done, Endpoint, Rental, Whose},
    unknown,
};
use forebay_domain::{Code, Failure, Principal, access::Role, ledger::Payer, market::Provider};
use forebay_store::{
    rentals::{RentalQuery, RentalState},
    responses::ResponseOwner,
};
use jiff::Timestamp;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Most lines of a log.
const LOG_LINES_MAX: u32 = 1_000;
/// That a machine is used is written down no more often than it has to be.
const USED_APART_MAX: Duration = Duration::from_mins(1);

impl Rentals {
    /// One machine: the caller's own, its tenant's for operators, anybody's for admins. Somebody else's is not there.
    pub async fn get(&self, principal: &Principal, id: &str) -> Done<Rental> {
        self.reached(principal, id).await?.view()
    }

    /// The newest machines that the caller may see.
    pub async fn list(&self, principal: &Principal, whose: Whose, live: bool) -> Done<Vec<Rental>> {
        let mut query = RentalQuery {
            live,
            ..RentalQuery::default()
        };
        match (whose, principal.role) {
            (Whose::All, Role::Admin) => {}
            (Whose::All, Role::Operator) => query.tenant = Some(principal.tenant.clone()),
            (Whose::All | Whose::Mine, _) => query.owner = Some(ResponseOwner::from(principal)),
        }
        let rows = self.0.store.list(&query).await?;
        rows.into_iter().map(|row| Record::read(row)?.view()).collect()
    }

    /// The live machine that is meant by our id, by the provider's own id, or by the offer that one of the caller's own
    /// was made of, while that means one.
    pub async fn find(&self, principal: &Principal, provider: Option<Provider>, name: &str) -> Done<Rental> {
        if let Ok(rental) = self.get(principal, name).await
            && provider.is_none_or(|provider| provider == rental.provider())
        {
            return Ok(rental);
        }
        let is_of = |rental: &Rental| provider.is_none_or(|provider| provider == rental.provider());
        let is_machine = |rental: &Rental| is_of(rental) && rental.machine.as_deref() == Some(name);
        let is_offer =
            |rental: &Rental| is_of(rental) && (rental.offer.id() == name || rental.offer.to_string() == name);
        let mut meant = self.list(principal, Whose::Mine, true).await?;
        if meant.iter().any(is_machine) {
            meant.retain(is_machine);
        } else if meant.iter().any(is_offer) {
            meant.retain(is_offer);
        } else {
            // An offer is never meant to be somebody else's machine; a machine's own id can only mean that one.
            meant = self.list(principal, Whose::All, true).await?;
            meant.retain(is_machine);
        }
        match meant.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(unknown(name)),
            _ => {
                let ids: Vec<&str> = meant.iter().map(|rental| rental.id.as_str()).collect();
                Err(Failure::new(
                    Code::Conflict,
                    format!("several of your machines are meant: {}", ids.join(", ")),
                )
                .hint("Name one of them."))
            }
        }
    }

    /// Wants it gone. That is kept until it is, whatever becomes of this process.
    pub async fn destroy(&self, principal: &Principal, id: &str) -> Done<Rental> {
        let record = self.reached(principal, id).await?;
        let now = self.now();
        let record = self
            .change(record, |record| {
                state::end(record, Why::Asked, now).into_iter().collect()
            })
            .await?;
        // The provider is asked at once, and where that fails again and again.
        let done = self.work_on(record.clone()).await.unwrap_or(record);
        self.nudge(done.provider);
        done.view()
    }

    /// The last lines of a machine's log.
    pub async fn logs(&self, principal: &Principal, id: &str, lines: u32) -> Done<String> {
        let record = self.reached(principal, id).await?;
        let Some(machine) = &record.row.machine else {
            return Err(Failure::new(
                Code::Conflict,
                "the machine is not there yet, and has no log",
            ));
        };
        let market = self.market_or_refuse(record.provider)?;
        let read = market.logs(machine, lines.clamp(1, LOG_LINES_MAX)).await;
        read.map_err(|fault| super::told::failure(record.provider, &fault))
    }

    /// Where the caller's own machines are reached, as their providers said.
    pub async fn endpoints(&self, principal: &Principal) -> Done<Vec<Endpoint>> {
        let mine = self.list(principal, Whose::Mine, true).await?;
        let is_up = |rental: &&Rental| rental.state == RentalState::Up;
        let of = |rental: &Rental| {
            let endpoint = |(port, url): (&u16, &String)| Endpoint {
                rental: rental.id.clone(),
                port: *port,
                url: url.clone(),
            };
            rental.endpoints.iter().map(endpoint).collect::<Vec<_>>()
        };
        Ok(mine.iter().filter(is_up).flat_map(of).collect())
    }

    /// Notes that a machine was used at a moment: it was not idle then. Written at most once a minute, and often enough
    /// that this hardly shortens the time after which it is.
    pub async fn touch(&self, id: &str, at: Timestamp) -> Done<()> {
        let record = self.read(id).await?;
        self.change(record, |record| {
            let last = record.body.used_at.unwrap_or(record.row.created_at);
            let apart = record.body.idle.map_or(USED_APART_MAX, |idle| idle / 10);
            if between(last, at) >= apart.min(USED_APART_MAX) {
                record.body.used_at = Some(at);
            }
            Vec::new()
        })
        .await?;
        Ok(())
    }

    /// The machine whose token this is, while the token is good. It stays good: this is for what a machine needs before it
    /// can report itself.
    pub async fn recognise(&self, token: &str) -> Done<Rental> {
        let record = self.of_token(token).await?;
        match record.body.reported_at {
            None => record.view(),
            Some(_) => Err(bad_token()),
        }
    }

    /// A machine reports itself. Its token is good for this once, and from then on only beside what the machine drew for
    /// itself and brought along: a container that was started again on the same disk. Whoever shows the token alone is told
    /// that the machine is known, so that it goes on.
    pub async fn redeem(&self, token: &str, proof: Option<&str>) -> Done<Rental> {
        let record = self.of_token(token).await?;
        let (now, proof) = (self.now(), proof.map(|proof| hex::encode(bootstrap::hash(proof))));
        // Of two with the same token one is the first to write; what the other reads then has been reported.
        let is_taken = AtomicBool::new(false);
        let redeemed = self
            .change(record, |record| {
                let body = &mut record.body;
                let is_first = body.reported_at.is_none();
                let is_again = proof.is_some() && body.proof == proof;
                is_taken.store(is_first || is_again, Ordering::Relaxed);
                if is_first {
                    body.used_at = Some(now);
                    body.proof.clone_from(&proof);
                }
                if is_first || is_again {
                    body.reported_at = Some(now);
                }
                Vec::new()
            })
            .await?;
        if !is_taken.into_inner() {
            return Err(Failure::new(Code::Conflict, "this machine has reported itself before")
                .hint("A container that was started again on another disk is the same machine, and has nothing to report."));
        }
        redeemed.view()
    }

    async fn of_token(&self, token: &str) -> Done<Record> {
        let found = self.0.store.of_token(bootstrap::hash(token)).await?;
        let record = Record::read(found.ok_or_else(bad_token)?)?;
        if record.row.state.is_live() {
            Ok(record)
        } else {
            Err(bad_token())
        }
    }

    pub(super) async fn reached(&self, principal: &Principal, id: &str) -> Done<Record> {
        let record = self.0.store.get(id).await?.map(Record::read).transpose()?;
        let is_reached = |record: &Record| match principal.role {
            Role::Admin => true,
            Role::Operator => record.owner.tenant == principal.tenant,
            Role::User | Role::Viewer => record.row.owner == ResponseOwner::from(principal),
        };
        record.filter(is_reached).ok_or_else(|| unknown(id))
    }

    /// How the limits of whoever pays stand.
    pub async fn standings(&self, principal: &Principal) -> Done<Vec<forebay_domain::ledger::Standing>> {
        Ok(self.0.ledger.standings(&Payer::from(principal)).await?)
    }
}

fn bad_token() -> Failure {
    Failure::new(
        Code::InvalidToken,
        "this machine's token was used, or belongs to no machine that is there",
    )
}
