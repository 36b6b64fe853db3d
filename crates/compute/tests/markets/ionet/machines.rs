//! What is there, in which state, and what is not concluded.

use super::*;

#[tokio::test]
async fn the_list_says_of_ours_what_they_cost_and_where_they_are() {
    let (fake, market) = kind::<fake::IoNet>().await;
    let id = rented(&fake, &market, BOOT).await;
    let seen = fake.now();
    fake.with(|vendor| vendor.add("somebody-elses", seen));
    let machines = market.machines().await.unwrap();
    let ours = machines.iter().find(|machine| machine.id == id).unwrap();
    assert_eq!((ours.paid, ours.endpoints.len()), (Some(usd("0.33")), 1));
    assert_eq!(Some(ours), market.machine(&id).await.unwrap().as_ref());
    let asked = fake.seen_at("get");
    assert!(
        asked.iter().all(|seen| seen.path.ends_with(&id)),
        "nobody else's is looked into"
    );
    for name in ["drop-before", "empty-500", "garbage", "not-found", "locked-out"] {
        fake.fault("get", named::<fake::IoNet>(name));
        let again = market.machines().await.unwrap();
        assert_eq!(again, machines, "what it last said still holds: {name}");
        fake.fault("containers", named::<fake::IoNet>(name));
        assert_eq!(market.machines().await.unwrap(), machines, "{name}");
    }
    fake.fault("get", named::<fake::IoNet>("empty-500"));
    let stranger = super::market(&fake).machines().await.unwrap();
    let ours = stranger.iter().find(|machine| machine.id == id).unwrap();
    assert_eq!(
        (ours.state, ours.paid, ours.endpoints.len()),
        (MachineState::Running, None, 0),
        "it is there all the same"
    );
    market.destroy(&id).await.unwrap();
    fake.fault("get", named::<fake::IoNet>("empty-500"));
    let ending = market.machines().await.unwrap();
    let ours = ending.iter().find(|machine| machine.id == id).unwrap();
    assert_eq!(
        (ours.state, ours.endpoints.len()),
        (MachineState::Ending, 0),
        "the list is newer"
    );
}

#[tokio::test]
async fn a_deployment_walks_through_its_states() {
    for has_odd_case in [false, true] {
        let (fake, market) = kind::<fake::IoNet>().await;
        fake.with(|vendor| vendor.has_odd_case = has_odd_case);
        let id = confirmed(market.create(&fake::IoNet::order(0)).await);
        let state = async || market.machine(&id).await.unwrap().unwrap().state;
        let listed = async || market.machines().await.unwrap()[0].state;
        assert_eq!(
            (state().await, listed().await),
            (MachineState::Starting, MachineState::Starting)
        );
        fake.advance(Duration::from_secs(135));
        let machine = market.machine(&id).await.unwrap().unwrap();
        assert_eq!(machine.state, MachineState::Running);
        assert!(machine.endpoints.is_empty(), "it is not well yet");
        assert_eq!(market.destroy(&id).await, Ok(Destroyed::Accepted));
        assert_eq!(
            (state().await, listed().await),
            (MachineState::Ending, MachineState::Ending)
        );
        fake.advance(MINUTE);
        assert_eq!(
            (state().await, listed().await),
            (MachineState::Ended, MachineState::Ended)
        );
        assert_eq!(
            market.destroy(&id).await,
            Ok(Destroyed::Gone),
            "however the second wish is refused"
        );
    }
}

#[tokio::test]
async fn a_deployment_that_fails_or_ends_by_itself_says_so() {
    let (fake, market) = kind::<fake::IoNet>().await;
    let id = rented(&fake, &market, BOOT).await;
    fake.with(|vendor| vendor.fails_boot = true);
    let other = confirmed(market.create(&fake::IoNet::order(1)).await);
    fake.advance(HOUR);
    assert_eq!(market.machine(&id).await.unwrap().unwrap().state, MachineState::Ended);
    assert_eq!(
        market.machine(&other).await.unwrap().unwrap().state,
        MachineState::Failed
    );
    for over in [&id, &other] {
        assert_eq!(
            market.destroy(over).await,
            Ok(Destroyed::Gone),
            "there is nothing to end"
        );
    }
}

