//! Pins: what was approved stays, what changed waits, and two replicas agree.

use crate::{Opened, at, open};
use forebay_domain::{
    id::SubjectId,
    quarantine::{DefinitionName, Flag, Inspected, Kind, OnFlags, Policy, Reaction, ServerName, Verdict, Why, inspect},
};
use forebay_store::mcp::pins::{Chosen, Pin, Reviewed};
use forebay_testkit::db::TestDb;
use serde_json::value::RawValue;
use std::sync::Arc;

fn server() -> ServerName {
    ServerName::try_from("docs").unwrap()
}

fn tool(name: &str, description: &str) -> Inspected {
    let text = format!("{{ \"name\":\"{name}\",\"description\":\"{description}\" }}");
    let raw: Box<RawValue> = serde_json::from_str(&text).unwrap();
    inspect(Kind::Tool, &raw).unwrap()
}

fn name(text: &str) -> DefinitionName {
    DefinitionName::try_from(text).unwrap()
}

fn ann() -> SubjectId {
    SubjectId::try_from("ann").unwrap()
}

const STRICT: Policy = Policy {
    first_seen: Reaction::Hold,
    changed: Reaction::Hold,
    flagged: OnFlags::Hold,
};

/// Lists these tools (`name=description`), and says what becomes of each.
async fn list(opened: &Opened, policy: Policy, tools: &str, at_ms: i64) -> String {
    let split = |tool: &str| {
        let (name, description) = tool.split_once('=').unwrap();
        self::tool(name, description)
    };
    let seen: Arc<[Inspected]> = tools.split(';').map(split).collect();
    let verdicts = opened
        .store
        .pins()
        .record_seen(&server(), policy, seen, at(at_ms))
        .await;
    let word = |verdict: &Verdict| match verdict {
        Verdict::Offered => "offered",
        Verdict::Held(why) => match why {
            Why::FirstSeen => "first_seen",
            Why::Changed => "changed",
            Why::Flagged(_) => "flagged",
            Why::TooMany => "too_many",
        },
    };
    verdicts.unwrap().iter().map(word).collect::<Vec<_>>().join(" ")
}

/// What is known: `name: approved/held`, each as the first letters of a fingerprint of the tools named here.
async fn known(opened: &Opened) -> String {
    let shown = |pin: &Pin| {
        let word = |known: Option<_>| {
            let described = ["one", "two", "three", "a\u{200b}b"];
            let found = known.map(|fingerprint| {
                described
                    .into_iter()
                    .find(|text| tool(pin.name.as_str(), text).fingerprint == fingerprint)
                    .unwrap_or("?")
            });
            found.unwrap_or("-").replace('\u{200b}', "_")
        };
        let approved = word(pin.approved.as_ref().map(|one| one.fingerprint));
        let held = word(pin.held.as_ref().map(|one| one.fingerprint));
        format!("{}: {approved}/{held}", pin.name)
    };
    let pins = opened.store.pins().of(&server()).await.unwrap();
    pins.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn what_changes_waits_beside_what_was_approved_and_may_go_back() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let policy = Policy::default();
        let first = list(&opened, policy, "a=one;b=one", 1_000).await;
        assert_eq!(first, "offered offered", "{}", db.name());
        assert_eq!(list(&opened, policy, "a=two;b=one", 2_000).await, "changed offered");
        assert_eq!(known(&opened).await, "a: one/two, b: one/-");
        assert_eq!(list(&opened, policy, "a=three", 3_000).await, "changed");
        assert_eq!(
            known(&opened).await,
            "a: one/three, b: one/-",
            "what is not listed stays known"
        );
        assert_eq!(list(&opened, policy, "a=one;b=two", 4_000).await, "offered changed");
        assert_eq!(known(&opened).await, "a: one/-, b: one/two");

        let pins = opened.store.pins().of(&server()).await.unwrap();
        assert_eq!(pins[1].held.as_ref().unwrap().since, at(4_000));
        assert_eq!(pins[1].held.as_ref().unwrap().why, Why::Changed);
        assert_eq!(
            (pins[1].first_seen_at, pins[1].decided_at),
            (at(1_000), Some(at(1_000)))
        );
        assert_eq!(pins[1].decided_by, None, "the policy did");
        opened.close().await;
    }
}

