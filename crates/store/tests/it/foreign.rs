//! Somebody else's PostgreSQL: everything can be read, nothing can be changed, and nobody waits for ever.

use crate::until;
use forebay_domain::{Code, Failure};
use forebay_runtime::secret::Secret;
use forebay_store::{
    Foreign, StoreError,
    foreign::{ANSWER_BYTES_MAX, CONNECTIONS_MAX, ForeignFault, Param, PoolState, ROW_BYTES_MAX, Search, Target, Tls},
};
use forebay_testkit::db::TestDb;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use url::Url;

const TIMEOUT: Duration = Duration::from_secs(20);
/// Less than a pool waits for a connection.
const AT_ONCE: Duration = Duration::from_millis(2_500);

fn target(db: &TestDb) -> Target {
    let url = Url::parse(db.url()).unwrap();
    Target {
        host: url.host_str().unwrap().to_owned(),
        address: None,
        port: url.port().unwrap(),
        database: url.path().trim_start_matches('/').to_owned(),
        user: url.username().to_owned(),
        password: Some(Secret::new(url.password().unwrap().to_owned())),
        tls: Tls::Prefer,
        search_path: Vec::new(),
    }
}

fn fault(error: &StoreError) -> &ForeignFault {
    match error {
        StoreError::Foreign { fault, .. } => fault,
        other => panic!("{other:?}"),
    }
}

async fn refused(foreign: &Foreign, sql: &str) -> String {
    match foreign.rows(sql, &[], 10, TIMEOUT).await {
        Err(error) => match fault(&error) {
            ForeignFault::Refused(what) => what.clone(),
            other => panic!("{sql}: {other:?}"),
        },
        Ok(answer) => panic!("{sql}: {answer:?}"),
    }
}

async fn one(foreign: &Foreign, sql: &str, params: &[Param]) -> Vec<(String, Option<String>)> {
    let answer = foreign.rows(sql, params, 10, TIMEOUT).await.unwrap();
    assert_eq!((answer.rows.len(), answer.left_out), (1, 0), "{sql}");
    answer.rows.into_iter().next().unwrap().0
}

/// Waits until the connections that were lent are back in the pool, which happens behind the answer.
async fn settled(foreign: &Foreign) {
    until("the connections are back", || async {
        let pool = foreign.pool();
        pool.open == pool.idle
    })
    .await;
}

