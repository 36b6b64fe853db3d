//! Kept answers: whole, nobody else's, gone when they expire, bounded; conversations from their beginning.

use crate::{at, open};
use forebay_domain::{
    Code, Failure,
    id::{KeyId, SubjectId, TenantId},
};
use forebay_store::{
    Responses,
    responses::{Chain, DOCUMENT_BYTES_MAX, OWNER_BYTES_MAX, OwnerKind, ResponseOwner, StoredResponse, WORD_BYTES_MAX},
};
use forebay_testkit::db::TestDb;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// Most answers that one owner keeps in these tests.
const MOST: u32 = 320;

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

/// Others who are called Ann.
fn namesakes() -> [ResponseOwner; 3] {
    let of_project = |name: &str| ResponseOwner {
        project: Some(name.parse().unwrap()),
        ..ann()
    };
    let by_token = ResponseOwner {
        kind: OwnerKind::Token,
        ..ann()
    };
    [of_project("heron"), of_project("ann"), by_token]
}

/// An answer to Ann, made at 1,000 and good until 5,000.
fn response(id: &str, previous: Option<&str>) -> StoredResponse {
    StoredResponse {
        id: id.to_owned(),
        owner: ann(),
        key: Some(KeyId::try_from("k1").unwrap()),
        previous_id: previous.map(ToOwned::to_owned),
        model: "qwen".to_owned(),
        status: "completed".to_owned(),
        created_at: at(1_000),
        expires_at: at(5_000),
        input: raw(r#"[ {"role":"user"} ]"#),
        body: raw(&format!(r#"{{ "id":"{id}", "x":1.0, "nul":"\\u0000" }}"#)),
    }
}

fn ids(chain: &Chain) -> Vec<&str> {
    chain.responses.iter().map(|one| one.id.as_str()).collect()
}

#[tokio::test]
async fn an_answer_is_kept_whole_for_its_owner_alone() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let responses = opened.store.responses();
        let new = response("r1", Some("r0"));
        responses.put(&new, MOST).await.unwrap();
        let kept = responses.get("r1", &ann(), at(1_000)).await.unwrap().unwrap();
        assert_eq!(
            (kept.owner, kept.key, kept.previous_id),
            (new.owner, new.key, new.previous_id)
        );
        assert_eq!((kept.model, kept.status), (new.model, new.status));
        assert_eq!((kept.created_at, kept.expires_at), (new.created_at, new.expires_at));
        assert_eq!(
            (kept.input.get(), kept.body.get()),
            (new.input.get(), new.body.get()),
            "{}",
            db.name()
        );

        let strangers = [owner("acme", "bob"), owner("other", "ann"), owner("Acme", "ann")];
        for stranger in strangers.into_iter().chain(namesakes()) {
            assert!(responses.get("r1", &stranger, at(1_000)).await.unwrap().is_none());
            assert!(!responses.delete("r1", &stranger).await.unwrap(), "{}", db.name());
            let chain = responses.chain("r1", &stranger, 10, at(1_000)).await.unwrap();
            assert!(chain.responses.is_empty() && !chain.whole);
            let mut taken = response("r1", None);
            taken.owner = stranger;
            let refused = responses.put(&taken, MOST).await.unwrap_err();
            assert_eq!(Failure::from(refused).code, Code::Conflict);
        }
        assert!(responses.delete("r1", &ann()).await.unwrap());
        assert!(!responses.delete("r1", &ann()).await.unwrap());
        assert!(responses.get("r1", &ann(), at(1_000)).await.unwrap().is_none());
        opened.close().await;
    }
}

#[tokio::test]
async fn an_answer_that_expired_is_gone() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let responses = opened.store.responses();
        for n in 0..250 {
            responses.put(&response(&format!("r{n}"), None), MOST).await.unwrap();
        }
        let mut longer = response("longer", Some("r1"));
        longer.expires_at = at(9_000);
        responses.put(&longer, MOST).await.unwrap();
        assert!(responses.get("r1", &ann(), at(4_999)).await.unwrap().is_some());
        assert!(
            responses.get("r1", &ann(), at(5_000)).await.unwrap().is_none(),
            "{}",
            db.name()
        );
        let chain = responses.chain("longer", &ann(), 10, at(5_000)).await.unwrap();
        assert_eq!((ids(&chain), chain.whole), (vec!["longer"], false));

        assert_eq!(responses.sweep(at(4_999)).await.unwrap(), 0);
        assert_eq!(responses.sweep(at(5_000)).await.unwrap(), 250, "in portions");
        assert_eq!(db.number("SELECT COUNT(*) FROM response").await, 1);
        opened.close().await;
    }
}

