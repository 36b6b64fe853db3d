//! Slots that are taken and let go, where no agent can be started.

use super::*;

/// Where no agent can be started.
fn local() -> Local {
    let (clock, tasks) = (Clock::system(), Tasks::new());
    let config = LocalConfig {
        cpu_slots: Some(2),
        usd_per_hour: "0.25".parse().unwrap(),
    };
    Local::new(LocalParts {
        slots: slots(config.cpu_slots),
        config,
        agent: AgentProgram {
            program: "/nowhere/forebay".to_owned(),
            args: vec!["instance-agent".to_owned()],
        },
        launcher: Launcher::new("/nowhere/forebay".into(), |_| None, tasks.clone(), clock.clone()),
        clock,
        tasks,
    })
}

fn order(offer: &str) -> Order {
    Order {
        offer: offer.to_owned(),
        label: "fb:acme:0".to_owned(),
        image: "x".to_owned(),
        disk_gb: 1,
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        ports: Vec::new(),
        on_start: None,
        hours: 1,
    }
}

#[tokio::test]
async fn an_agent_that_cannot_be_started_holds_no_slot() {
    let local = local();
    let before = local.offers(&Wanted::default()).await.unwrap();
    let id = before[0].id.id().to_owned();
    assert_eq!(before[0].rate.hourly(), "0.25".parse().unwrap());
    let refused = local.create(&order(&id)).await;
    assert!(
        matches!(refused, Created::Refused(MarketFault::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(local.offers(&Wanted::default()).await.unwrap(), before);
    assert!(local.machines().await.unwrap().is_empty());
    let none = local.create(&order("cpu-99")).await;
    assert!(matches!(none, Created::Refused(MarketFault::OfferGone(_))), "{none:?}");
}

#[tokio::test]
async fn a_slot_that_is_taken_is_no_offer() {
    let local = local();
    let offers = local.offers(&Wanted::default()).await.unwrap();
    let taken = offers[0].id.id().to_owned();
    let (_, reserved) = local.reserve(&order(&taken), "a").unwrap();
    assert!(local.offer(&taken, 1).await.unwrap().is_none());
    assert!(local.reserve(&order(&taken), "b").is_err());
    assert_eq!(local.offers(&Wanted::default()).await.unwrap().len(), offers.len() - 1);
    let machines = local.machines().await.unwrap();
    assert_eq!(
        (machines[0].label.as_str(), machines[0].state),
        ("fb:acme:0", MachineState::Starting)
    );
    // It is offered at another price, and who has it pays what was agreed on.
    let dearer = LocalConfig {
        cpu_slots: Some(2),
        usd_per_hour: "0.75".parse().unwrap(),
    };
    let anew = local.offered_as(&dearer, slots(dearer.cpu_slots));
    assert_eq!(
        anew.offers(&Wanted::default()).await.unwrap()[0].rate.hourly(),
        dearer.usd_per_hour
    );
    let agreed = Some(UsdRate::per_hour("0.25".parse().unwrap()));
    assert_eq!(anew.machines().await.unwrap()[0].rate, agreed);
    assert_eq!(anew.machine("a").await.unwrap().unwrap().rate, agreed);
    drop(reserved);
    assert_eq!(local.offers(&Wanted::default()).await.unwrap().len(), offers.len());
    assert_eq!(local.destroy("a").await, Ok(Destroyed::Gone));
}

/// Whoever destroys a machine while its agent is being started has its slot free again, whatever becomes of the agent.
#[tokio::test]
async fn an_end_that_comes_before_the_agent_keeps_no_slot() {
    let local = local();
    let before = local.offers(&Wanted::default()).await.unwrap();
    let (_, reserved) = local.reserve(&order(before[0].id.id()), "a").unwrap();
    assert_eq!(local.destroy("a").await, Ok(Destroyed::Accepted));
    assert_eq!(local.machines().await.unwrap()[0].state, MachineState::Ending);
    drop(reserved);
    assert!(local.machines().await.unwrap().is_empty());
    assert_eq!(local.offers(&Wanted::default()).await.unwrap(), before);
}