#[tokio::test]
async fn a_value_of_any_type_comes_as_text() {
    let db = TestDb::postgres().await;
    db.execute("CREATE TYPE mood AS ENUM ('glad'); CREATE DOMAIN zip AS text")
        .await;
    let foreign = Foreign::new(&target(&db)).unwrap();
    for (sql, expected) in [
        ("7::int2", Some("7")),
        ("9223372036854775807::int8", Some("9223372036854775807")),
        ("0.5::float4", Some("0.5")),
        ("12345678901234567890.10::numeric", Some("12345678901234567890.10")),
        ("'NaN'::float8", Some("NaN")),
        ("true", Some("true")),
        ("NULL::int", None),
        ("''::text", Some("")),
        ("E'a\"b\\n\\u00e9'::varchar", Some("a\"b\né")),
        ("'x'::char(3)", Some("x  ")),
        (
            "'0b8c6a0c-1c43-4d0b-9d3f-0a1b2c3d4e5f'::uuid",
            Some("0b8c6a0c-1c43-4d0b-9d3f-0a1b2c3d4e5f"),
        ),
        (
            "'2024-02-29 12:30:00+00'::timestamptz AT TIME ZONE 'UTC'",
            Some("2024-02-29T12:30:00"),
        ),
        ("'2024-02-29'::date", Some("2024-02-29")),
        ("'1 day 02:00'::interval", Some("1 day 02:00:00")),
        ("'{\"a\": [1, null]}'::jsonb", Some("{\"a\": [1, null]}")),
        ("ARRAY['a','b']", Some("[\"a\",\"b\"]")),
        ("'\\x00ff'::bytea", Some("\\x00ff")),
        ("'glad'::mood", Some("glad")),
        ("'4051'::zip", Some("4051")),
        ("'10.0.0.1'::inet", Some("10.0.0.1")),
        ("int4range(1, 5)", Some("[1,5)")),
        ("ROW(1, 'x')", Some("{\"f1\":1,\"f2\":\"x\"}")),
    ] {
        let row = one(&foreign, &format!("SELECT {sql} AS value"), &[]).await;
        assert_eq!(row, [("value".to_owned(), expected.map(ToOwned::to_owned))], "{sql}");
    }
    let params = [
        Param::Text("it's; -- \0".to_owned()),
        Param::Int(-1),
        Param::Float(0.25),
        Param::Bool(false),
        Param::Null,
        Param::Text("12".to_owned()),
    ];
    let sql = "SELECT $1 AS z, $2 AS a, $3 AS f, $4 AS b, $5 AS n, $6::int + 1 AS i, 1 AS a; -- the end";
    let row = one(&foreign, sql.trim_end_matches("; -- the end"), &params).await;
    let seen: Vec<_> = row
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .collect();
    let expected = [
        ("z", Some("it's; -- \u{fffd}")),
        ("a", Some("-1")),
        ("f", Some("0.25")),
        ("b", Some("false")),
        ("n", None),
        ("i", Some("13")),
        ("a", Some("1")),
    ];
    assert_eq!(seen, expected, "in their order, and names that come twice twice");
    for sql in [
        "SELECT 1 AS a;",
        "SELECT 1 AS a -- why",
        "TABLE t LIMIT 1 ;\n; ",
        "VALUES (1)",
    ] {
        let sql = sql.replace("TABLE t", "WITH t AS (SELECT 1 AS a) TABLE t");
        assert_eq!(one(&foreign, &sql, &[]).await[0].1.as_deref(), Some("1"), "{sql}");
    }
}

#[tokio::test]
async fn nothing_can_be_changed() {
    let db = TestDb::postgres().await;
    db.execute(
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1); CREATE SEQUENCE s; \
         CREATE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM t RETURNING id'",
    )
    .await;
    let foreign = Foreign::new(&target(&db)).unwrap();
    for sql in [
        "DELETE FROM t RETURNING id",
        "DROP TABLE t",
        "INSERT INTO t VALUES (2) RETURNING id",
        "WITH gone AS (DELETE FROM t RETURNING id) SELECT * FROM gone",
        "SELECT wipe()",
        "SELECT nextval('s')",
        "SELECT * FROM t FOR UPDATE",
        "SELECT 1 AS a INTO t2",
        "SELECT 1; DELETE FROM t",
        "SELECT 1) AS t LIMIT 1) AS j; DELETE FROM t; --",
        "SELECT 1) AS t) AS j; COMMIT; DELETE FROM t; --",
        "COMMIT",
        "COPY t TO STDOUT",
        "COPY t TO PROGRAM 'cat'",
        "SET transaction_read_only = off",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "CALL wipe()",
        "",
        "SELECT 1\0",
    ] {
        let what = refused(&foreign, sql).await;
        assert!(!what.is_empty(), "{sql}");
    }
    assert_eq!(refused(&foreign, "SELECT wipe()").await, "only reading is allowed");
    // What some versions let through is taken back.
    foreign.rows("SELECT lo_create(0)", &[], 1, TIMEOUT).await.ok();
    settled(&foreign).await;
    assert_eq!(db.number("SELECT COUNT(*) FROM pg_largeobject_metadata").await, 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM t").await, 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM pg_class WHERE relname = 't2'").await, 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM s WHERE is_called").await, 0);
}

