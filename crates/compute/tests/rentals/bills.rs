//! Bills that come late, and in parts: in the end what was spent is what the provider has charged.

use crate::world::{MINUTE, World, ann, wish};
use forebay_domain::money::Usd;
use forebay_store::{ledger::TransactionQuery, rentals::RentalState};
use forebay_testkit::markets::vast::Vast;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
/// Its rows are rounded to a tenth of a cent, and there is one for each day.
const ROUNDED: i64 = 1_000;

#[tokio::test]
async fn what_it_came_to_at_vast_is_its_bill_however_late_and_in_parts_that_comes() {
    let world = World::<Vast>::sqlite().await;
    let gateway = world.gateway().await;
    // Its two hours lie in two days.
    world.clock.advance(23 * HOUR);
    let offer = gateway.offer("4090").await;
    let mut two_hours = wish(&offer.id);
    two_hours.lifetime = Some(6 * HOUR);
    let rental = gateway.create(two_hours).await.unwrap();
    world.pass(&gateway, 2 * HOUR).await;
    gateway.rentals.destroy(&ann(), &rental.id).await.unwrap();
    world.pass(&gateway, 2 * MINUTE).await;
    let gone = gateway.get(&rental.id).await;
    assert_eq!(gone.state, RentalState::Gone);
    let ours = gone.spent;
    let id: u64 = rental.machine.unwrap().parse().unwrap();
    let bill = world.fake.with(|vast| vast.charged(id));
    assert!(bill < ours, "it does not cost while it boots: {bill} of {ours}");
    let spent = async || gateway.get(&rental.id).await.spent;

    world.fake.with(|vast| vast.charges_are_late = true);
    world.pass(&gateway, 10 * MINUTE).await;
    assert_eq!(spent().await, ours, "nothing is said yet");
    assert!(!world.fake.seen_at("charges").is_empty(), "though it was asked for");
    world.fake.with(|vast| {
        vast.charges_are_late = false;
        vast.charge_days_missing = 1;
    });
    world.clock.advance(6 * HOUR);
    world.pass(&gateway, MINUTE).await;
    assert_eq!(world.fake.seen_at("charges").len(), 2);
    assert_eq!(spent().await, ours, "a part is no bill");
    world.fake.with(|vast| vast.charge_days_missing = 0);
    world.clock.advance(36 * HOUR);
    world.pass(&gateway, MINUTE).await;
    let beyond = spent().await.micros() - bill.micros();
    assert!(beyond.abs() <= 2 * ROUNDED, "{} for {bill}", spent().await);

    let posted: Usd = {
        let query = TransactionQuery {
            posted_only: true,
            limit: 1_000,
            ..TransactionQuery::of(rental.owner.tenant.clone())
        };
        let page = gateway.store.ledger().transactions(&query).await.unwrap();
        page.transactions.iter().map(|one| one.posted).sum()
    };
    assert_eq!(posted, spent().await, "and so the ledger has it");
    assert_eq!(gateway.standing().await.held, Usd::ZERO);
    gateway.close().await;
}