#[tokio::test]
async fn a_conversation_is_read_from_its_beginning() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let responses = opened.store.responses();
        for (id, previous) in [
            ("a", None),
            ("c", Some("a")),
            ("b", Some("c")),
            ("side", Some("a")),
            ("loop", Some("loop")),
        ] {
            responses.put(&response(id, previous), MOST).await.unwrap();
        }
        let mut theirs = response("theirs", None);
        theirs.owner = owner("acme", "bob");
        responses.put(&theirs, MOST).await.unwrap();
        responses.put(&response("stolen", Some("theirs")), MOST).await.unwrap();

        let read = async |id: &str, depth| responses.chain(id, &ann(), depth, at(1_000)).await.unwrap();
        let chain = read("b", 10).await;
        assert_eq!((ids(&chain), chain.whole), (vec!["a", "c", "b"], true), "{}", db.name());
        assert!(chain.responses[2].body.get().contains("\"b\""));
        assert_eq!(ids(&read("side", 10).await), ["a", "side"]);
        let chain = read("b", 2).await;
        assert_eq!((ids(&chain), chain.whole), (vec!["c", "b"], false));
        let chain = read("stolen", 10).await;
        assert_eq!(
            (ids(&chain), chain.whole),
            (vec!["stolen"], false),
            "nobody goes on from another's answer"
        );
        let chain = read("loop", 10).await;
        assert_eq!((ids(&chain), chain.whole), (vec!["loop"], false));
        assert!(read("none", 10).await.responses.is_empty());

        responses.delete("c", &ann()).await.unwrap();
        let chain = read("b", 10).await;
        assert_eq!((ids(&chain), chain.whole), (vec!["b"], false));
        opened.close().await;
    }
}

async fn put_numbered(responses: &Responses, n: u32, bytes: usize) -> u64 {
    let mut new = response(
        &format!("r{n:04}"),
        (n > 0).then(|| format!("r{:04}", n - 1)).as_deref(),
    );
    new.created_at = at(1_000 + i64::from(n));
    new.body = raw(&format!("\"{}\"", "x".repeat(bytes)));
    responses.put(&new, MOST).await.unwrap()
}

#[tokio::test]
async fn the_oldest_make_room() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let responses = opened.store.responses();
        for (at_ms, stranger) in (1..).zip(namesakes()) {
            let mut theirs = response(&format!("theirs{at_ms}"), None);
            (theirs.owner, theirs.created_at) = (stranger, at(at_ms));
            responses.put(&theirs, 1).await.unwrap();
        }
        let rows = (0..MOST).map(|n| {
            format!(
                "('old{n:04}', 'acme', '', 'key', 'ann', 'm', 's', {}, 5000, 2, '1', '1')",
                10 + n
            )
        });
        let rows = rows.collect::<Vec<_>>().join(", ");
        db.execute(&format!(
            "INSERT INTO response (id, tenant, project, kind, subject, model, status, created_at_ms, expires_at_ms, bytes, \
             input, body) VALUES {rows}"
        ))
        .await;
        assert_eq!(
            put_numbered(&responses, 5_000, 10).await,
            21,
            "{}: with some slack",
            db.name()
        );
        let held = "SELECT COUNT(*) FROM response WHERE id NOT LIKE 'theirs%'";
        assert_eq!(db.number(held).await, 300, "{}", db.name());
        assert!(responses.get("old0020", &ann(), at(1)).await.unwrap().is_none());
        assert!(responses.get("old0021", &ann(), at(1)).await.unwrap().is_some());
        assert_eq!(put_numbered(&responses, 5_001, 10).await, 0, "{}", db.name());

        let newest = format!(
            "UPDATE response SET bytes = {} WHERE id = 'old0319'",
            OWNER_BYTES_MAX - 40
        );
        db.execute(&newest).await;
        put_numbered(&responses, 5_002, 10).await;
        assert_eq!(db.number(held).await, 3, "{}: bytes count too", db.name());
        let theirs = "SELECT COUNT(*) FROM response WHERE id LIKE 'theirs%'";
        assert_eq!(db.number(theirs).await, 3, "{}: one's own alone", db.name());
        opened.close().await;
    }
}

#[tokio::test]
async fn many_are_counted_now_and_then() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let responses = opened.store.responses();
        let most = 1_001;
        let rows =
            (0..most).map(|n| format!("('old{n:04}', 'acme', '', 'key', 'ann', 'm', 's', {n}, 5000, 2, '1', '1')"));
        let rows = rows.collect::<Vec<_>>().join(", ");
        db.execute(&format!(
            "INSERT INTO response (id, tenant, project, kind, subject, model, status, created_at_ms, expires_at_ms, bytes, \
             input, body) VALUES {rows}"
        ))
        .await;
        let mut kept = 0;
        for n in 0..200_u64 {
            // As the gateway draws them, but the same in each run.
            let drawn = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            kept += 1;
            if responses
                .put(&response(&format!("resp_{drawn:016x}"), None), most)
                .await
                .unwrap()
                > 0
            {
                break;
            }
        }
        assert!((2..100).contains(&kept), "{}: after {kept}", db.name());
        assert_eq!(db.number("SELECT COUNT(*) FROM response").await, 939, "{}", db.name());
        opened.close().await;
    }
}

