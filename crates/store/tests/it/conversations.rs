//! Kept conversations: whole, nobody else's, bounded, in order whatever happens at once, and gone when they expire.

use crate::{at, open};
use forebay_domain::{
    Code, Failure,
    conversation::{ContentKind, NodeRole, OnFull},
    event::Usage,
    id::{SubjectId, TenantId},
};
use forebay_store::{
    Conversations,
    conversations::{
        Append, Appended, ConversationCursor, Created, NODE_BYTES_MAX, NewConversation, Removal, Removed, Room,
        StoredConversation, StoredNode,
    },
    responses::{OwnerKind, ResponseOwner},
};
use forebay_testkit::db::TestDb;
use serde_json::value::RawValue;

const ROOM: Room = Room {
    most: 100,
    on_full: OnFull::Refuse,
};

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn owner(tenant: &str, subject: &str) -> ResponseOwner {
    ResponseOwner {
        tenant: TenantId::try_from(tenant).unwrap(),
        project: None,
        kind: OwnerKind::Key,
        subject: SubjectId::try_from(subject).unwrap(),
    }
}

fn ann() -> ResponseOwner {
    owner("acme", "ann")
}

fn strangers() -> [ResponseOwner; 4] {
    let of_project = ResponseOwner {
        project: Some("heron".parse().unwrap()),
        ..ann()
    };
    let by_token = ResponseOwner {
        kind: OwnerKind::Token,
        ..ann()
    };
    [owner("acme", "bob"), owner("other", "ann"), of_project, by_token]
}

