//! What somebody spends and may still spend, in the one form that every surface shows.

use crate::app::App;
use forebay_api::{SpendingCheck, SpendingInfo, SpendingWindow};
use forebay_domain::{
    Failure,
    ledger::{Admission, Ask, Overrun, Payer, Standing},
    money::{Rounding, Usd, UsdRate},
};

/// How all windows stand that count for this payer.
pub(crate) async fn of(app: &App, payer: &Payer) -> Result<SpendingInfo, Failure> {
    let standings = app.store.ledger().standings(payer).await?;
    Ok(info(&standings))
}

/// Whether so much more could be spent now. Nothing is set aside.
pub(crate) async fn check(app: &App, payer: &Payer, estimated_cost: Usd) -> Result<SpendingCheck, Failure> {
    let ask = Ask {
        amount: estimated_cost,
        rate: UsdRate::ZERO,
    };
    let judged = app.store.ledger().judge(payer, ask).await?;
    Ok(checked(estimated_cost, judged))
}

fn checked(estimated_cost: Usd, judged: Result<Admission, Overrun>) -> SpendingCheck {
    let (reason, warnings) = match judged {
        Ok(admission) => (None, admission.warnings.iter().map(ToString::to_string).collect()),
        Err(overrun) => (Some(overrun.to_string()), Vec::new()),
    };
    SpendingCheck {
        estimated_cost,
        allowed: reason.is_none(),
        reason,
        warnings,
    }
}

/// An amount that somebody asks about: not below zero, and rounded as holds are.
pub(crate) fn amount(text: &str) -> Result<Usd, String> {
    match Usd::parse(text, Rounding::Up) {
        Ok(amount) if amount.is_negative() => Err("an amount is not below zero".to_owned()),
        Ok(amount) => Ok(amount),
        Err(fault) => Err(fault.to_string()),
    }
}

fn info(standings: &[Standing]) -> SpendingInfo {
    // The widest purse that has a limit sees all that runs within it.
    let burn = standings.iter().map(|standing| standing.burn).max().unwrap_or_default();
    SpendingInfo {
        windows: standings.iter().map(window).collect(),
        burn_usd_per_hour: burn.hourly(),
        check: None,
    }
}

fn window(standing: &Standing) -> SpendingWindow {
    SpendingWindow {
        scope: standing.purse.scope,
        id: standing.purse.id.clone(),
        window_minutes: standing.window.minutes,
        limit_usd: standing.window.limit,
        spent_usd: standing.posted,
        held_usd: standing.held,
        remaining_usd: standing.remaining(),
        enforcement: standing.window.enforcement,
        status: status(standing).to_owned(),
    }
}

fn status(standing: &Standing) -> &'static str {
    let (used, limit) = (
        i128::from(standing.used().micros()),
        i128::from(standing.window.limit.micros()),
    );
    // A limit of nothing is reached from the beginning.
    if used >= limit {
        "exceeded"
    } else if used * 5 >= limit * 4 {
        "warning"
    } else {
        "ok"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::ledger::{Enforcement, Purse, Scope, Window};

    fn standing(limit: &str, posted: &str, held: &str) -> Standing {
        Standing {
            purse: Purse {
                tenant: "acme".parse().unwrap(),
                scope: Scope::Tenant,
                id: "acme".to_owned(),
            },
            window: Window::new(60, limit.parse().unwrap(), Enforcement::Hard).unwrap(),
            posted: posted.parse().unwrap(),
            held: held.parse().unwrap(),
            burn: UsdRate::per_hour("0.5".parse().unwrap()),
        }
    }

    #[test]
    fn a_window_says_how_near_its_limit_is() {
        for (limit, posted, held, expected) in [
            ("50", "45", "0", "warning"),
            ("50", "39.99", "0", "ok"),
            ("50", "30", "10", "warning"),
            ("50", "50", "0", "exceeded"),
            ("50", "20", "40", "exceeded"),
            ("0", "0", "0", "exceeded"),
        ] {
            assert_eq!(
                status(&standing(limit, posted, held)),
                expected,
                "{limit} {posted} {held}"
            );
        }
    }

    #[test]
    fn amounts_are_decimal_numbers() {
        let info = info(&[standing("50", "45", "0.1")]);
        let json = serde_json::to_value(&info).unwrap();
        assert_eq!(json["burn_usd_per_hour"], 0.5);
        let window = &json["windows"][0];
        assert_eq!(
            (&window["spent_usd"], &window["remaining_usd"]),
            (&45.0.into(), &4.9.into())
        );
        assert_eq!(window["window_minutes"], 60);
    }

    #[test]
    fn an_amount_to_ask_about_is_a_decimal_number() {
        assert_eq!(amount("3.0").unwrap().to_string(), "3.00");
        for wrong in ["-1", "NaN", "", "1e99"] {
            assert!(amount(wrong).is_err(), "{wrong}");
        }
    }
}
