//! Tells subscribers of machines and of money that something has changed, whichever replica changed it.
//!
//! The store is looked at every now and then, and at once where this process has changed something itself. What has
//! changed is not told: whoever wants to know reads the resource, and sees what it may see.

use super::{Gpu, definitions::OwnResource};
use crate::app::App;
use forebay_domain::Failure;
use forebay_mcp::source::Change;
use forebay_runtime::{
    Tasks,
    looping::{Loop, Nudge, drive},
};
use forebay_store::ledger::Mark;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::sync::watch;

/// What others have changed is heard within so long.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What changes here within so long is told as one.
const TOLD_EVERY: Duration = Duration::from_millis(500);

pub(super) fn follow(gpu: &Arc<Gpu>, app: &Arc<App>) {
    let nudge = Nudge::new();
    let news = News {
        gpu: gpu.clone(),
        app: Arc::downgrade(app),
        rentals: None,
        money: None,
    };
    drive(&app.tasks, news, LOOK_EVERY, nudge.clone());
    hurry(&app.tasks, app.rentals.watch(), nudge.clone());
    hurry(&app.tasks, app.store.ledger().moved(), nudge);
}

/// Has the store looked at soon where this process has changed something.
fn hurry(tasks: &Tasks, mut changes: watch::Receiver<u64>, nudge: Nudge) {
    tasks.spawn("gpu.news.own", |stop| async move {
        loop {
            tokio::select! {
                heard = changes.changed() => if heard.is_err() { return },
                () = stop.draining() => return,
            }
            nudge.nudge();
            tokio::select! {
                () = tokio::time::sleep(TOLD_EVERY) => {}
                () = stop.draining() => return,
            }
        }
    });
}

/// How things stood at the last look; nothing before the first one.
struct News {
    gpu: Arc<Gpu>,
    app: Weak<App>,
    rentals: Option<(i64, i64)>,
    money: Option<Mark>,
}

impl Loop for News {
    type Seen = Vec<OwnResource>;
    type Action = OwnResource;

    fn name(&self) -> &'static str {
        "gpu.news"
    }

    async fn observe(&mut self) -> Result<Vec<OwnResource>, Failure> {
        let mut changed = Vec::new();
        let Some(app) = self.app.upgrade() else {
            return Ok(changed);
        };
        let rentals = app.store.rentals().mark().await?;
        if self.rentals.replace(rentals).is_some_and(|before| before != rentals) {
            changed.push(OwnResource::Instances);
        }
        let money = app.store.ledger().mark().await?;
        if self.money.as_ref().is_some_and(|before| *before != money) {
            changed.push(OwnResource::Spending);
        }
        self.money = Some(money);
        Ok(changed)
    }

    fn decide(&self, changed: &Vec<OwnResource>) -> Vec<OwnResource> {
        changed.clone()
    }

    async fn act(&mut self, resource: OwnResource) -> Result<(), Failure> {
        if self.gpu.watched().contains(resource.uri())
            && let Some(app) = self.app.upgrade()
        {
            let uri = resource.uri().to_owned();
            app.catalogue.announce(self.gpu.as_ref(), Change::Resource { uri });
        }
        Ok(())
    }
}