fn node(id: &str, task: &str) -> StoredNode {
    StoredNode {
        id: id.to_owned(),
        parent: None,
        role: NodeRole::User,
        kind: ContentKind::Text,
        content: format!("what {id} says"),
        metadata: raw(r#"{ "z":1.0, "a":[] }"#),
        usage: None,
        task: task.to_owned(),
        created_at: at(1_000),
    }
}

/// One of Ann's, made at 1,000 and good until 5,000, with these nodes.
fn new(id: &str, nodes: &[&str]) -> NewConversation {
    NewConversation {
        id: id.to_owned(),
        owner: ann(),
        key: Some("k1".parse().unwrap()),
        user_label: Some("somebody".to_owned()),
        model: "qwen".to_owned(),
        metadata: raw(r#"{ "session":"user123" }"#),
        created_at: at(1_000),
        expires_at: Some(at(5_000)),
        nodes: nodes.iter().map(|id| node(id, "t0")).collect(),
    }
}

fn append(id: &str, version: Option<i64>, nodes: Vec<StoredNode>) -> Append {
    Append {
        id: id.to_owned(),
        owner: ann(),
        version,
        nodes,
        nodes_max: 10,
        bytes_max: 1_000,
        at: at(2_000),
        expires_at: Some(at(6_000)),
    }
}

/// Ann's task wants this to go.
fn removal(id: &str, task: &str) -> Removal {
    Removal {
        id: id.to_owned(),
        owner: ann(),
        task: task.to_owned(),
        at: at(2_000),
    }
}

async fn make(all: &Conversations, new: &NewConversation) -> StoredConversation {
    match all.create(new, ROOM).await.unwrap() {
        Created::New { conversation, evicted } => {
            assert!(evicted.is_empty());
            *conversation
        }
        other => panic!("{other:?}"),
    }
}

async fn find(all: &Conversations, id: &str) -> StoredConversation {
    all.get(id, &ann(), at(1_000)).await.unwrap().unwrap()
}

/// `id<parent` of each node, in order.
async fn shape(all: &Conversations, id: &str) -> String {
    let nodes = all.nodes(&find(all, id).await).await.unwrap();
    let words = nodes
        .iter()
        .map(|node| format!("{}<{}", node.id, node.parent.as_deref().unwrap_or("")));
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_conversation_is_kept_whole_for_its_owner_alone() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let all = opened.store.conversations();
        let mut wanted = new("c1", &["a", "b"]);
        wanted.nodes[1] = StoredNode {
            parent: Some("a".to_owned()),
            role: NodeRole::Assistant,
            kind: ContentKind::Json,
            content: r#"{"x":"\u0000"}"#.to_owned(),
            usage: Some(Usage {
                input_tokens: 7,
                output_tokens: 9,
                estimated: true,
            }),
            ..node("b", "t0")
        };
        let made = make(&all, &wanted).await;
        let kept = find(&all, "c1").await;
        assert_eq!(
            (made.version, made.nodes, made.bytes),
            (kept.version, kept.nodes, kept.bytes)
        );
        assert_eq!(
            (&kept.owner, &kept.key, &kept.user_label),
            (&wanted.owner, &wanted.key, &wanted.user_label)
        );
        assert_eq!(
            (&kept.model, kept.metadata.get()),
            (&wanted.model, wanted.metadata.get())
        );
        assert_eq!((kept.created_at, kept.expires_at), (at(1_000), Some(at(5_000))));
        let nodes = all.nodes(&kept).await.unwrap();
        assert_eq!(nodes.len(), 2, "{}", db.name());
        for (kept, wanted) in nodes.iter().zip(&wanted.nodes) {
            assert_eq!(
                (&kept.id, &kept.parent, &kept.task),
                (&wanted.id, &wanted.parent, &wanted.task)
            );
            assert_eq!(
                (kept.role, kept.kind, &kept.content),
                (wanted.role, wanted.kind, &wanted.content)
            );
            assert_eq!((kept.metadata.get(), kept.usage), (wanted.metadata.get(), wanted.usage));
        }
        assert!(matches!(all.create(&wanted, ROOM).await.unwrap(), Created::Repeat(_)));

        for stranger in strangers() {
            assert!(all.get("c1", &stranger, at(1_000)).await.unwrap().is_none());
            let list = all.list(&stranger, 10, None, at(1_000)).await.unwrap();
            assert!(list.conversations.is_empty());
            let theirs = Append {
                owner: stranger.clone(),
                ..append("c1", None, vec![node("x", "t9")])
            };
            assert!(matches!(all.append(&theirs).await.unwrap(), Appended::Unknown));
            assert!(!all.touch("c1", &stranger, at(2_000), None).await.unwrap());
            let theirs = Removal {
                owner: stranger,
                ..removal("c1", "t9")
            };
            let deleted = all.delete_node(&theirs, "a", None).await.unwrap();
            assert_eq!(deleted, Removed::NoConversation);
            let deleted = all.delete(&theirs).await.unwrap();
            assert_eq!(deleted, Removed::NoConversation, "{}", db.name());
        }
        assert_eq!(shape(&all, "c1").await, "a< b<a");
        assert_eq!(all.delete(&removal("c1", "t1")).await.unwrap(), Removed::Gone);
        let tally = all.tally(at(1_000)).await.unwrap();
        assert_eq!((tally.conversations, tally.nodes), (0, 0));
        opened.close().await;
    }
}

#[tokio::test]
async fn what_cannot_be_an_id_is_not_there() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let all = opened.store.conversations();
        make(&all, &new("c1", &["a"])).await;
        let long = "x".repeat(10_000);
        for odd in ["\0", long.as_str(), ""] {
            assert!(all.get(odd, &ann(), at(1_000)).await.unwrap().is_none());
            let deleted = all.delete(&removal(odd, "t1")).await.unwrap();
            assert_eq!(deleted, Removed::NoConversation);
            let deleted = all.delete_node(&removal("c1", "t1"), odd, None).await.unwrap();
            assert_eq!(deleted, Removed::NoNode);
            assert!(all.stamps(&[odd.to_owned()], at(1_000)).await.unwrap().is_empty());
        }
        let mut large = append("c1", None, vec![node("b", "t1")]);
        large.nodes[0].content = "x".repeat(NODE_BYTES_MAX + 1);
        let refused = all.append(&large).await.unwrap_err();
        assert_eq!(Failure::from(refused).code, Code::BodyTooLarge);
        opened.close().await;
    }
}

