//! A machine that its provider could not start: its end is an end, and it is settled.

use crate::world::{MINUTE, World};
use forebay_compute::rental::Why;
use forebay_domain::money::Usd;
use forebay_store::rentals::RentalState;
use forebay_testkit::markets::ionet::IoNet;

#[tokio::test]
async fn a_deployment_that_failed_is_ended_once_and_settled() {
    let world = World::<IoNet>::sqlite().await;
    world.fake.with(|ionet| ionet.fails_boot = true);
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 45 * MINUTE).await;
    let ended = gateway.get(&rental.id).await;
    assert_eq!((ended.state, ended.why), (RentalState::Gone, Some(Why::NeverStarted)));
    // Its list knows of it for ever, and says each time that it cannot be ended.
    assert_eq!(world.fake.seen_at("destroy").len(), 1);
    let standing = gateway.standing().await;
    assert_eq!((standing.posted, standing.held), (offer.rate.hourly(), Usd::ZERO));
    gateway.close().await;
}
