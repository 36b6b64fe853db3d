//! More time for a machine, as every surface asks for it and tells of it.

use super::view;
use forebay_api::{GpuExtend, GpuExtended, GpuExtension};
use forebay_compute::{
    Rentals,
    rental::{ExtendRequest, Trial, Verdict},
};
use forebay_domain::{Failure, Principal};

/// Lets the machine of that name live longer, or says what that would cost.
pub(crate) async fn extend(
    rentals: &Rentals,
    principal: &Principal,
    name: &str,
    (wish, idempotency_key): (&GpuExtend, Option<String>),
) -> Result<GpuExtended, Failure> {
    let found = rentals.find(principal, None, name).await?;
    let request = ExtendRequest {
        by: view::hours(wish.hours),
        idempotency_key,
    };
    if wish.dry_run {
        let trial = rentals.try_extending(principal, &found.id, request).await?;
        return Ok(GpuExtended::DryRun(Box::new(dry_run(&trial))));
    }
    let extended = rentals.extend(principal, &found.id, request).await?;
    Ok(GpuExtended::Extended(Box::new(view::instance(&extended))))
}

fn dry_run(trial: &Trial) -> GpuExtension {
    let (reason, warnings) = match &trial.verdict {
        Verdict::Judged(advice) => view::advice(advice),
        Verdict::PastLimit(words) => (Some(words.clone()), Vec::new()),
    };
    GpuExtension {
        outcome: "dry_run".to_owned(),
        instance: view::instance(&trial.rental),
        hours: trial.by.as_secs_f64() / 3_600.0,
        ends_by: trial.ends_by,
        cost_usd: trial.cost,
        paid_at_once_usd: trial.at_once,
        allowed: reason.is_none(),
        reason,
        warnings,
    }
}
