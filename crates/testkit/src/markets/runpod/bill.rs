//! Bills of pods, in buckets of an hour.

use super::{RunPod, pod::usd, problem};
use crate::markets::{Answer, Ask};
use jiff::Timestamp;
use serde_json::{Value, json};

const HOUR: i64 = 3_600;

/// Aligned to whole hours, as its documentation says. Other sizes of bucket nobody here asks for.
pub(super) fn show(provider: &RunPod, ask: &Ask<'_>) -> Answer {
    let time = |name: &str| ask.seen.query(name).and_then(|text| text.parse::<Timestamp>().ok());
    if ask.seen.query("bucketSize") != Some("hour") {
        return problem(400, "Bad Request", "only buckets of an hour are known here");
    }
    let now = ask.now.as_second();
    let until = time("endTime").map_or(now, Timestamp::as_second);
    let since = time("startTime").map_or(until - 30 * 24 * HOUR, Timestamp::as_second);
    let since = since - since.rem_euclid(HOUR);
    let known = now - provider.bill_lag * HOUR;
    let wanted = ask.seen.query("podId");
    let pods = provider
        .pods
        .iter()
        .filter(|pod| wanted.is_none_or(|wanted| wanted == pod.id));
    let mut records = Vec::new();
    let mut total = 0;
    for (pod, (hour, used)) in pods.flat_map(|pod| pod.used.iter().map(move |used| (pod, used))) {
        if *hour < since || *hour >= until || *hour > known {
            continue;
        }
        let [gpu, disk] = used.cost();
        total += gpu + disk;
        records.push(json!({
            "startTime": instant(*hour), "endTime": instant(hour + HOUR), "podId": pod.id,
            "totalAmount": usd(gpu + disk), "gpuAmount": usd(gpu), "cpuAmount": 0, "diskAmount": usd(disk),
        }));
    }
    Answer::json(
        200,
        &json!({ "records": records, "metadata": { "totalAmount": usd(total) } }),
    )
}

fn instant(second: i64) -> Value {
    json!(
        Timestamp::from_second(second)
            .map(|time| time.to_string())
            .unwrap_or_default()
    )
}