#[tokio::test]
async fn a_statement_leaves_nothing_to_the_next() {
    let db = TestDb::postgres().await;
    db.execute("CREATE SCHEMA kb; CREATE TABLE kb.docs (id int); INSERT INTO kb.docs VALUES (7)")
        .await;
    let mut target = target(&db);
    let plain = Foreign::new(&target).unwrap();
    let settings = [
        "default_transaction_read_only",
        "search_path",
        "statement_timeout",
        "role",
        "application_name",
    ];
    for setting in settings {
        let value = match setting {
            "default_transaction_read_only" => "off",
            "statement_timeout" => "0",
            _ => "pg_catalog",
        };
        let sql = format!("SELECT set_config('{setting}', '{value}', false)");
        // Whether it may set it or not, the one connection of the pool is as before.
        plain.rows(&sql, &[], 1, TIMEOUT).await.ok();
        settled(&plain).await;
        let now = format!("SELECT current_setting('{setting}') AS now");
        let seen = one(&plain, &now, &[]).await[0].1.clone().unwrap();
        let expected = match setting {
            "default_transaction_read_only" => "on",
            "search_path" => "\"$user\", public",
            "statement_timeout" => "20s",
            "role" => "none",
            _ => "forebay",
        };
        assert_eq!(seen, expected, "{setting}");
        settled(&plain).await;
    }
    assert_eq!(plain.pool().open, 1);

    assert!(refused(&plain, "SELECT id FROM docs").await.contains("docs"));
    target.search_path = vec!["no\"such; schema".to_owned(), "kb".to_owned()];
    let there = Foreign::new(&target).unwrap();
    assert_eq!(one(&there, "SELECT id FROM docs", &[]).await[0].1.as_deref(), Some("7"));
}

#[tokio::test]
async fn a_statement_has_an_end() {
    let db = TestDb::postgres().await;
    let foreign = Foreign::new(&target(&db)).unwrap();
    let short = Duration::from_millis(100);
    for sql in [
        "SELECT pg_sleep(60)",
        "SELECT set_config('statement_timeout', '0', true), pg_sleep(60)",
        "SELECT count(*) FROM generate_series(1, 10000000000) AS n",
    ] {
        let error = foreign.rows(sql, &[], 1, short).await.unwrap_err();
        assert_eq!(fault(&error), &ForeignFault::TimedOut, "{sql}");
        assert_eq!(Failure::from(error).code, Code::UpstreamTimedOut);
        settled(&foreign).await;
    }
    one(&foreign, "SELECT 1 AS a", &[]).await;
    assert_eq!(foreign.pool().open, 1, "its connection is good for the next");
}

#[tokio::test]
async fn whoever_goes_away_leaves_room_for_others() {
    let db = TestDb::postgres().await;
    let foreign = Foreign::new(&target(&db)).unwrap();
    let empty = PoolState {
        open: 0,
        idle: 0,
        max: CONNECTIONS_MAX,
    };
    assert_eq!(foreign.pool(), empty, "nothing is connected before it is asked for");
    for _ in 0..3 * CONNECTIONS_MAX {
        let sleeping = foreign.rows("SELECT pg_sleep(30)", &[], 1, TIMEOUT);
        let gone = tokio::time::timeout(Duration::from_millis(30), sleeping).await;
        assert!(gone.is_err());
    }
    one(&foreign, "SELECT 1 AS a", &[]).await;
    assert!(foreign.pool().open >= 1);
    foreign.close().await;
    let error = foreign.rows("SELECT 1", &[], 1, TIMEOUT).await.unwrap_err();
    assert_eq!(fault(&error), &ForeignFault::Away("it was closed"));
}