/// Straight into the provider: how they are ordered is tried elsewhere.
fn add(fake: &Fake<fake::IoNet>, number: usize) {
    let now = fake.now();
    fake.with(|vendor| vendor.add(&format!("machine-{number}"), now));
}

#[tokio::test]
async fn all_pages_are_read_whatever_the_number_of_the_first() {
    for (first_page, count) in [(0, 250), (1, 250), (0, 100), (1, 100), (0, 0), (1, 101)] {
        let (fake, market) = kind::<fake::IoNet>().await;
        fake.with(|vendor| vendor.first_page = first_page);
        for number in 0..count {
            add(&fake, number);
        }
        let mut found: Vec<String> = market
            .machines()
            .await
            .unwrap()
            .into_iter()
            .map(|machine| machine.id)
            .collect();
        let shown = found.len();
        found.dedup();
        assert_eq!((shown, found.len()), (count, count), "pages from {first_page}");
    }
}

#[tokio::test]
async fn a_list_is_whole_or_none() {
    let (fake, _) = kind::<fake::IoNet>().await;
    for number in 0..150 {
        add(&fake, number);
    }
    fake.fault("list", named::<fake::IoNet>("short"));
    assert!(
        matches!(market(&fake).machines().await, Err(MarketFault::Broken(_))),
        "the pages disagree"
    );
    fake.faults("list", named::<fake::IoNet>("short"), None);
    assert!(
        matches!(market(&fake).machines().await, Err(MarketFault::Broken(_))),
        "it counts more than it shows"
    );
    fake.no_more_faults();
    fake.fault("list", Fault::Pass);
    fake.fault("list", named::<fake::IoNet>("empty-503"));
    assert!(
        market(&fake).machines().await.unwrap_err().is_blind(),
        "half of it was read"
    );
    assert_eq!(market(&fake).machines().await.unwrap().len(), 150);
}

#[tokio::test]
async fn whoever_sees_nothing_concludes_nothing() {
    let (fake, first) = kind::<fake::IoNet>().await;
    let id = rented(&fake, &first, BOOT).await;
    for name in BLIND.into_iter().chain(["not-found"]) {
        let fresh = || market(&fake);
        fake.fault("list", named::<fake::IoNet>(name));
        assert!(fresh().machines().await.unwrap_err().is_blind(), "list, {name}");
        fake.fault("get", named::<fake::IoNet>(name));
        assert!(fresh().machine(&id).await.unwrap_err().is_blind(), "get, {name}");
        fake.fault("containers", named::<fake::IoNet>(name));
        assert!(fresh().machine(&id).await.unwrap_err().is_blind(), "containers, {name}");
        fake.fault("get", named::<fake::IoNet>(name));
        let query = charge(&fake, &id);
        assert!(fresh().charged(&query).await.unwrap_err().is_blind(), "charged, {name}");
        fake.fault("hardware", named::<fake::IoNet>(name));
        assert!(
            fresh().offers(&wanted()).await.unwrap_err().is_blind(),
            "offers, {name}"
        );
        fake.fault("log", named::<fake::IoNet>(name));
        let logs = fresh().logs(&id, 5).await;
        assert!(logs.is_ok() || logs.unwrap_err().is_blind(), "logs, {name}");
    }
    fake.no_more_faults();
    for status in [401, 403] {
        fake.with(|vendor| (vendor.key, vendor.auth_status) = ("another".to_owned(), status));
        let market = market(&fake);
        assert!(matches!(market.machines().await, Err(MarketFault::LockedOut(_))));
        assert!(matches!(market.machine(&id).await, Err(MarketFault::LockedOut(_))));
        assert!(matches!(market.destroy(&id).await, Err(MarketFault::LockedOut(_))));
    }
}