#[tokio::test]
async fn an_approval_is_of_what_was_looked_at() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let pins = opened.store.pins();
        list(&opened, Policy::default(), "a=one;b=one;c=one", 1_000).await;
        list(&opened, Policy::default(), "a=two;b=two;c=two", 2_000).await;
        let waiting = pins.waiting(&server()).await.unwrap();
        assert_eq!(waiting.len(), 3);
        assert_eq!(waiting[0].held.get(), tool("a", "two").original.get(), "byte for byte");
        assert_eq!(
            waiting[0].approved.as_ref().unwrap().get(),
            tool("a", "one").original.get()
        );

        list(&opened, Policy::default(), "a=three", 3_000).await;
        let looked_at = |name: &str, description| Reviewed {
            kind: Kind::Tool,
            name: self::name(name),
            fingerprint: Some(tool(name, description).fingerprint),
        };
        let unseen = Reviewed {
            fingerprint: None,
            ..looked_at("nobody", "two")
        };
        let chosen = Chosen::These(vec![looked_at("a", "two"), looked_at("b", "two"), unseen]);
        let approved = pins.approve(&server(), chosen, &ann(), at(4_000)).await.unwrap();
        let names: Vec<_> = approved.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["b"], "{}: `a` had changed once more", db.name());
        assert_eq!(approved[0].old.as_ref().unwrap().get(), tool("b", "one").original.get());
        assert_eq!(approved[0].new.get(), tool("b", "two").original.get());
        assert_eq!(known(&opened).await, "a: one/three, b: two/-, c: one/two");
        let b = &pins.of(&server()).await.unwrap()[1];
        assert_eq!((b.decided_at, b.decided_by.clone()), (Some(at(4_000)), Some(ann())));

        let rest = pins.approve(&server(), Chosen::All, &ann(), at(5_000)).await.unwrap();
        assert_eq!(rest.len(), 2);
        assert_eq!(
            list(&opened, STRICT, "a=three;b=two;c=two", 6_000).await,
            "offered offered offered"
        );
        assert!(pins.waiting(&server()).await.unwrap().is_empty());
        opened.close().await;
    }
}

#[tokio::test]
async fn what_was_never_approved_waits_as_the_policy_of_the_day_says() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        assert_eq!(
            list(&opened, STRICT, "a=one;h=a\u{200b}b", 1_000).await,
            "first_seen flagged"
        );
        assert_eq!(known(&opened).await, "a: -/one, h: -/a_b", "{}", db.name());
        let waiting = opened.store.pins().waiting(&server()).await.unwrap();
        assert!(waiting[0].approved.is_none());
        assert_eq!(waiting[1].pin.flags, [Flag::HiddenCharacters].into());
        assert_eq!(waiting[1].pin.why, Why::Flagged([Flag::HiddenCharacters].into()));
        let mild = Policy::default();
        assert_eq!(
            list(&opened, mild, "a=one;h=a\u{200b}b", 2_000).await,
            "offered flagged"
        );
        assert_eq!(known(&opened).await, "a: one/-, h: -/a_b");
        opened.close().await;
    }
}

#[tokio::test]
async fn of_two_first_versions_one_is_offered_everywhere() {
    for db in TestDb::both().await {
        let (one, two) = tokio::join!(open(&db), open(&db));
        for round in 0..10 {
            let (first, second) = (format!("t{round}=one"), format!("t{round}=two"));
            let (first, second) = tokio::join!(
                list(&one, Policy::default(), &first, 1_000),
                list(&two, Policy::default(), &second, 1_000)
            );
            let mut both = [first.as_str(), second.as_str()];
            both.sort_unstable();
            assert_eq!(both, ["changed", "offered"], "{}", db.name());
        }
        one.close().await;
        two.close().await;
    }
}