#[tokio::test]
async fn an_answer_is_bounded() {
    let db = TestDb::postgres().await;
    let foreign = Foreign::new(&target(&db)).unwrap();
    let sql = "SELECT n, repeat('x', CASE WHEN n = 2 THEN 50000000 ELSE 1 END) AS text FROM generate_series(1, 5) AS n";
    let answer = foreign.rows(sql, &[], 3, TIMEOUT).await.unwrap();
    let seen: Vec<_> = answer.rows.iter().map(|row| row.get("n").unwrap()).collect();
    assert_eq!(
        (seen, answer.left_out),
        (vec!["1", "3"], 1),
        "the large one stays where it is"
    );

    let almost = ROW_BYTES_MAX - 100;
    let sql = format!("SELECT n, repeat('x', {almost}) AS text FROM generate_series(1, 100) AS n");
    let answer = foreign.rows(&sql, &[], 1_000_000, TIMEOUT).await.unwrap();
    assert_eq!(answer.rows.len(), ANSWER_BYTES_MAX / (almost + 10));
    assert_eq!(answer.rows.len() + answer.left_out, 100);

    let sql = format!("SELECT '{}'", "x".repeat(70_000));
    let long = foreign.rows(&sql, &[], 1, TIMEOUT).await.unwrap_err();
    let params = [Param::Text("x".repeat(2_000_000))];
    let large = foreign.rows("SELECT $1", &params, 1, TIMEOUT).await.unwrap_err();
    for error in [long, large] {
        assert_eq!(Failure::from(error).code, Code::BodyTooLarge);
    }
}

#[tokio::test]
async fn an_error_names_the_database_and_no_secret() {
    let db = TestDb::postgres().await;
    let good = target(&db);
    let foreign = Foreign::new(&good).unwrap();
    let asked = [Param::Text("my salary".to_owned())];
    let error = foreign.rows("SELECT $1::int", &asked, 1, TIMEOUT).await.unwrap_err();
    assert!(!format!("{error:?}").contains("salary"), "{error:?}");
    let failure = Failure::from(error);
    assert_eq!(failure.code, Code::UpstreamFailed);
    let named = format!("The database {} on {}:{}", good.database, good.host, good.port);
    assert!(failure.message.starts_with(&named), "{}", failure.message);
    assert!(failure.message.contains("22P02"), "{}", failure.message);
    let failure = Failure::from(
        foreign
            .rows("SELECT nothing FROM here", &[], 1, TIMEOUT)
            .await
            .unwrap_err(),
    );
    assert!(
        failure.message.contains("relation \"here\" does not exist"),
        "{}",
        failure.message
    );

    let password = Some(Secret::new("canary-password".to_owned()));
    let wrong_password = Target {
        password,
        ..good.clone()
    };
    let no_password = Target {
        password: None,
        ..good.clone()
    };
    let no_database = Target {
        database: "nowhere".to_owned(),
        ..good.clone()
    };
    let no_tls = Target {
        tls: Tls::Require,
        ..good.clone()
    };
    for (target, expected) in [
        (wrong_password, "user or password"),
        (no_password, "user or password"),
        (no_database, "no database of that name"),
        (no_tls, "no encrypted connection"),
    ] {
        assert!(!format!("{target:?}").contains("canary"));
        let error = Foreign::new(&target).unwrap().about(TIMEOUT).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(matches!(fault(&error), ForeignFault::Away(_)), "{shown}");
        assert!(shown.contains(expected) && !shown.contains("canary"), "{shown}");
        assert!(Failure::from(error).retry_after.is_some());
    }
    for target in [
        Target {
            host: "/var/run/postgresql".to_owned(),
            ..good.clone()
        },
        Target {
            user: String::new(),
            ..good.clone()
        },
        Target {
            search_path: vec!["a".repeat(300)],
            ..good.clone()
        },
    ] {
        let error = Foreign::new(&target).err().unwrap();
        assert_eq!(Failure::from(error).code, Code::InvalidConfig);
    }
}