#[tokio::test]
async fn nodes_are_added_once_over_what_was_read() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let all = opened.store.conversations();
        let made = make(&all, &new("c1", &["a"])).await;
        let both = append("c1", Some(made.version), vec![node("b", "t1"), node("c", "t1")]);
        let Appended::Added(now, nodes) = all.append(&both).await.unwrap() else {
            panic!("{}", db.name());
        };
        assert_eq!(
            (now.nodes, now.updated_at, now.expires_at),
            (3, at(2_000), Some(at(6_000)))
        );
        assert_eq!(nodes[1].parent.as_deref(), Some("b"));
        assert_eq!(shape(&all, "c1").await, "a< b<a c<b");
        assert!(matches!(all.append(&both).await.unwrap(), Appended::Repeat));
        let stale = append("c1", Some(made.version), vec![node("d", "t2")]);
        assert!(matches!(all.append(&stale).await.unwrap(), Appended::Changed));
        let mut below = node("d", "t2");
        below.parent = Some("a".to_owned());
        assert!(matches!(
            all.append(&append("c1", None, vec![below])).await.unwrap(),
            Appended::Added(..)
        ));
        let mut orphan = node("e", "t3");
        orphan.parent = Some("nobody".to_owned());
        let refused = all.append(&append("c1", None, vec![orphan])).await.unwrap();
        assert!(matches!(refused, Appended::NoParent(parent) if parent == "nobody"));
        assert_eq!(shape(&all, "c1").await, "a< b<a c<b d<a");
        opened.close().await;
    }
}

#[tokio::test]
async fn a_node_that_goes_leaves_its_children_to_its_parent_and_its_room_to_others() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let all = opened.store.conversations();
        let mut wanted = new("c1", &["a", "b", "c"]);
        wanted.nodes[1].parent = Some("a".to_owned());
        wanted.nodes[1].content = "ä".repeat(400);
        wanted.nodes[2].parent = Some("b".to_owned());
        let made = make(&all, &wanted).await;
        let full = append("c1", None, vec![node("d", "t1")]);
        let full = Append {
            bytes_max: made.bytes + full.nodes[0].weight() - 1,
            ..full
        };
        assert!(matches!(
            all.append(&full).await.unwrap(),
            Appended::Full { nodes: 4, .. }
        ));
        let gone = all.delete_node(&removal("c1", "t9"), "b", None).await.unwrap();
        assert_eq!(gone, Removed::Gone);
        let now = find(&all, "c1").await;
        assert_eq!(
            (now.nodes, now.bytes),
            (2, made.bytes - wanted.nodes[1].weight()),
            "{}",
            db.name()
        );
        assert!(now.version > made.version && now.expires_at.is_none());
        assert_eq!(shape(&all, "c1").await, "a< c<a");
        assert!(matches!(all.append(&full).await.unwrap(), Appended::Added(..)));
        assert_eq!(shape(&all, "c1").await, "a< c<a d<c");
        let many = append("c1", None, (0..8).map(|n| node(&format!("n{n}"), "t2")).collect());
        assert!(matches!(
            all.append(&many).await.unwrap(),
            Appended::Full { nodes: 11, .. }
        ));
        opened.close().await;
    }
}

