//! Answers that mean nothing.

use super::*;
use proptest::prelude::*;

/// JSON out of the words that RunPod uses, in any order.
fn odd() -> impl Strategy<Value = Value> {
    let keys = vec![
        "pods",
        "id",
        "status",
        "name",
        "cost",
        "disk",
        "ports",
        "title",
        "detail",
        "errors",
        "gpus",
        "price",
        "secure",
        "maxCount",
        "records",
        "totalAmount",
        "endTime",
        "podId",
        "createdAt",
        "memory",
    ];
    odd_json(keys, vec!["RUNNING", "p1", "", "../x", "TERMINATED"])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_makes_it_panic_or_believe_in_a_machine(
        status in prop::sample::select(vec![200_u16, 201, 204, 400, 404, 500]),
        body in odd_body(odd()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fake = Fake::start(fake::RunPod::default()).await;
            fake.faults("*", Fault::Instead(Answer::of(status, "application/json", body.clone())), None);
            let market = market(&fake);
            believes_in_nothing::<fake::RunPod>(&market, (status, &body), &charge(&fake, "p1")).await;
            let _ = market.destroy("p1").await;
        });
    }
}
