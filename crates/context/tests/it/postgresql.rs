//! `postgresql`: a real database of somebody else's.

use crate::world::{PASSWORD, PASSWORD_VARIABLE, World};
use forebay_domain::{Code, context::Strategy, id::SubjectId};
use forebay_testkit::db::TestDb;
use serde_json::{Value, json};
use url::Url;

const TABLES: &str = "
    CREATE TABLE places (id BIGINT PRIMARY KEY, title TEXT, body TEXT, n INT, secret TEXT);
    INSERT INTO places VALUES
        (1, 'Zubrowka', 'Its capital is Lutz, in the mountains.', 7, NULL),
        (2, 'Ruritania', 'A capital idea: its capital is Strelsau, the capital of capitals.', 8, NULL),
        (3, 'Nowhere', NULL, 9, NULL);
    CREATE TABLE numbers (n INT);
    CREATE VIEW notes AS SELECT 'a note about the harbour'::text AS note;
";

/// Somebody's database, and the settings of a provider for it.
async fn database(more: Value) -> (TestDb, Value) {
    let db = TestDb::postgres().await;
    db.execute(TABLES).await;
    let config = settings(&db, &more);
    (db, config)
}

fn settings(db: &TestDb, more: &Value) -> Value {
    let url = Url::parse(db.url()).unwrap();
    PASSWORD.get_or_init(|| url.password().unwrap().to_owned());
    let mut config = json!({
        "host": url.host_str().unwrap(),
        "port": url.port().unwrap(),
        "database": url.path().trim_start_matches('/'),
        "user": url.username(),
        "password": { "env": PASSWORD_VARIABLE },
        "timeout_ms": 10_000,
    });
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    config
}

async fn world(config: &Value) -> World {
    World::new(json!({ "providers": { "pg": { "type": "postgresql", "config": config } } })).await
}

#[tokio::test]
async fn a_query_takes_the_question_as_a_parameter() {
    let query = "SELECT id, title, body AS text, n AS score FROM places \
                 WHERE to_tsvector('simple', title) @@ plainto_tsquery('simple', $1) LIMIT $2;";
    let (db, config) = database(json!({ "query": query })).await;
    let world = world(&config).await;
    let found = world.find("pg", "zubrowka").await;
    let item = &found.items[0];
    assert_eq!((item.id.as_str(), item.title.as_deref()), ("1", Some("Zubrowka")));
    assert_eq!(item.text, "Its capital is Lutz, in the mountains.");
    assert!(world.texts("pg", "x'); DROP TABLE places; --").await.is_empty());
    assert_eq!(db.number("SELECT COUNT(*) FROM places").await, 3);
}

#[tokio::test]
async fn tables_are_searched_by_words_and_rare_words_count_most() {
    let (_db, config) = database(json!({ "tables": ["places"] })).await;
    let world = world(&config).await;
    let found = world.find("pg", "What is the capital of Zubrowka?").await;
    assert_eq!(found.items[0].source, "places#1");
    assert_eq!(
        found.items[0].text,
        "title: Zubrowka\nbody: Its capital is Lutz, in the mountains."
    );
    assert_eq!(found.items[1].source, "places#2");
    assert_eq!(found.reports[0].strategy, Strategy::Keyword);

    let (_db, config) = database(json!({})).await;
    let all = World::new(json!({ "providers": { "pg": { "type": "postgresql", "config": config } } })).await;
    assert_eq!(
        all.texts("pg", "harbour").await,
        ["a note about the harbour"],
        "all tables, views too"
    );
    assert_eq!(all.find("pg", "Zubrowka").await.items.len(), 1);

    let (_db, config) = database(json!({ "tables": ["nothing"] })).await;
    let none = World::new(json!({ "providers": { "pg": { "type": "postgresql", "config": config } } })).await;
    assert!(none.failure("pg", "x").await.1.contains("there is no table `nothing`"));
}

#[tokio::test]
async fn words_are_stemmed_where_the_language_says_so() {
    let (_db, config) = database(json!({ "tables": ["places"], "language": "english" })).await;
    assert_eq!(
        world(&config).await.find("pg", "mountain").await.items[0].source,
        "places#1"
    );
    let (_db, config) = database(json!({ "tables": ["places"], "language": "simple" })).await;
    assert!(world(&config).await.texts("pg", "mountain").await.is_empty());
    let (_db, config) = database(json!({ "tables": ["places"], "language": "klingon" })).await;
    assert!(
        world(&config)
            .await
            .failure("pg", "mountain")
            .await
            .1
            .contains("klingon")
    );
}

