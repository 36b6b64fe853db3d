//! Kinds of GPU, and who has how many of them free.

use super::{super::Answer, problem};
use crate::markets::Ask;
use serde_json::{Value, json};

/// One kind. The first of each pair is of the secure cloud, the second of the community's.
#[derive(Debug, Clone)]
pub struct Gpu {
    pub id: String,
    pub name: &'static str,
    pub memory: u32,
    /// Of an hour of one, in micro-dollars; 0 where that cloud has none.
    pub price: [i64; 2],
    pub max_count: [u32; 2],
    pub free: [u32; 2],
    pub places: Vec<&'static str>,
}

fn gpu(id: &str, name: &'static str, memory: u32, price: [i64; 2]) -> Gpu {
    Gpu {
        id: id.to_owned(),
        name,
        memory,
        price,
        max_count: price.map(|price| if price == 0 { 0 } else { 8 }),
        free: price.map(|price| if price == 0 { 0 } else { 16 }),
        places: vec!["US-KS-2", "EU-RO-1"],
    }
}

pub(super) fn usual() -> Vec<Gpu> {
    vec![
        gpu("NVIDIA GeForce RTX 4090", "RTX 4090", 24, [690_000, 340_000]),
        gpu("NVIDIA L4", "L4", 24, [430_000, 0]),
        gpu("NVIDIA RTX A4000", "RTX A4000", 16, [250_000, 170_000]),
        gpu("NVIDIA H100 80GB HBM3", "H100 SXM", 80, [2_990_000, 0]),
        Gpu {
            free: [0, 0],
            ..gpu("NVIDIA B200", "B200", 180, [5_990_000, 0])
        },
    ]
}

pub(super) fn many(count: usize) -> Vec<Gpu> {
    let row = |at: usize| {
        let price = 150_000 + i64::try_from(at % 997).expect("below 997") * 1_000;
        gpu(
            &format!("NVIDIA Fake {at}"),
            "Fake",
            [16, 24, 48, 80][at % 4],
            [price, 0],
        )
    };
    (0..count).map(row).collect()
}

pub(super) fn index(cloud: &str) -> usize {
    usize::from(cloud == "COMMUNITY")
}

impl Gpu {
    pub(super) fn take(&mut self, cloud: &str, count: u32) -> bool {
        let free = &mut self.free[index(cloud)];
        let is_there = *free >= count && self.max_count[index(cloud)] >= count;
        if is_there {
            *free -= count;
        }
        is_there
    }

    pub(super) fn give_back(&mut self, cloud: &str, count: u32) {
        self.free[index(cloud)] += count;
    }

    fn json(&self, ask: &Ask<'_>) -> Value {
        let [secure, community] = self.price.map(|micros| (micros > 0).then(|| super::pod::usd(micros)));
        let mut gpu = json!({
            "id": self.id, "name": self.name, "manufacturer": "NVIDIA", "memory": self.memory,
            "secure": secure.is_some(), "community": community.is_some(),
            "price": { "secure": secure, "community": community },
            "maxCount": { "secure": self.max_count[0], "community": self.max_count[1] },
        });
        if ask.seen.query("include") == Some("AVAILABILITY") {
            let count: u32 = ask
                .seen
                .query("count")
                .and_then(|count| count.parse().ok())
                .unwrap_or(1);
            let clouds = match ask.seen.query("cloud") {
                Some(cloud) => vec![index(cloud)],
                None => vec![0, 1],
            };
            let is_there = clouds
                .iter()
                .any(|cloud| self.free[*cloud] >= count && self.max_count[*cloud] >= count);
            let availability = if is_there { "HIGH" } else { "NONE" };
            let wanted = ask.seen.query("countryCodes");
            let is_wanted = |place: &&&str| wanted.is_none_or(|code| place.split('-').any(|part| part == code));
            let places = self.places.iter().filter(is_wanted);
            let places = places.map(|place| json!({ "id": place, "name": place, "availability": availability }));
            let places: Vec<Value> = places.collect();
            gpu["availability"] = json!(if places.is_empty() { "NONE" } else { availability });
            gpu["dataCenters"] = json!(places);
        }
        gpu
    }
}

pub(super) fn list(gpus: &[Gpu], ask: &Ask<'_>) -> Answer {
    let gpus: Vec<Value> = gpus.iter().map(|gpu| gpu.json(ask)).collect();
    Answer::json(200, &json!({ "gpus": gpus }))
}

pub(super) fn one(gpus: &[Gpu], segment: &str, ask: &Ask<'_>) -> Answer {
    let text = format!("id={segment}");
    let id = url::form_urlencoded::parse(text.as_bytes())
        .next()
        .map(|(_, id)| id.into_owned());
    match gpus.iter().find(|gpu| Some(&gpu.id) == id.as_ref()) {
        Some(gpu) => Answer::json(200, &gpu.json(ask)),
        None => problem(404, "Not Found", "GPU type not found"),
    }
}

pub(super) fn data_centers(gpus: &[Gpu]) -> Answer {
    let mut places: Vec<&str> = gpus.iter().flat_map(|gpu| gpu.places.iter().copied()).collect();
    places.sort_unstable();
    places.dedup();
    let places = places.into_iter().map(|place| json!({ "id": place, "name": place }));
    Answer::json(200, &json!({ "dataCenters": places.collect::<Vec<_>>() }))
}
