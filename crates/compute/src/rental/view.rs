//! A record as others see it.

use super::{record::Record, types::Rental};
use forebay_domain::{Code, Failure, market::OfferId};

impl Record {
    pub(crate) fn view(&self) -> Result<Rental, Failure> {
        let (row, body) = (&self.row, &self.body);
        let offer = OfferId::new(row.provider, &row.offer)
            .map_err(|fault| Failure::new(Code::InternalError, "a rental has no offer").caused_by(fault))?;
        let seen = body.seen.as_ref();
        Ok(Rental {
            id: row.id.clone(),
            label: row.label.clone(),
            owner: row.owner.clone(),
            offer,
            machine: row.machine.clone(),
            state: row.state,
            desired: row.desired,
            machine_state: self.machine_state(),
            status: seen.map(|seen| seen.status.clone()),
            seen_at: seen.map(|seen| seen.at),
            gpu: body.ordered.gpu.clone(),
            gpus: body.ordered.gpus,
            vram_gb: body.ordered.vram_gb,
            country: body.ordered.country.clone(),
            image: body.ordered.image.clone(),
            disk_gb: body.ordered.disk_gb,
            rate: body.rate(),
            burn: body.burn(),
            paying: body.paying,
            spent: self.spent(),
            created_at: row.created_at,
            since: body.asked_at,
            ends_by: body.ends_by,
            idle: body.idle,
            ended_at: body.ended_at,
            why: body.why,
            fault: body.fault.clone(),
            endpoints: seen.map(|seen| seen.endpoints.clone()).unwrap_or_default(),
            bare: body.ordered.bare,
            reported_at: body.reported_at,
        })
    }
}