#[tokio::test]
async fn what_was_agreed_to_is_claimed_once() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let responses = opened.store.responses();
        let claim = async |owner: &ResponseOwner, requests: &[&str]| {
            let requests = requests.iter().map(|&request| request.to_owned()).collect();
            responses.claim(owner, requests, at(5_000)).await
        };
        let set = |requests: &[&str]| {
            requests
                .iter()
                .map(|&request| request.to_owned())
                .collect::<BTreeSet<_>>()
        };
        let ann = ann();
        let all = tokio::join!(
            claim(&ann, &["a", "b"]),
            claim(&ann, &["b", "a"]),
            claim(&ann, &["a"]),
            claim(&ann, &["b"])
        );
        let won: Vec<String> = [all.0, all.1, all.2, all.3]
            .into_iter()
            .flat_map(|claimed| claimed.unwrap())
            .collect();
        assert_eq!(
            (won.len(), won.into_iter().collect()),
            (2, set(&["a", "b"])),
            "{}",
            db.name()
        );
        assert_eq!(claim(&ann, &["a", "c"]).await.unwrap(), set(&["c"]));
        for stranger in namesakes() {
            assert_eq!(claim(&stranger, &["a"]).await.unwrap(), set(&["a"]), "{}", db.name());
        }
        let long = "x".repeat(WORD_BYTES_MAX + 1);
        assert!(claim(&ann, &["d", &long]).await.is_err());
        assert_eq!(claim(&ann, &["d"]).await.unwrap(), set(&["d"]), "all or none");

        responses.sweep(at(4_999)).await.unwrap();
        assert_eq!(db.number("SELECT COUNT(*) FROM approval_claim").await, 7);
        responses.sweep(at(5_000)).await.unwrap();
        assert_eq!(
            db.number("SELECT COUNT(*) FROM approval_claim").await,
            0,
            "{}",
            db.name()
        );
        opened.close().await;
    }
}

#[tokio::test]
async fn answers_of_the_version_before_keep_their_owners() {
    for db in TestDb::both().await {
        open(&db).await.close().await;

        db.execute(
            "DROP TABLE approval_claim; DROP INDEX response_of_owner; ALTER TABLE response DROP COLUMN project; \
             ALTER TABLE response DROP COLUMN kind; DELETE FROM _sqlx_migrations WHERE version = 9",
        )
        .await;
        let index = "CREATE INDEX response_of_owner ON response (tenant, subject, created_at_ms, id, bytes)";
        db.execute(index).await;
        let hash = if db.is_postgres() { "'\\x00'::bytea" } else { "x'00'" };
        db.execute(&format!(
            "INSERT INTO api_key (id, hash, tenant, project, subject, role, grants, created_at_ms) \
             VALUES ('k1', {hash}, 'acme', 'heron', 'ann', 'user', '[]', 1)"
        ))
        .await;
        for (id, key) in [("by-key", "'k1'"), ("by-lost-key", "'k2'"), ("by-token", "NULL")] {
            db.execute(&format!(
                "INSERT INTO response (id, tenant, subject, key_id, model, status, created_at_ms, expires_at_ms, bytes, \
                 input, body) VALUES ('{id}', 'acme', 'ann', {key}, 'm', 's', 1, 5000, 2, '1', '1')"
            ))
            .await;
        }
        let opened = open(&db).await;
        let [of_heron, _, by_token] = namesakes();
        for (id, owner) in [("by-key", of_heron), ("by-lost-key", ann()), ("by-token", by_token)] {
            let found = opened.store.responses().get(id, &owner, at(1)).await.unwrap();
            assert!(found.is_some(), "{}: {id}", db.name());
        }
        opened.close().await;
    }
}

#[tokio::test]
async fn answers_and_conversations_are_bounded() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let responses = opened.store.responses();
        let large = || raw(&format!("\"{}\"", "x".repeat(DOCUMENT_BYTES_MAX)));
        let mut body = response("a", None);
        body.body = large();
        let mut input = response("a", None);
        input.input = large();
        let mut model = response("a", None);
        model.model = "x".repeat(WORD_BYTES_MAX + 1);
        let id = response(&"x".repeat(WORD_BYTES_MAX + 1), None);
        for refused in [body, input, model, id] {
            let refused = responses.put(&refused, MOST).await.unwrap_err();
            assert_eq!(Failure::from(refused).code, Code::BodyTooLarge, "{}", db.name());
        }
        for n in 0..5 {
            put_numbered(&responses, n, 1_000_000).await;
        }
        let chain = responses.chain("r0003", &ann(), 10, at(1_000)).await.unwrap();
        assert_eq!(chain.responses.len(), 4);
        let refused = responses.chain("r0004", &ann(), 10, at(1_000)).await.unwrap_err();
        assert_eq!(Failure::from(refused).code, Code::BodyTooLarge);
        opened.close().await;
    }
}
