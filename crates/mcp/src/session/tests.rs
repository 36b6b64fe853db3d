//! Whose a session is, how long it lasts, and how many there may be.

use super::*;
use forebay_domain::Role;
use forebay_runtime::Tasks;
use forebay_store::StoreParts;
use forebay_testkit::db::TestDb;
use jiff::Timestamp;

fn principal(key: &str) -> Principal {
    Principal {
        tenant: TenantId::try_from("t").unwrap(),
        project: None,
        subject: "s".parse().unwrap(),
        key: Some(KeyId::try_from(key).unwrap()),
        session: None,
        role: Role::User,
        grants: Vec::new(),
        shown: Vec::new(),
        good_until: None,
    }
}

fn of_tenant(tenant: &str, key: &str) -> Principal {
    Principal {
        tenant: TenantId::try_from(tenant).unwrap(),
        ..principal(key)
    }
}

fn hello() -> Hello {
    Hello {
        version: Version::V2025_11_25,
        scope: Scope::Whole,
        caps: Arc::default(),
        outlet: Outlet::Streams,
    }
}

async fn sessions(total: usize, per_principal: usize) -> (Sessions, Clock) {
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let limits = SessionLimits {
        total,
        per_principal,
        idle: Duration::from_mins(1),
    };
    let parts = StoreParts {
        clock: clock.clone(),
        entropy: Entropy::seeded(1),
        tasks: Tasks::new(),
    };
    let store = Store::open(TestDb::sqlite().url(), parts).await.unwrap();
    (Sessions::new(limits, clock.clone(), Entropy::seeded(2), &store), clock)
}

#[tokio::test]
async fn a_session_is_its_owners_alone() {
    let (sessions, _) = sessions(10, 10).await;
    let session = sessions.open(&principal("a"), hello()).unwrap();
    assert!(
        sessions
            .find(session.id.as_str(), &principal("a"), &Scope::Whole)
            .await
            .is_ok()
    );
    for (id, key) in [(session.id.as_str(), "b"), ("nothing", "a"), ("b\u{e4}d", "a")] {
        let failure = sessions.find(id, &principal(key), &Scope::Whole).await.err().unwrap();
        assert_eq!(failure.code, Code::UnknownSession);
    }
    let elsewhere = Scope::Server("docs".into());
    assert!(
        sessions
            .find(session.id.as_str(), &principal("a"), &elsewhere)
            .await
            .is_err()
    );
    assert!(session.id.as_str().len() * 4 >= 128, "an id nobody guesses");
}

#[tokio::test]
async fn an_idle_session_expires_and_a_busy_one_does_not() {
    let (sessions, clock) = sessions(10, 10).await;
    let session = sessions.open(&principal("a"), hello()).unwrap();
    let busy = sessions.busy(&session);
    clock.advance(Duration::from_mins(10));
    assert_eq!(sessions.count(), 1);
    drop(busy);
    clock.advance(Duration::from_secs(59));
    assert!(
        sessions
            .find(session.id.as_str(), &principal("a"), &Scope::Whole)
            .await
            .is_ok(),
        "the end of a call counts as use"
    );
    clock.advance(Duration::from_mins(1));
    assert_eq!(sessions.count(), 0);
    assert!(
        sessions
            .find(session.id.as_str(), &principal("a"), &Scope::Whole)
            .await
            .is_err()
    );
    assert!(session.closed.is_cancelled());
}

#[tokio::test]
async fn the_longest_idle_makes_room() {
    let (sessions, clock) = sessions(3, 2).await;
    let open = |key| {
        clock.advance(Duration::from_secs(1));
        sessions.open(&principal(key), hello())
    };
    let (first, second) = (open("a").unwrap(), open("a").unwrap());
    let other = open("b").unwrap();
    open("a").unwrap();
    assert!(
        first.closed.is_cancelled(),
        "the limit of one principal costs that principal"
    );
    assert!(!other.closed.is_cancelled());
    open("c").unwrap();
    assert!(second.closed.is_cancelled(), "the limit of all costs the oldest");
    let held: Vec<_> = sessions
        .table()
        .values()
        .map(|session| sessions.busy(session))
        .collect();
    assert_eq!(
        sessions.open(&principal("d"), hello()).err().unwrap().code,
        Code::Overloaded
    );
    drop(held);
}

#[tokio::test]
async fn a_tenant_that_has_many_sessions_makes_room_for_its_own() {
    let (sessions, clock) = sessions(4, 4).await;
    let open = |tenant, key| {
        clock.advance(Duration::from_secs(1));
        sessions.open(&of_tenant(tenant, key), hello())
    };
    let small = open("small", "s").unwrap();
    let first = open("large", "a").unwrap();
    let second = open("large", "b").unwrap();
    let third = open("large", "c").unwrap();
    let fourth = open("large", "d").unwrap();
    assert!(
        first.closed.is_cancelled(),
        "its own oldest, which is not the oldest of all"
    );
    open("new", "n").unwrap();
    assert!(
        second.closed.is_cancelled(),
        "a newcomer is let in by whoever has the most"
    );
    let held = [sessions.busy(&third), sessions.busy(&fourth)];
    let refused = open("large", "e").err().unwrap();
    assert_eq!(
        refused.code,
        Code::Overloaded,
        "others do not pay for what it has in use"
    );
    assert!(!small.closed.is_cancelled());
    drop(held);
}

#[tokio::test]
async fn a_revoked_key_ends_its_sessions() {
    let (sessions, _) = sessions(10, 10).await;
    let theirs = sessions.open(&principal("a"), hello()).unwrap();
    let others = sessions.open(&principal("b"), hello()).unwrap();
    sessions.close_key(&KeyId::try_from("a").unwrap());
    assert!(theirs.closed.is_cancelled() && !others.closed.is_cancelled());
}
