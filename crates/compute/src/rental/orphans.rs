//! Machines with a label of this installation that nobody rents: of a row that has ended, or of none. They cost, so they
//! are destroyed, once several lists have shown them. Whatever else has no such label is somebody else's, and is left alone.

use super::{
    Rentals, label,
    reconcile::Watching,
    state,
    types::{Done, RentalNews},
};
use crate::market::{Machine, MachineState};
use forebay_domain::{
    event::{Intent, Surface},
    id::TraceId,
    market::Provider,
};
use std::collections::BTreeMap;
use tracing::warn;

/// In how many lists in a row each of them was seen, by its id.
pub(super) type Suspects = BTreeMap<String, u32>;

impl Rentals {
    pub(super) async fn see_orphans(&self, provider: Provider, machines: &[Machine]) -> Done<()> {
        let installation = self.installation().await?;
        let mut suspects = Vec::new();
        for machine in machines {
            let is_ours = label::installation_of(&machine.label) == Some(installation);
            let is_over = matches!(machine.state, MachineState::Ended | MachineState::Ending);
            if is_ours && !is_over && self.is_nobodys(machine).await? {
                suspects.push(machine);
            }
        }
        let certain = self.watching(provider, |watching| {
            let before = std::mem::take(&mut watching.orphans);
            for machine in &suspects {
                let seen = before.get(&machine.id).copied().unwrap_or(0) + 1;
                watching.orphans.insert(machine.id.clone(), seen);
            }
            let is_certain = |machine: &&&Machine| watching.orphans[&machine.id] >= state::MISSES;
            suspects.iter().filter(is_certain).copied().cloned().collect::<Vec<_>>()
        });
        for machine in certain {
            self.destroy_orphan(provider, &machine).await?;
        }
        if !suspects.is_empty() {
            self.nudge_soon(provider);
        }
        Ok(())
    }

    async fn is_nobodys(&self, machine: &Machine) -> Done<bool> {
        let row = self.0.store.of_label(&machine.label).await?;
        // A row whose machine is known by another id has this one besides, as nobody wanted.
        Ok(row.is_none_or(|row| {
            let is_another = row.machine.as_ref().is_some_and(|own| *own != machine.id);
            !row.state.is_live() || is_another
        }))
    }

    async fn destroy_orphan(&self, provider: Provider, machine: &Machine) -> Done<()> {
        let (id, label) = (machine.id.clone(), machine.label.clone());
        warn!(market.provider = %provider, machine.id = id, machine.label = label, "a machine of ours is nobody's, and is destroyed");
        self.0.metrics.orphan(provider);
        let intent = Intent {
            surface: Surface::System,
            trace: TraceId::new(self.now(), self.0.entropy.bytes()),
            actor: None,
            action: "gpu:destroy".to_owned(),
            reason: Some(format!("orphan {id} at {provider}, labelled {label}")),
        };
        self.0.events.audit(intent.at(self.now())).await?;
        if let Some(market) = self.market(provider) {
            let answer = market.destroy(&id).await;
            self.0.metrics.destroyed(provider, &answer);
        }
        self.say(RentalNews::Orphan {
            provider,
            machine: id,
            label,
        });
        Ok(())
    }

    /// A machine that nobody rents is looked at again with the next period, and not only in a few minutes.
    fn nudge_soon(&self, provider: Provider) {
        self.watching(provider, Watching::look_again);
    }
}