#[tokio::test]
async fn a_name_that_is_listed_twice_is_judged_twice() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        for _ in 0..2 {
            let verdicts = list(&opened, Policy::default(), "a=one;a=two;a=one;a=three", 1_000).await;
            assert_eq!(verdicts, "offered changed offered changed", "{}", db.name());
            assert_eq!(known(&opened).await, "a: one/three");
        }
        opened.close().await;
    }
}

#[tokio::test]
async fn kinds_and_servers_are_kept_apart_and_a_server_can_be_forgotten() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let pins = opened.store.pins();
        list(&opened, Policy::default(), "a=one", 1_000).await;
        let prompt = inspect(Kind::Prompt, &tool("a", "two").original).unwrap();
        let verdict = pins
            .record_seen(&server(), Policy::default(), [prompt].into(), at(1_000))
            .await;
        assert_eq!(verdict.unwrap(), [Verdict::Offered], "a prompt of that name is no tool");
        let other = ServerName::try_from("other").unwrap();
        let verdict = pins
            .record_seen(&other, Policy::default(), [tool("a", "two")].into(), at(1_000))
            .await;
        assert_eq!(verdict.unwrap(), [Verdict::Offered]);

        assert_eq!(pins.forget(&server()).await.unwrap(), 2, "{}", db.name());
        assert_eq!(pins.of(&server()).await.unwrap(), []);
        assert_eq!(pins.of(&other).await.unwrap().len(), 1);
        assert_eq!(list(&opened, Policy::default(), "a=three", 2_000).await, "offered");
        opened.close().await;
    }
}

#[tokio::test]
async fn thousands_of_tools_are_listed_and_a_listing_without_news_writes_nothing() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let pins = opened.store.pins();
        let seen: Arc<[Inspected]> = (0..2_000).map(|n| tool(&format!("t{n}"), "one")).collect();
        let docs = server();
        let listing = |at_ms| pins.record_seen(&docs, Policy::default(), seen.clone(), at(at_ms));
        let verdicts = listing(1_000).await.unwrap();
        assert_eq!(verdicts, vec![Verdict::Offered; 2_000]);
        assert_eq!(db.number("SELECT COUNT(*) FROM tool_pin").await, 2_000, "{}", db.name());
        listing(2_000).await.unwrap();
        let noted = "SELECT COUNT(*) FROM tool_pin WHERE seen_at_ms = ";
        assert_eq!(db.number(&format!("{noted}1000")).await, 2_000);
        let later = 1_000 + 60 * 60 * 1_000;
        listing(later).await.unwrap();
        assert_eq!(db.number(&format!("{noted}{later}")).await, 2_000, "once an hour");

        let changed: Arc<[Inspected]> = (0..2_000).map(|n| tool(&format!("t{n}"), "two")).collect();
        let held = pins
            .record_seen(&server(), Policy::default(), changed, at(later))
            .await
            .unwrap();
        assert_eq!(held, vec![Verdict::Held(Why::Changed); 2_000]);
        let approved = pins.approve(&server(), Chosen::All, &ann(), at(later)).await.unwrap();
        assert_eq!(approved.len(), 2_000);
        opened.close().await;
    }
}

#[tokio::test]
async fn a_row_that_somebody_wrote_by_hand_is_not_believed() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        list(&opened, Policy::default(), "a=one", 1_000).await;
        db.execute("UPDATE tool_pin SET approved_fingerprint = 'nonsense'")
            .await;
        let read = opened.store.pins().of(&server()).await.unwrap_err();
        assert!(read.to_string().contains("fingerprint"), "{}: {read}", db.name());
        let seen: Arc<[Inspected]> = [tool("a", "one")].into();
        let recorded = opened
            .store
            .pins()
            .record_seen(&server(), Policy::default(), seen, at(1))
            .await;
        assert!(recorded.is_err(), "nothing is offered on the word of such a row");
        opened.close().await;
    }
}
