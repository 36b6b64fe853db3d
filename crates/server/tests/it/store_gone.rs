//! With the database gone: 503 for whoever needs it, neither 401 nor 500, and back again when it is back.

use crate::rig::{Rig, eventually};
use forebay_testkit::db::TestDb;

#[tokio::test]
async fn without_its_database_the_gateway_says_unavailable() {
    let db = TestDb::postgres().await;
    let rig = Rig::on(db.url(), tempfile::tempdir().unwrap(), |_| {}).await;
    assert_eq!(rig.get("/v1/models").await.status(), 200);
    db.refuse_connections().await;
    eventually("it says so", || async { rig.get("/readyz").await.status() == 503 }).await;
    for path in ["/v1/models", "/api/v1/status", "/api/v1/keys", "/metrics"] {
        let response = rig.get(path).await;
        assert_eq!(response.status(), 503, "{path}");
        assert!(response.text().await.unwrap().contains("store_unavailable"), "{path}");
    }
    let unknown = rig.request("GET", "/v1/models", "").send().await.unwrap();
    assert_eq!(unknown.status(), 503, "nobody can be told apart now");
    assert_eq!(rig.get("/livez").await.status(), 200, "it is alive");
    assert_eq!(rig.get("/health").await.status(), 503);
    db.accept_connections().await;
    eventually("it is back", || async { rig.get("/v1/models").await.status() == 200 }).await;
}