#[tokio::test]
async fn what_a_task_took_away_it_is_not_told_to_be_unknown() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let all = opened.store.conversations();
        make(&all, &new("c1", &["a", "b"])).await;
        for (task, expected) in [("t1", Removed::Gone), ("t1", Removed::Repeat), ("t2", Removed::NoNode)] {
            let came = all.delete_node(&removal("c1", task), "b", None).await.unwrap();
            assert_eq!(came, expected, "{} {task}", db.name());
        }
        for (task, expected) in [
            ("t3", Removed::Gone),
            ("t3", Removed::Repeat),
            ("t4", Removed::NoConversation),
        ] {
            let came = all.delete(&removal("c1", task)).await.unwrap();
            assert_eq!(came, expected, "{} {task}", db.name());
        }
        // A task that wanted a node of it learns that it was done, though the whole is gone.
        let came = all.delete_node(&removal("c1", "t1"), "b", None).await.unwrap();
        assert_eq!(came, Removed::Repeat);
        let a_month = 31 * 24 * 3_600_000;
        for (now_ms, known) in [(2_000 + a_month - 1, 2), (2_000 + a_month, 0)] {
            all.sweep(at(now_ms)).await.unwrap();
            assert_eq!(db.number("SELECT COUNT(*) FROM conversation_removal").await, known);
        }
        opened.close().await;
    }
}

#[tokio::test]
async fn those_who_add_at_once_all_add() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let all = opened.store.conversations();
        make(&all, &new("c1", &[])).await;
        let adding = (0..20).map(|n| {
            let all = all.clone();
            async move {
                let task = format!("t{n}");
                let nodes = vec![node(&format!("q{n}"), &task), node(&format!("r{n}"), &task)];
                let wanted = Append {
                    nodes_max: 100,
                    bytes_max: 100_000,
                    ..append("c1", None, nodes)
                };
                all.append(&wanted).await.unwrap()
            }
        });
        let done = futures_util::future::join_all(adding).await;
        assert!(
            done.iter().all(|one| matches!(one, Appended::Added(..))),
            "{}",
            db.name()
        );
        let found = find(&all, "c1").await;
        let nodes = all.nodes(&found).await.unwrap();
        assert_eq!((found.nodes, nodes.len()), (40, 40));
        for pair in nodes.chunks(2) {
            assert_eq!(
                pair[0].id[1..],
                pair[1].id[1..],
                "a question and its answer stand together"
            );
            assert_eq!(pair[1].parent.as_ref(), Some(&pair[0].id));
        }
        opened.close().await;
    }
}

#[tokio::test]
async fn a_tenant_has_as_many_as_it_may_have_whoever_makes_them_at_once() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let all = opened.store.conversations();
        let room = Room { most: 5, ..ROOM };
        let making = (0..20).map(|n| {
            let all = all.clone();
            async move {
                let wanted = NewConversation {
                    owner: owner("acme", ["ann", "bob"][n % 2]),
                    ..new(&format!("c{n}"), &["a"])
                };
                all.create(&wanted, room).await.unwrap()
            }
        });
        let done = futures_util::future::join_all(making).await;
        let made = done.iter().filter(|one| matches!(one, Created::New { .. })).count();
        let full = done
            .iter()
            .filter(|one| matches!(one, Created::Full { count: 5 }))
            .count();
        assert_eq!((made, full), (5, 15), "{}", db.name());
        // Another tenant has its own room, and so has this one once those have expired.
        let others = NewConversation {
            owner: owner("other", "ann"),
            ..new("o1", &[])
        };
        assert!(matches!(all.create(&others, room).await.unwrap(), Created::New { .. }));
        let later = NewConversation {
            created_at: at(5_000),
            expires_at: Some(at(9_000)),
            ..new("later", &[])
        };
        assert!(matches!(all.create(&later, room).await.unwrap(), Created::New { .. }));
        opened.close().await;
    }
}

