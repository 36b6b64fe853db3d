//! Rows of vast.ai as what they mean. Pure; what a row does not say, or says badly, is left open.

use crate::market::{
    Machine, MachineState, MarketFault,
    wire::{rate_per_second, text, timestamp, unsigned, usd},
};
use forebay_domain::{
    market::{Billing, Offer, OfferId, Provider, nominal_vram_gb},
    money::UsdRate,
};
use serde_json::Value;
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// Longest label and words that are kept, in characters.
const STATUS_CHARS_MAX: usize = 120;
const HOURS_OF_A_MONTH: i128 = 720;
/// What `status_msg` says where an image will never start.
const HOPELESS: [&str; 4] = [
    "OCI runtime create failed",
    "manifest unknown",
    "pull access denied",
    "unauthorized:",
];

/// An instance; nothing where there is no id, or it cannot be one.
pub(super) fn machine(row: &Value) -> Option<Machine> {
    let id = row.get("id")?.as_u64().filter(|id| *id > 0)?;
    let state = state(row);
    Some(Machine {
        id: id.to_string(),
        label: text(row, "label").unwrap_or_default().to_owned(),
        state,
        status: status(row),
        rate: rate(row, state),
        paid: None,
        started_at: timestamp(row, "start_date"),
        ends_at: timestamp(row, "end_date"),
        endpoints: endpoints(row),
    })
}

fn state(row: &Value) -> MachineState {
    let is_stopped = |key: &str| text(row, key) == Some("stopped");
    let is_hopeless = || {
        let message = text(row, "status_msg").unwrap_or_default();
        HOPELESS.iter().any(|hopeless| message.contains(hopeless))
    };
    match text(row, "actual_status") {
        Some("running") => MachineState::Running,
        Some("stopped" | "frozen") => MachineState::Stopped,
        Some("exited") => MachineState::Exited,
        // Neither becomes running by itself.
        Some("unknown" | "offline") => MachineState::Failed,
        _ if is_hopeless() => MachineState::Failed,
        // It was made, and is not meant to run: a bid that was too low, or one that was beaten since.
        _ if is_stopped("intended_status") && is_stopped("cur_state") => MachineState::Stopped,
        // `created`, `loading`, `rebooting`, nothing yet, and whatever they invent.
        _ => MachineState::Starting,
    }
}

fn status(row: &Value) -> String {
    let actual = text(row, "actual_status").unwrap_or("provisioning");
    let words = match text(row, "status_msg") {
        Some(message) if !message.is_empty() => format!("{actual}: {message}"),
        _ => actual.to_owned(),
    };
    MarketFault::words(&words).chars().take(STATUS_CHARS_MAX).collect()
}

/// Never less than it costs: the whole price, unless it does not work and the provider says what it costs then.
fn rate(row: &Value, state: MachineState) -> Option<UsdRate> {
    let price = |object: &Value, key| usd(object, key).filter(|price| !price.is_negative());
    let whole = price(row, "dph_total").map(UsdRate::per_hour);
    let is_frozen = text(row, "actual_status") == Some("frozen");
    let now = || price(row.get("instance")?, "totalHour").map(UsdRate::per_hour);
    match state {
        MachineState::Stopped | MachineState::Failed | MachineState::Exited if !is_frozen => now().or(whole),
        MachineState::Starting
        | MachineState::Running
        | MachineState::Stopped
        | MachineState::Failed
        | MachineState::Exited
        | MachineState::Ending
        | MachineState::Ended => whole,
    }
}

/// `{"8000/tcp": [{"HostIp": …, "HostPort": "40017"}]}`, at the machine's public address.
fn endpoints(row: &Value) -> BTreeMap<u16, String> {
    let address: Option<IpAddr> = text(row, "public_ipaddr").and_then(|address| address.parse().ok());
    let (Some(address), Some(ports)) = (address, row.get("ports").and_then(Value::as_object)) else {
        return BTreeMap::new();
    };
    let endpoint = |(inside, bindings): (&String, &Value)| {
        let inside: u16 = inside.strip_suffix("/tcp")?.parse().ok()?;
        let binding = bindings
            .as_array()?
            .iter()
            .find_map(|binding| unsigned(binding, "HostPort"))?;
        let outside = u16::try_from(binding).ok().filter(|port| *port > 0)?;
        Some((
            inside,
            format!("http://{}", std::net::SocketAddr::new(address, outside)),
        ))
    };
    ports.iter().filter_map(endpoint).collect()
}

