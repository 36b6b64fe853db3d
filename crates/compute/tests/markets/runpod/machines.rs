//! What is there, in which state, what is not concluded, and what it costs.

use super::*;

#[tokio::test]
async fn a_pod_walks_through_its_states() {
    let (fake, market) = kind::<fake::RunPod>().await;
    let id = confirmed(market.create(&fake::RunPod::order(0)).await);
    let machine = async || market.machine(&id).await.unwrap().unwrap();
    let first = machine().await;
    assert_eq!((first.state, first.endpoints.len()), (MachineState::Starting, 0));
    fake.advance(Duration::from_secs(15));
    assert_eq!(machine().await.state, MachineState::Starting);
    fake.advance(MINUTE);
    assert_eq!(machine().await.state, MachineState::Running);
    fake.with(|vendor| vendor.pods[0].status = Status::Exited);
    let exited = machine().await;
    assert_eq!(exited.state, MachineState::Exited);
    assert_eq!(exited.rate, Some(UsdRate::per_hour(usd("0.01"))), "its disk costs on");
    assert_eq!(market.destroy(&id).await, Ok(Destroyed::Accepted));
    assert_eq!(market.machine(&id).await, Ok(None));
    assert_eq!(market.destroy(&id).await, Ok(Destroyed::Gone));
    fake.with(|vendor| vendor.fails_boot = true);
    let id = confirmed(market.create(&fake::RunPod::order(1)).await);
    fake.advance(MINUTE);
    assert_eq!(market.machine(&id).await.unwrap().unwrap().state, MachineState::Failed);
}

#[tokio::test]
async fn a_pod_that_stays_in_the_list_after_its_end_is_gone_too() {
    let (fake, market) = kind::<fake::RunPod>().await;
    fake.with(|vendor| vendor.keeps_terminated = true);
    let id = rented(&fake, &market, BOOT).await;
    assert_eq!(market.destroy(&id).await, Ok(Destroyed::Accepted));
    assert_eq!(market.machines().await.unwrap()[0].state, MachineState::Ended);
    assert_eq!(market.machine(&id).await.unwrap().unwrap().state, MachineState::Ended);
    assert_eq!(market.destroy(&id).await, Ok(Destroyed::Gone));
}

#[tokio::test]
async fn whoever_sees_nothing_concludes_nothing() {
    let (fake, first) = kind::<fake::RunPod>().await;
    let id = rented(&fake, &first, BOOT).await;
    for name in BLIND.into_iter().chain(["problem-500", "forbidden"]) {
        let fresh = || market(&fake);
        fake.fault("list", named::<fake::RunPod>(name));
        assert!(fresh().machines().await.unwrap_err().is_blind(), "list, {name}");
        fake.fault("get", named::<fake::RunPod>(name));
        assert!(fresh().machine(&id).await.unwrap_err().is_blind(), "get, {name}");
        fake.fault("bill", named::<fake::RunPod>(name));
        assert!(
            fresh().charged(&charge(&fake, &id)).await.unwrap_err().is_blind(),
            "bill, {name}"
        );
        fake.fault("gpus", named::<fake::RunPod>(name));
        assert!(
            fresh().offers(&wanted()).await.unwrap_err().is_blind(),
            "offers, {name}"
        );
        fake.fault("log", named::<fake::RunPod>(name));
        let logs = fresh().logs(&id, 5).await;
        assert!(logs.is_ok() || logs.unwrap_err().is_blind(), "logs, {name}");
    }
    for name in ["bad-row", "moved"] {
        fake.fault("list", named::<fake::RunPod>(name));
        assert!(market(&fake).machines().await.unwrap_err().is_blind(), "{name}");
    }
    fake.with(|vendor| vendor.key = "another".to_owned());
    let market = market(&fake);
    assert!(matches!(market.machines().await, Err(MarketFault::LockedOut(_))));
    assert!(matches!(market.machine(&id).await, Err(MarketFault::LockedOut(_))));
    assert!(matches!(market.destroy(&id).await, Err(MarketFault::LockedOut(_))));
}

#[tokio::test]
async fn a_key_may_see_and_not_touch() {
    let (fake, market) = kind::<fake::RunPod>().await;
    let id = rented(&fake, &market, BOOT).await;
    fake.with(|vendor| vendor.scopes = [Scope::ReadPods].into());
    assert_eq!(market.machines().await.unwrap().len(), 1);
    assert!(matches!(market.destroy(&id).await, Err(MarketFault::LockedOut(_))));
    assert_eq!(said(&market.create(&fake::RunPod::order(1)).await), "refused LockedOut");
    assert!(matches!(
        market.charged(&charge(&fake, &id)).await,
        Err(MarketFault::LockedOut(_))
    ));
    assert!(matches!(market.offers(&wanted()).await, Err(MarketFault::LockedOut(_))));
}