#[tokio::test]
async fn a_404_is_no_end_unless_the_list_agrees() {
    let (fake, market) = kind::<fake::IoNet>().await;
    let id = rented(&fake, &market, BOOT).await;
    let unknown = || Fault::Instead(Answer::json(404, &json!({ "detail": "Deployment not found" })));
    fake.fault("get", unknown());
    assert_eq!(
        market.machine(&id).await.unwrap().unwrap().id,
        id,
        "the list still has it"
    );
    fake.fault("destroy", unknown());
    assert!(market.destroy(&id).await.is_err());
    fake.fault("destroy", unknown());
    fake.fault("list", named::<fake::IoNet>("empty-503"));
    assert!(market.destroy(&id).await.unwrap_err().is_blind());
    for name in [
        "html-404",
        "not-found",
        "empty",
        "garbage",
        "empty-500",
        "drop-before",
        "rate-limited",
    ] {
        fake.fault("destroy", named::<fake::IoNet>(name));
        assert!(super::market(&fake).destroy(&id).await.is_err(), "{name}");
    }
    let stranger = "00000000-0000-4000-8000-00000000ffff";
    assert_eq!(market.machine(stranger).await, Ok(None));
    assert_eq!(market.destroy(stranger).await, Ok(Destroyed::Gone));
    for nonsense in ["", "..", "a/b", "x?y", "é"] {
        assert!(
            market.machine(nonsense).await.is_err() && market.destroy(nonsense).await.is_err(),
            "{nonsense}"
        );
    }
}

#[tokio::test]
async fn a_new_deployment_may_be_missing_from_the_list_at_first() {
    let (fake, market) = kind::<fake::IoNet>().await;
    fake.with(|vendor| vendor.list_lag = 2);
    let id = confirmed(market.create(&fake::IoNet::order(0)).await);
    assert!(market.machines().await.unwrap().is_empty());
    assert!(market.machine(&id).await.unwrap().is_some());
    assert!(market.machines().await.unwrap().is_empty());
    assert_eq!(market.machines().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_last_lines_of_both_streams() {
    let (fake, market) = kind::<fake::IoNet>().await;
    let id = rented(&fake, &market, BOOT).await;
    let name = "fb-xcaxccmexd1-01xcjd3zk7xxw5q0";
    let log = market.logs(&id, 2).await.unwrap();
    let lines = [("stdout", 39), ("stdout", 40), ("stderr", 39), ("stderr", 40)];
    let lines = lines.map(|(stream, line)| format!("{stream} line {line} of {name}"));
    assert_eq!(log, lines.join("\n"));
    fake.faults("log", Fault::Endless, Some(2));
    assert!(
        market.logs(&id, 2).await.unwrap().len() < 1 << 20,
        "a log without an end ends"
    );
    assert!(market.logs("00000000-0000-4000-8000-00000000ffff", 2).await.is_err());
}

#[tokio::test]
async fn envelopes_may_be_missing() {
    let (fake, market) = kind::<fake::IoNet>().await;
    fake.with(|vendor| vendor.is_bare = true);
    let id = rented(&fake, &market, BOOT).await;
    assert_eq!(market.offers(&wanted()).await.unwrap().len(), 5);
    assert_eq!(market.machine(&id).await.unwrap().unwrap().state, MachineState::Running);
    assert_eq!(market.machines().await.unwrap().len(), 1);
}

#[tokio::test]
async fn settings_of_the_fake_do_what_they_say() {
    let (fake, market) = kind::<fake::IoNet>().await;
    let id = rented(&fake, &market, BOOT).await;
    let set = |name: &str, value: Value| fake.with(|vendor| vendor.set(name, &value)).unwrap();
    set("odd_case", json!(true));
    assert_eq!(market.machine(&id).await.unwrap().unwrap().status, "Running");
    refuses_nonsense(&fake);
    assert_eq!(fake.with(|vendor| vendor.deployments[0].phase), Phase::Running);
}