/// An offer that can be had on demand, priced with so much disk; nothing where a row is none, or has no price.
pub(super) fn offer(row: &Value, disk_gb: u32) -> Option<Offer> {
    let is = |key: &str, truth: bool| row.get(key).and_then(Value::as_bool).unwrap_or(!truth) == truth;
    let is_free = is("rentable", true) && !is("rented", true) && !is("is_bid", true) && !is("external", true);
    let is_verified = text(row, "verification") == Some("verified");
    let has_room = row
        .get("disk_space")
        .and_then(Value::as_f64)
        .is_some_and(|gb| gb >= f64::from(disk_gb));
    if !is_free || !is_verified || !has_room {
        return None;
    }
    let id = unsigned(row, "ask_contract_id")
        .or_else(|| unsigned(row, "id"))
        .filter(|id| *id > 0)?;
    let place = text(row, "geolocation").filter(|place| !place.is_empty());
    let seconds = row
        .get("duration")
        .and_then(Value::as_f64)
        .filter(|seconds| *seconds > 0.0);
    Some(Offer {
        id: OfferId::new(Provider::Vast, &id.to_string()).ok()?,
        gpu: MarketFault::words(text(row, "gpu_name").unwrap_or_default()),
        gpus: u32::try_from(unsigned(row, "num_gpus")?)
            .ok()
            .filter(|gpus| *gpus > 0)?,
        vram_gb: nominal_vram_gb(unsigned(row, "gpu_ram")?.min(1 << 40)),
        cpu_cores: row.get("cpu_cores_effective").and_then(Value::as_f64),
        memory_gb: memory_gb(row),
        disk_gb,
        rate: all_in(row, disk_gb)?,
        billing: Billing::Accrues,
        country: place.and_then(country),
        place: place.map(MarketFault::words),
        reliability: reliability(row),
        tier: hosting(row),
        longest: seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    })
}

/// What an hour costs with the disk. The sum that the provider made counts, unless it has left the disk out.
fn all_in(row: &Value, disk_gb: u32) -> Option<UsdRate> {
    let total = usd(row, "dph_total").filter(|total| total.micros() > 0)?;
    let total = UsdRate::per_hour(total);
    let base = usd(row, "dph_base").unwrap_or_default();
    let storage = usd(row, "storage_cost").unwrap_or_default();
    if base.is_negative() || storage.is_negative() {
        return None;
    }
    // Dollars for a GB and month; never rounded up twice, so that the provider's own sum is not above its price.
    let disk = i128::from(storage.micros()) * i128::from(disk_gb) * 1_000 / HOURS_OF_A_MONTH;
    let own = UsdRate::per_hour(base).saturating_add(UsdRate::from_nanos_per_hour(i64::try_from(disk).ok()?));
    Some(total.max(own))
}

/// Of the machine's memory as much as of its cores; all of it where it does not say how many it has.
fn memory_gb(row: &Value) -> Option<f64> {
    let number = |key: &str| row.get(key).and_then(Value::as_f64).filter(|number| *number > 0.0);
    let whole = number("cpu_ram")? / 1_024.0;
    let share = number("cpu_cores_effective").zip(number("cpu_cores"));
    Some(whole * share.map_or(1.0, |(own, all)| (own / all).min(1.0)))
}

fn reliability(row: &Value) -> Option<f64> {
    let said = |key: &str| {
        row.get(key)
            .and_then(Value::as_f64)
            .filter(|part| (0.0..=1.0).contains(part))
    };
    said("reliability").or_else(|| said("reliability2"))
}

fn hosting(row: &Value) -> Option<String> {
    match unsigned(row, "hosting_type")? {
        0 => Some("consumer".to_owned()),
        1 => Some("datacenter".to_owned()),
        _ => None,
    }
}

/// `Quebec, CA`: the last two letters.
fn country(place: &str) -> Option<String> {
    let last = place.rsplit(',').next()?.trim();
    let is_code = last.len() == 2 && last.bytes().all(|byte| byte.is_ascii_uppercase());
    is_code.then(|| last.to_owned())
}

/// What GPU and disk cost together, by the second, `old` or `new`.
pub(super) fn rate_of(row: &Value, which: &str) -> Option<UsdRate> {
    let part = |what: &str| rate_per_second(row, &format!("{which}_{what}_costpersec"));
    Some(part("gpu")?.saturating_add(part("disk_ram").unwrap_or_default()))
}