#[tokio::test]
async fn a_404_is_no_end_unless_the_list_agrees() {
    let (fake, market) = kind::<fake::RunPod>().await;
    let id = rented(&fake, &market, BOOT).await;
    fake.fault("get", named::<fake::RunPod>("moved"));
    assert_eq!(
        market.machine(&id).await.unwrap().unwrap().id,
        id,
        "the list still has it"
    );
    fake.fault("destroy", named::<fake::RunPod>("moved"));
    assert!(market.destroy(&id).await.is_err());
    fake.faults("*", named::<fake::RunPod>("moved"), None);
    assert!(
        market.machine(&id).await.unwrap_err().is_blind(),
        "the whole API has moved"
    );
    assert!(market.destroy(&id).await.unwrap_err().is_blind());
    fake.no_more_faults();
    for name in ["html-404", "garbage", "empty-500", "drop-before", "rate-limited"] {
        fake.fault("destroy", Fault::Instead(Answer::html(200)));
        assert!(
            super::market(&fake).destroy(&id).await.is_err(),
            "a success that is a proxy's"
        );
        fake.fault("destroy", named::<fake::RunPod>(name));
        let destroyed = super::market(&fake).destroy(&id).await;
        // It was done behind a page of a proxy: what it means nobody may guess, and the next wish tells.
        assert!(destroyed.is_err() || name == "garbage", "{name}: {destroyed:?}");
    }
    assert_eq!(market.machine("podffffffffffff").await, Ok(None));
    for nonsense in ["", "..", "a/b", "x?y", "é"] {
        assert!(
            market.machine(nonsense).await.is_err() && market.destroy(nonsense).await.is_err(),
            "{nonsense}"
        );
    }
}

#[tokio::test]
async fn a_locked_pod_is_not_gone() {
    let (fake, market) = kind::<fake::RunPod>().await;
    let id = rented(&fake, &market, BOOT).await;
    fake.with(|vendor| vendor.pods[0].is_locked = true);
    assert!(matches!(market.destroy(&id).await, Err(MarketFault::Refused(_))));
    assert_eq!(fake.live(), 1);
    fake.with(|vendor| vendor.pods[0].is_locked = false);
    assert_eq!(market.destroy(&id).await, Ok(Destroyed::Accepted));
    assert_eq!(fake.live(), 0);
}

#[tokio::test]
async fn a_new_pod_may_be_missing_from_the_list_at_first() {
    let (fake, market) = kind::<fake::RunPod>().await;
    fake.with(|vendor| vendor.list_lag = 1);
    let id = rented(&fake, &market, BOOT).await;
    assert!(market.machines().await.unwrap().is_empty());
    assert_eq!(market.machines().await.unwrap()[0].id, id);
}

#[tokio::test]
async fn the_bill_is_believed_once_it_reaches_far_enough() {
    let (fake, market) = kind::<fake::RunPod>().await;
    let id = rented(&fake, &market, BOOT).await;
    let other = market.create(&fake::RunPod::order(1)).await;
    assert!(matches!(other, Created::Confirmed { .. }));
    fake.advance(100 * MINUTE);
    let query = charge(&fake, &id);
    let cost = fake.with(|vendor| vendor.pods[0].cost());
    // 101 minutes at 0.34 and a cent for the disk; each hour is rounded by itself.
    assert!((usd("0.589163").micros() - cost).abs() <= 4, "{cost}");
    let charged = market.charged(&query).await.unwrap().unwrap();
    assert_eq!(charged.micros(), cost);
    market.destroy(&id).await.unwrap();
    fake.advance(2 * HOUR);
    assert_eq!(
        market.charged(&query).await.unwrap(),
        Some(charged),
        "nothing is charged after the end"
    );
    fake.with(|vendor| vendor.bill_lag = 3);
    assert_eq!(market.charged(&query).await.unwrap(), None, "nobody knows yet");
}

#[tokio::test]
async fn a_pod_that_has_exited_is_charged_for_its_disk() {
    let (fake, market) = kind::<fake::RunPod>().await;
    let id = rented(&fake, &market, BOOT).await;
    let before = fake.with(|vendor| {
        vendor.pods[0].status = Status::Exited;
        vendor.pods[0].cost()
    });
    fake.advance(10 * HOUR);
    let charged = market.charged(&charge(&fake, &id)).await.unwrap().unwrap();
    assert!((charged.micros() - before - 100_000).abs() <= 11, "{charged}");
}

#[tokio::test]
async fn the_last_lines_of_the_log() {
    let (fake, market) = kind::<fake::RunPod>().await;
    let id = rented(&fake, &market, BOOT).await;
    let log = market.logs(&id, 2).await.unwrap();
    assert_eq!(
        log,
        "line 39 of fb-acme-01jd3zk7xxw5q0\nline 40 of fb-acme-01jd3zk7xxw5q0"
    );
    assert_eq!(
        market.logs(&id, 100_000).await.unwrap().lines().count(),
        40,
        "no more is asked for than may be"
    );
    fake.fault("log", Fault::Endless);
    assert!(
        market.logs(&id, 2).await.unwrap().len() < 1 << 20,
        "a log without an end ends"
    );
    assert!(market.logs("podffffffffffff", 2).await.is_err());
}

#[tokio::test]
async fn settings_of_the_fake_do_what_they_say() {
    let (fake, market) = kind::<fake::RunPod>().await;
    let id = rented(&fake, &market, BOOT).await;
    let set = |name: &str, value: Value| fake.with(|vendor| vendor.set(name, &value)).unwrap();
    set("read_only", json!(true));
    assert!(matches!(market.destroy(&id).await, Err(MarketFault::LockedOut(_))));
    set("read_only", json!(false));
    assert_eq!(market.destroy(&id).await, Ok(Destroyed::Accepted));
    refuses_nonsense(&fake);
}
