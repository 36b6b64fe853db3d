//! What of this machine can be had: its GPUs as its driver names them, or shares of its CPU.

use crate::{market::Order, rental::OUR_VARIABLES};
use forebay_domain::market::nominal_vram_gb;
use nvml_wrapper::{Nvml, error::NvmlError};
use std::{num::NonZero, thread::available_parallelism};

/// Shares of the CPU where nobody says how many.
const CPU_SLOTS_MAX: u32 = 8;
const BYTES_PER_MIB: u64 = 1 << 20;
const KIB_PER_GB: f64 = 1_048_576.0;

/// A part of this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// `gpu-0` or `cpu-0`.
    pub id: String,
    pub kind: SlotKind,
    /// As its driver calls it; empty for a share of the CPU.
    pub gpu: String,
    pub vram_gb: u32,
    pub cpu_cores: Option<f64>,
    pub memory_gb: Option<f64>,
    /// By which the driver knows this GPU for ever.
    pub uuid: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    Gpu,
    Cpu,
}

/// A GPU as its driver tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gpu {
    pub name: String,
    pub memory_mib: u64,
    pub uuid: String,
}

impl Slot {
    /// What an agent is told. It is our own binary and runs as the gateway does, and so do its guard and its loader: a
    /// variable of whoever rents reaches none of them.
    pub(super) fn env(&self, order: &Order) -> Vec<(String, String)> {
        let told = order.env.iter().chain(&order.secrets);
        let ours = told.filter(|(name, _)| name.starts_with(OUR_VARIABLES));
        let mut env: Vec<_> = ours.map(|(name, value)| (name.clone(), value.clone())).collect();
        env.extend(self.place());
        env
    }

    /// What it sees of the machine.
    fn place(&self) -> [(String, String); 2] {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let gpus = self.uuid.as_deref().unwrap_or("none");
        [
            variable("FOREBAY_SLOT", &self.id),
            variable("CUDA_VISIBLE_DEVICES", gpus),
        ]
    }
}

/// The parts of this machine: a slot for each GPU, or shares of the CPU where there is none.
pub fn slots(cpu_slots: Option<u32>) -> Vec<Slot> {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let cores = u32::try_from(cores).unwrap_or(u32::MAX);
    divide(&gpus(), cpu_slots, cores, memory_gb())
}

/// The GPUs of this machine; none where there is no driver. One that cannot be read is no offer.
fn gpus() -> Vec<Gpu> {
    // Drivers bring the library under this name; the one without a number comes with what one builds against it.
    let Ok(nvml) = Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init() else {
        return Vec::new();
    };
    let read = |index| -> Result<Gpu, NvmlError> {
        let device = nvml.device_by_index(index)?;
        Ok(Gpu {
            name: device.name()?,
            memory_mib: device.memory_info()?.total / BYTES_PER_MIB,
            uuid: device.uuid()?,
        })
    };
    let count = nvml.device_count().unwrap_or_default();
    (0..count).filter_map(|index| read(index).ok()).collect()
}

fn divide(gpus: &[Gpu], cpu_slots: Option<u32>, cores: u32, memory_gb: Option<f64>) -> Vec<Slot> {
    let gpu = |(index, gpu): (usize, &Gpu)| Slot {
        id: format!("gpu-{index}"),
        kind: SlotKind::Gpu,
        gpu: gpu.name.clone(),
        vram_gb: nominal_vram_gb(gpu.memory_mib),
        cpu_cores: None,
        memory_gb: None,
        uuid: Some(gpu.uuid.clone()),
    };
    if !gpus.is_empty() {
        return gpus.iter().enumerate().map(gpu).collect();
    }
    let count = cpu_slots.unwrap_or(cores.clamp(1, CPU_SLOTS_MAX));
    let share = |whole: f64| whole / f64::from(count);
    let cpu = |index: u32| Slot {
        id: format!("cpu-{index}"),
        kind: SlotKind::Cpu,
        gpu: String::new(),
        vram_gb: 0,
        cpu_cores: Some(share(f64::from(cores))),
        memory_gb: memory_gb.map(share),
        uuid: None,
    };
    (0..count).map(cpu).collect()
}

/// All of the machine's memory, from the first line of `/proc/meminfo`: `MemTotal:  16316412 kB`.
fn memory_gb() -> Option<f64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: f64 = meminfo.lines().next()?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib / KIB_PER_GB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn card(name: &str, memory_mib: u64, uuid: &str) -> Gpu {
        Gpu {
            name: name.to_owned(),
            memory_mib,
            uuid: uuid.to_owned(),
        }
    }

    #[test]
    fn each_gpu_is_a_slot_and_sees_itself_alone() {
        let cards = [
            card("NVIDIA L4", 23_034, "GPU-a"),
            card("NVIDIA H100 80GB HBM3", 81_559, "GPU-b"),
        ];
        let slots = divide(&cards, Some(4), 16, Some(64.0));
        let shown: Vec<_> = slots.iter().map(|slot| (slot.id.as_str(), slot.vram_gb)).collect();
        assert_eq!(shown, [("gpu-0", 24), ("gpu-1", 80)]);
        let visible = |slot: &Slot| {
            slot.place()
                .into_iter()
                .find(|(name, _)| name == "CUDA_VISIBLE_DEVICES")
        };
        assert_eq!(visible(&slots[1]).unwrap().1, "GPU-b");
    }

    #[test]
    fn without_a_gpu_the_cpu_is_divided() {
        let slots = divide(&[], None, 2, Some(8.0));
        assert_eq!(slots.len(), 2);
        assert_eq!((slots[0].cpu_cores, slots[0].memory_gb), (Some(1.0), Some(4.0)));
        assert_eq!(divide(&[], None, 128, None).len(), 8);
        assert_eq!(divide(&[], Some(3), 2, None).len(), 3);
        assert_eq!(slots[0].place()[1].1, "none", "a share of the CPU has no GPU");
    }

    #[test]
    fn an_agent_hears_from_the_gateway_alone() {
        let map = |pairs: &[(&str, &str)]| {
            let owned = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            owned.collect::<BTreeMap<String, String>>()
        };
        let order = Order {
            offer: "cpu-0".to_owned(),
            label: "fb:acme:0".to_owned(),
            image: "x".to_owned(),
            disk_gb: 1,
            env: map(&[
                ("LD_PRELOAD", "/tmp/x.so"),
                ("LD_DEBUG_OUTPUT", "/tmp/x"),
                ("GLIBC_TUNABLES", "x"),
                ("PATH", "/tmp"),
                ("CUDA_VISIBLE_DEVICES", "all"),
                ("FOREBAY_URL", "http://127.0.0.1:4000"),
            ]),
            secrets: map(&[("FOREBAY_TOKEN", "fbi_1")]),
            ports: Vec::new(),
            on_start: None,
            hours: 1,
        };
        let env = divide(&[], Some(1), 1, None)[0].env(&order);
        let env: Vec<_> = env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let wanted = [
            ("FOREBAY_URL", "http://127.0.0.1:4000"),
            ("FOREBAY_TOKEN", "fbi_1"),
            ("FOREBAY_SLOT", "cpu-0"),
            ("CUDA_VISIBLE_DEVICES", "none"),
        ];
        assert_eq!(env, wanted);
    }
}
