//! Rentals: written once a key and only over what was read, whoever writes; a seat is one holder's at a time.

use crate::{at, open};
use forebay_domain::{
    Code, Failure, Principal,
    access::Role,
    id::{SubjectId, TenantId},
    market::Provider,
};
use forebay_store::{
    rentals::{Desired, Inserted, RentalQuery, RentalState, Seat, StoredQuote, StoredRental, WORD_BYTES_MAX},
    responses::{OwnerKind, ResponseOwner},
};
use forebay_testkit::db::TestDb;
use futures_util::future::join_all;
use serde_json::value::RawValue;

fn owner(tenant: &str, subject: &str) -> ResponseOwner {
    ResponseOwner {
        tenant: TenantId::try_from(tenant).unwrap(),
        project: None,
        kind: OwnerKind::Key,
        subject: SubjectId::try_from(subject).unwrap(),
    }
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn rental(id: &str) -> StoredRental {
    StoredRental {
        id: id.to_owned(),
        owner: owner("acme", "ann"),
        provider: Provider::Vast,
        seat: "vast.ai".to_owned(),
        label: format!("fb:acme:{id}"),
        offer: "21874411".to_owned(),
        machine: None,
        state: RentalState::Intended,
        desired: Desired::Up,
        open: true,
        token_hash: None,
        idempotency_key: None,
        quote: None,
        created_at: at(1_000),
        version: 1,
        body: raw(r#"{"a":1}"#),
    }
}

#[tokio::test]
async fn a_row_comes_back_as_it_was_written_and_is_found_by_whatever_is_known_of_it() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let rentals = opened.store.rentals();
        let mut one = rental("r1");
        one.token_hash = Some([7; 32]);
        assert!(matches!(rentals.insert(&one).await.unwrap(), Inserted::New));
        one.machine = Some("27913406".to_owned());
        one.state = RentalState::Up;
        one.desired = Desired::Gone;
        one.body = raw(r#"{"b":2}"#);
        assert!(rentals.save(&mut one).await.unwrap());
        for found in [
            rentals.get("r1").await.unwrap(),
            rentals.of_label("fb:acme:r1").await.unwrap(),
            rentals.of_token([7; 32]).await.unwrap(),
        ] {
            let found = found.unwrap();
            assert_eq!(found.machine.as_deref(), Some("27913406"));
            assert_eq!(
                (found.state, found.desired, found.version),
                (RentalState::Up, Desired::Gone, 2)
            );
            assert_eq!((found.owner, found.created_at), (one.owner.clone(), at(1_000)));
            assert_eq!(found.body.get(), r#"{"b":2}"#, "{}", db.name());
        }
        assert!(rentals.of_token([8; 32]).await.unwrap().is_none());
        let doubled = StoredRental {
            id: "r2".to_owned(),
            ..rental("r1")
        };
        let refused = rentals.insert(&doubled).await.unwrap_err();
        assert_eq!(
            Failure::from(refused).code,
            Code::Conflict,
            "a label is somebody's for ever"
        );
        opened.close().await;
    }
}

#[tokio::test]
async fn of_many_that_write_over_one_reading_one_writes() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let rentals = opened.store.rentals();
        rentals.insert(&rental("r1")).await.unwrap();
        let before = rentals.mark().await.unwrap();
        let writes = (0..20).map(|n| {
            let rentals = rentals.clone();
            async move {
                let mut mine = rental("r1");
                mine.machine = Some(n.to_string());
                (rentals.save(&mut mine).await.unwrap(), mine.machine)
            }
        });
        let written: Vec<_> = join_all(writes).await.into_iter().filter(|(saved, _)| *saved).collect();
        assert_eq!(written.len(), 1, "{}", db.name());
        assert_eq!(rentals.get("r1").await.unwrap().unwrap().machine, written[0].1);
        assert_ne!(
            rentals.mark().await.unwrap(),
            before,
            "and it is seen that something was"
        );
        opened.close().await;
    }
}

#[tokio::test]
async fn an_idempotency_key_makes_one_for_its_owner() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let rentals = opened.store.rentals();
        let keyed = |id: &str, subject: &str| StoredRental {
            owner: owner("acme", subject),
            idempotency_key: Some("k".to_owned()),
            ..rental(id)
        };
        let tries = (0..20).map(|n| {
            let rentals = rentals.clone();
            let one = keyed(&format!("r{n}"), "ann");
            async move { rentals.insert(&one).await.unwrap() }
        });
        let outcomes = join_all(tries).await;
        let new = outcomes.iter().filter(|one| matches!(one, Inserted::New)).count();
        assert_eq!(new, 1, "{}", db.name());
        let made = rentals.list(&RentalQuery::default()).await.unwrap();
        assert_eq!(made.len(), 1);
        for outcome in outcomes {
            if let Inserted::Repeat(earlier) = outcome {
                assert_eq!(earlier.id, made[0].id);
            }
        }
        let other = rentals.insert(&keyed("bobs", "bob")).await.unwrap();
        assert!(matches!(other, Inserted::New), "somebody else's key is another");
        opened.close().await;
    }
}