#[tokio::test]
async fn the_one_that_was_not_used_for_longest_makes_room() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let all = opened.store.conversations();
        for (n, id) in ["c1", "c2", "c3"].into_iter().enumerate() {
            let created_at = at(1_000 + i64::try_from(n).unwrap());
            make(
                &all,
                &NewConversation {
                    created_at,
                    ..new(id, &["a"])
                },
            )
            .await;
        }
        assert!(all.touch("c1", &ann(), at(1_500), Some(at(5_000))).await.unwrap());
        let room = Room {
            most: 2,
            on_full: OnFull::EvictOldest,
        };
        let made = all
            .create(
                &NewConversation {
                    created_at: at(2_000),
                    ..new("c4", &[])
                },
                room,
            )
            .await
            .unwrap();
        let Created::New { evicted, .. } = made else {
            panic!("{made:?}")
        };
        assert_eq!(evicted, ["c2", "c3"], "{}", db.name());
        assert!(all.get("c1", &ann(), at(2_000)).await.unwrap().is_some());
        let tally = all.tally(at(2_000)).await.unwrap();
        assert_eq!((tally.conversations, tally.nodes), (2, 1));
        opened.close().await;
    }
}

#[tokio::test]
async fn what_expired_is_gone_and_is_swept() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let all = opened.store.conversations();
        for n in 0..45 {
            make(&all, &new(&format!("c{n}"), &["a"])).await;
        }
        let lasting = NewConversation {
            expires_at: None,
            ..new("lasting", &["a"])
        };
        make(&all, &lasting).await;
        assert!(all.touch("c0", &ann(), at(4_000), Some(at(8_000))).await.unwrap());
        assert!(
            !all.touch("c1", &ann(), at(5_000), Some(at(9_000))).await.unwrap(),
            "too late"
        );
        assert!(all.get("c1", &ann(), at(5_000)).await.unwrap().is_none());
        let late = Append {
            at: at(5_000),
            ..append("c1", None, vec![node("b", "t1")])
        };
        assert!(matches!(all.append(&late).await.unwrap(), Appended::Unknown));
        let tally = all.tally(at(5_000)).await.unwrap();
        assert_eq!((tally.conversations, tally.expired), (2, 44));
        let mut swept = 0;
        loop {
            let (gone, is_more) = all.sweep(at(5_000)).await.unwrap();
            swept += gone;
            if !is_more {
                break;
            }
        }
        assert_eq!(swept, 44, "{}", db.name());
        let tally = all.tally(at(1_000)).await.unwrap();
        assert_eq!((tally.conversations, tally.nodes, tally.expired), (2, 2, 0));
        opened.close().await;
    }
}

#[tokio::test]
async fn a_walk_over_the_pages_meets_each_once_and_stamps_tell_changes() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let all = opened.store.conversations();
        for n in 0..7 {
            let created_at = at(1_000 + n / 3);
            make(
                &all,
                &NewConversation {
                    created_at,
                    ..new(&format!("c{n}"), &[])
                },
            )
            .await;
        }
        let (mut after, mut met): (Option<ConversationCursor>, Vec<String>) = (None, Vec::new());
        loop {
            let page = all.list(&ann(), 3, after.as_ref(), at(1_000)).await.unwrap();
            met.extend(page.conversations.into_iter().map(|one| one.id));
            // What changes meanwhile does not move.
            let touched = append("c0", None, vec![node(&format!("n{}", met.len()), "t1")]);
            all.append(&touched).await.unwrap();
            let Some(next) = page.next else { break };
            after = Some(next.to_string().parse().unwrap());
        }
        assert_eq!(met, ["c6", "c5", "c4", "c3", "c2", "c1", "c0"], "{}", db.name());
        for odd in ["", "1", ".c", "-1.c", "1.", "1.\0"] {
            assert!(odd.parse::<ConversationCursor>().is_err(), "{odd:?}");
        }
        let asked = ["c0", "c1", "nothing"].map(str::to_owned);
        let mut stamps = all.stamps(&asked, at(1_000)).await.unwrap();
        stamps.sort();
        assert_eq!(stamps, [("c0".to_owned(), at(2_000)), ("c1".to_owned(), at(1_000))]);
        opened.close().await;
    }
}