#[tokio::test]
async fn nothing_can_be_written_and_nothing_runs_for_ever() {
    let writes = [
        "WITH gone AS (DELETE FROM places RETURNING 1) SELECT $1 AS text FROM gone",
        "SELECT $1; DELETE FROM places",
        "DELETE FROM places WHERE title <> $1",
        "SELECT setval('s', 7)::text || $1 AS text",
    ];
    for sql in writes {
        let (db, config) = database(json!({ "query": sql })).await;
        db.execute("CREATE SEQUENCE s").await;
        let (code, message) = world(&config).await.failure("pg", "x").await;
        assert_eq!(code.as_str(), "upstream_failed", "{sql}: {message}");
        assert_eq!(db.number("SELECT COUNT(*) FROM places").await, 3, "{sql}");
        assert_eq!(db.number("SELECT last_value FROM s").await, 1, "{sql}");
    }
    let slow = json!({ "query": "SELECT $1 || pg_sleep(60)::text AS text", "timeout_ms": 300 });
    let (db, config) = database(slow).await;
    let world = world(&config).await;
    let begun = std::time::Instant::now();
    assert_eq!(world.failure("pg", "x").await.0, Code::UpstreamTimedOut);
    assert!(begun.elapsed().as_secs() < 10);
    let running = "SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' \
                   AND pid <> pg_backend_pid() AND datname = current_database()";
    crate::world::until("the statement ends at the server too", || async {
        db.number(running).await == 0
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_away_is_a_failure_and_comes_back() {
    let (db, config) = database(json!({ "tables": ["places"] })).await;
    let world = world(&config).await;
    assert_eq!(world.find("pg", "Zubrowka").await.items.len(), 1);
    db.refuse_connections().await;
    let (_, message) = world.failure("pg", "Ruritania").await;
    assert!(message.contains("database"), "{message}");
    let status = &world.providers.list()[0];
    assert_eq!(status.condition.as_str(), "fails");
    db.accept_connections().await;
    crate::world::until("it is back", || async {
        let found = world.find("pg", "Ruritania").await;
        found.reports[0].failure.is_none() && found.items.len() == 1
    })
    .await;
    let connections = world.providers.list()[0].connections.unwrap();
    assert!(
        connections.used + connections.idle >= 1 && connections.max >= 1,
        "{connections:?}"
    );
    let metrics = world.metrics();
    assert!(
        metrics.contains("mcp_provider_connections{provider=\"pg\",state=\"max\"} "),
        "{metrics}"
    );
}

#[tokio::test]
async fn an_address_that_comes_over_the_api_is_checked() {
    let (_db, config) = database(json!({ "tables": ["places"], "host": "localhost" })).await;
    let one = serde_json::from_value(json!({ "type": "postgresql", "config": config })).unwrap();
    let by = || SubjectId::try_from("admin").unwrap();
    let guarded = World::new(json!({})).await;
    guarded.providers.create("pg", &one, by()).await.unwrap();
    let (code, message) = guarded.failure("pg", "Zubrowka").await;
    assert_eq!(code, Code::AddressNotAllowed);
    assert_eq!(message, "localhost leads to a loopback address, which is not allowed.");

    let listed = World::new(json!({ "allow_addresses": ["localhost"] })).await;
    listed.providers.create("pg", &one, by()).await.unwrap();
    assert_eq!(listed.find("pg", "Zubrowka").await.items.len(), 1);
}

/// Vectors are kept as PostgreSQL has them without pgvector too: as arrays, compared by plain SQL.
#[tokio::test]
async fn a_query_over_vectors_gets_the_vector_of_the_question() {
    let sql = "WITH asked AS (SELECT translate($1, '[]', '{}')::float4[] AS v) \
               SELECT d.id, d.text FROM d, asked \
               ORDER BY (SELECT SUM(a * b) FROM unnest(d.v, asked.v) AS p(a, b)) DESC LIMIT $2";
    let (db, config) = database(json!({ "vector_query": sql, "embedding_model": "minilm" })).await;
    db.execute(
        "CREATE TABLE d (id TEXT, text TEXT, v FLOAT4[]); INSERT INTO d VALUES \
         ('cat', 'A kitten sleeps.', '{1,0,0,0,0.1}'), ('car', 'The automobile is away.', '{0,1,0,0,0.1}')",
    )
    .await;
    let world = world(&config).await;
    let found = world.find("pg", "vehicle").await;
    assert_eq!(found.items[0].id, "car");
    assert_eq!(
        found.reports[0].strategy,
        Strategy::SemanticSearch,
        "the only way it has"
    );
}

#[tokio::test]
async fn tables_without_vectors_are_searched_by_words() {
    let (_db, config) = database(json!({ "tables": ["places"], "embedding_model": "minilm" })).await;
    let world = world(&config).await;
    let found = world.look("pg", "Zubrowka", Strategy::SemanticSearch).await;
    assert_eq!((found.items.len(), found.reports[0].strategy), (1, Strategy::Keyword));
}