#[tokio::test]
async fn a_quote_makes_one_under_whatever_key() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let rentals = opened.store.rentals();
        let tries = (0..20).map(|n| {
            let rentals = rentals.clone();
            let one = StoredRental {
                idempotency_key: (n % 3 != 0).then(|| format!("k{n}")),
                quote: Some("q-1".to_owned()),
                ..rental(&format!("r{n}"))
            };
            async move { rentals.insert(&one).await.unwrap() }
        });
        let outcomes = join_all(tries).await;
        let made = rentals.of_quote("q-1").await.unwrap().unwrap();
        let is_repeat = |one: &&Inserted| matches!(one, Inserted::Repeat(earlier) if earlier.id == made.id);
        assert_eq!(outcomes.iter().filter(is_repeat).count(), 19, "{}", db.name());
        let other = StoredRental {
            quote: Some("q-2".to_owned()),
            ..rental("r20")
        };
        assert!(matches!(rentals.insert(&other).await.unwrap(), Inserted::New));
        opened.close().await;
    }
}

#[tokio::test]
async fn lists_have_what_they_are_asked_for() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let rentals = opened.store.rentals();
        let of = |id: &str, tenant: &str, subject: &str, ms| StoredRental {
            owner: owner(tenant, subject),
            created_at: at(ms),
            ..rental(id)
        };
        for one in [
            of("r1", "acme", "ann", 1),
            of("r2", "acme", "bob", 2),
            of("r3", "other", "ann", 3),
        ] {
            rentals.insert(&one).await.unwrap();
        }
        let mut gone = StoredRental {
            state: RentalState::Gone,
            open: false,
            seat: "local".to_owned(),
            ..of("r4", "acme", "ann", 4)
        };
        rentals.insert(&gone).await.unwrap();
        let ids = async |query: RentalQuery| {
            let found = rentals.list(&query).await.unwrap();
            found.iter().map(|one| one.id.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ids(RentalQuery::default()).await, "r4 r3 r2 r1", "{}", db.name());
        let anns = RentalQuery {
            owner: Some(owner("acme", "ann")),
            ..RentalQuery::default()
        };
        assert_eq!(ids(anns.clone()).await, "r4 r1");
        assert_eq!(ids(RentalQuery { live: true, ..anns }).await, "r1");
        let acmes = RentalQuery {
            tenant: Some("acme".parse().unwrap()),
            ..RentalQuery::default()
        };
        assert_eq!(ids(acmes).await, "r4 r2 r1");
        let open_ids = async |seat: &str| rentals.open_of(seat).await.unwrap().len();
        assert_eq!((open_ids("vast.ai").await, open_ids("local").await), (3, 0));
        gone.open = true;
        assert!(rentals.save(&mut gone).await.unwrap());
        assert_eq!((open_ids("local").await, rentals.open().await.unwrap().len()), (1, 4));
        opened.close().await;
    }
}

#[tokio::test]
async fn a_seat_is_one_holders_until_it_is_past_or_given_back() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let rentals = opened.store.rentals();
        let take =
            async |holder: &str, now, until| rentals.take_seat("vast.ai", holder, at(now), at(until)).await.unwrap();
        assert!(take("a", 0, 100).await);
        assert!(take("a", 50, 150).await, "its holder keeps it");
        assert!(!take("b", 149, 300).await, "{}", db.name());
        let held = Seat {
            seat: "vast.ai".to_owned(),
            holder: "a".to_owned(),
        };
        assert_eq!(rentals.seats(at(149)).await.unwrap(), [held]);
        assert!(take("b", 150, 300).await);
        rentals.leave_seat("vast.ai", "a").await.unwrap();
        assert!(!take("a", 200, 400).await, "nobody gives back what is another's");
        rentals.leave_seat("vast.ai", "b").await.unwrap();
        assert!(take("a", 200, 400).await);
        assert!(rentals.seats(at(400)).await.unwrap().is_empty());
        opened.close().await;
    }
}

#[tokio::test]
async fn a_quote_is_its_owners_while_it_is_good() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let rentals = opened.store.rentals();
        let principal = |subject: &str| Principal {
            tenant: "acme".parse().unwrap(),
            project: None,
            subject: subject.parse().unwrap(),
            key: Some("k1".parse().unwrap()),
            session: None,
            role: Role::User,
            grants: Vec::new(),
            shown: Vec::new(),
            good_until: None,
        };
        let quote = StoredQuote {
            id: "q1".to_owned(),
            owner: ResponseOwner::from(&principal("ann")),
            expires_at: at(5_000),
            body: raw(r#"{"rate":1}"#),
        };
        rentals.put_quote(&quote).await.unwrap();
        let find = async |subject: &str, now| rentals.quote("q1", &principal(subject), at(now)).await.unwrap();
        assert_eq!(find("ann", 4_999).await.unwrap().body.get(), r#"{"rate":1}"#);
        assert!(find("bob", 1).await.is_none(), "{}", db.name());
        assert!(find("ann", 5_000).await.is_none());
        rentals.sweep(at(5_000)).await.unwrap();
        assert!(find("ann", 1).await.is_none());
        opened.close().await;
    }
}

#[tokio::test]
async fn an_installation_has_one_tag_and_words_have_a_bound() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let rentals = opened.store.rentals();
        let tags = join_all((0..8).map(|_| rentals.installation())).await;
        let first = tags[0].as_ref().unwrap();
        assert!(tags.iter().all(|tag| tag.as_ref().unwrap() == first), "{}", db.name());
        let long = StoredRental {
            offer: "x".repeat(WORD_BYTES_MAX + 1),
            ..rental("r1")
        };
        assert!(rentals.insert(&long).await.is_err());
        opened.close().await;
    }
}