#[tokio::test]
async fn nobody_waits_for_ever_for_one_who_is_not_there() {
    let db = TestDb::postgres().await;
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    // Its connections are accepted by the kernel, and nobody ever says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for port in [closed, silent.local_addr().unwrap().port()] {
        let target = Target { port, ..target(&db) };
        let begun = Instant::now();
        let error = Foreign::new(&target).unwrap().about(TIMEOUT).await.unwrap_err();
        assert!(matches!(fault(&error), ForeignFault::Away(_)), "{error:?}");
        assert_eq!(
            port == closed,
            error.to_string().contains("nobody listens there"),
            "{error}"
        );
        let bound = if port == closed { AT_ONCE } else { TIMEOUT };
        assert!(
            begun.elapsed() < bound,
            "its own bound is far below that of the statement"
        );
    }
    // The address that was checked is the one that is connected to, whatever the name means by now.
    let target = Target {
        host: "elsewhere.invalid".to_owned(),
        address: Some("127.0.0.1".parse().unwrap()),
        ..target(&db)
    };
    let about = Foreign::new(&target).unwrap().about(TIMEOUT).await.unwrap();
    assert!(about.is_superuser && !about.version.is_empty(), "{about:?}");
}

#[tokio::test]
async fn a_table_is_found_with_what_may_be_read_of_it() {
    let db = TestDb::postgres().await;
    let reader = format!("reader_{}", target(&db).database);
    db.execute(&format!(
        "CREATE SCHEMA kb; CREATE DOMAIN title AS varchar(40); \
         CREATE TABLE kb.\"My docs\" (body text, part int, salary text, \"a \"\"b\" title, id uuid, at timestamptz, gone text, \
         PRIMARY KEY (id, part)); ALTER TABLE kb.\"My docs\" DROP COLUMN gone; \
         CREATE VIEW kb.shown AS SELECT body FROM kb.\"My docs\"; \
         CREATE USER {reader} PASSWORD 'pw'; GRANT USAGE ON SCHEMA kb TO {reader}; \
         GRANT SELECT (body, part, \"a \"\"b\", id) ON kb.\"My docs\" TO {reader}"
    ))
    .await;
    let target = Target {
        user: reader.clone(),
        password: Some(Secret::new("pw".to_owned())),
        ..target(&db)
    };
    let foreign = Foreign::new(&target).unwrap();
    let table = foreign.table("kb.\"My docs\"", TIMEOUT).await.unwrap();
    assert_eq!(table.name, "kb.\"My docs\"");
    assert_eq!(
        table.text_columns,
        ["body", "\"a \"\"b\""],
        "not `salary`, which it may not read"
    );
    assert_eq!(table.key, ["id", "part"]);
    assert!(table.vectors.is_empty());
    for unknown in ["kb.nothing", "kb.shown", "", "a.b.c.d", "t; DROP TABLE x"] {
        let error = foreign.table(unknown, TIMEOUT).await.unwrap_err();
        assert!(
            matches!(fault(&error), ForeignFault::Refused(_)),
            "{unknown}: {error:?}"
        );
    }
    assert!(!foreign.about(TIMEOUT).await.unwrap().is_superuser);
    assert!(!foreign.has_extension("vector", TIMEOUT).await.unwrap());
    assert!(foreign.has_extension("plpgsql", TIMEOUT).await.unwrap());
    foreign.close().await;
    db.execute(&format!("DROP OWNED BY {reader}; DROP USER {reader}")).await;
}

#[tokio::test]
async fn rows_are_found_by_any_of_the_words() {
    let db = TestDb::postgres().await;
    db.execute(
        "CREATE TABLE docs (id int PRIMARY KEY, title text, body text, forebay_key text); \
         INSERT INTO docs VALUES \
         (1, 'Doors', 'The green door opens with the brass key.', 'x'), \
         (2, 'Rain', NULL, NULL), \
         (3, 'Walls', 'A door in the wall.', NULL), \
         (4, 'Link', 'see a.example/x?y=1&z=2', NULL); \
         CREATE VIEW plain AS SELECT body FROM docs",
    )
    .await;
    let foreign = Foreign::new(&target(&db)).unwrap();
    let docs = foreign.table("docs", TIMEOUT).await.unwrap();
    let keys = async |question: &str, language: Option<&str>| {
        let search = Search::Words { question, language };
        let found = foreign.search(&docs, search, 10, TIMEOUT).await.unwrap();
        assert!(found.hits.is_sorted_by(|a, b| a.score >= b.score), "{found:?}");
        found.hits.into_iter().map(|hit| hit.key).collect::<Vec<_>>()
    };
    let english = Some("english");
    assert_eq!(keys("Which keys open the green door?", english).await, ["1", "3"]);
    assert_eq!(keys("keys", Some("simple")).await, [""; 0], "no stems there");
    assert_eq!(keys("rain", None).await, ["2"], "a NULL beside it hides nothing");
    for syntax in [
        "door' | !",
        "(door & ) <->",
        "a:* door",
        "door \\ \0",
        "a.example/x?y=1&z=2 | 'door",
    ] {
        assert!(keys(syntax, english).await.contains(&"3".to_owned()), "{syntax}");
    }
    for nothing in ["", "the of and", "!!"] {
        assert_eq!(keys(nothing, english).await, [""; 0], "{nothing}");
    }
    let search = Search::Words {
        question: "green",
        language: english,
    };
    let found = foreign.search(&docs, search, 10, TIMEOUT).await.unwrap();
    let row = &found.hits[0].row;
    assert_eq!((row.get("title"), row.get("forebay_key")), (Some("Doors"), Some("x")));
    assert!(row.get("id").is_none() && found.hits[0].score > 0.0);

    let plain = foreign.table("plain", TIMEOUT).await.unwrap();
    let found = foreign.search(&plain, search, 10, TIMEOUT).await.unwrap();
    assert_eq!(found.hits[0].key, "", "a view has no key");
    let search = Search::Words {
        question: "green",
        language: Some("klingon'"),
    };
    let error = foreign.search(&plain, search, 10, TIMEOUT).await.unwrap_err();
    assert!(matches!(fault(&error), ForeignFault::Refused(_)), "{error:?}");
}

/// A type and an operator of pgvector's names stand in for it: they show that the statements are right, and nothing about
/// pgvector. The real one is met in tests/e2e/test_context_vectors.py.
#[tokio::test]
async fn rows_are_found_by_the_nearest_vector() {
    let db = TestDb::postgres().await;
    db.execute(
        "CREATE SCHEMA \"Extensions\"; SET search_path TO \"Extensions\"; CREATE DOMAIN vector AS text; \
         CREATE FUNCTION distance(text, text) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$ \
         SELECT 1 - sum(a * b) / (sqrt(sum(a * a)) * sqrt(sum(b * b))) FROM unnest( \
         string_to_array(btrim($1, '[]'), ',')::float8[], string_to_array(btrim($2, '[]'), ',')::float8[]) AS x(a, b) $$; \
         CREATE OPERATOR <=> (LEFTARG = text, RIGHTARG = text, FUNCTION = distance); \
         SET search_path TO public; CREATE TABLE docs (id int PRIMARY KEY, body text, meaning \"Extensions\".vector); \
         INSERT INTO docs VALUES (1, 'east', '[1,0]'), (2, 'north', '[0,2]'), (3, 'north-east', '[1,1]'), (4, 'none', NULL)",
    )
    .await;
    let foreign = Foreign::new(&target(&db)).unwrap();
    let docs = foreign.table("docs", TIMEOUT).await.unwrap();
    let column = &docs.vectors[0];
    assert_eq!(
        (column.name.as_str(), column.kind, column.dimensions),
        ("meaning", "vector", None)
    );
    let search = Search::Nearest {
        column,
        vector: &[0.1, 0.9],
    };
    let found = foreign.search(&docs, search, 10, TIMEOUT).await.unwrap();
    let keys: Vec<&str> = found.hits.iter().map(|hit| hit.key.as_str()).collect();
    assert_eq!(keys, ["2", "3", "1"]);
    assert!(found.hits[0].score > 0.99 && found.hits[2].score < 0.2, "{found:?}");
}
