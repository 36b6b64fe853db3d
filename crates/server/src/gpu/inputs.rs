//! What the tools of the server `gpu` take, as schemas. Bounds that renting itself has are its own.

use super::definitions::Own;
use forebay_compute::rental::bounds::{
    DISK_GB_MAX, IDLE_MINUTES_MAX, IMAGE_BYTES_MAX, KEY_BYTES_MAX, PORTS_MAX, VARIABLE_BYTES_MAX,
    VARIABLE_NAME_BYTES_MAX, VARIABLES_MAX,
};
use serde_json::{Value, json};

impl Own {
    pub(super) fn input(self) -> Value {
        let provider = json!({"type": "string", "enum": ["vast.ai", "io.net", "runpod", "local", "vast", "ionet"],
            "description": "Where the machine is: vast.ai, io.net, runpod or local"});
        let offer = json!({"type": "string", "minLength": 1, "maxLength": 220,
            "description": "The instance_id of the offer, as list_gpu_instances shows it"});
        let own = json!({"type": "string", "minLength": 1, "maxLength": 220,
            "description": "Which machine of yours: its id, or the provider's id of it"});
        let image = json!({"type": "string", "minLength": 1, "maxLength": IMAGE_BYTES_MAX,
            "description": "Docker image to run"});
        let disk = json!({"type": "integer", "minimum": 1, "maximum": DISK_GB_MAX, "description": "Disk in GB"});
        let hours = json!({"type": "integer", "minimum": 1, "maximum": 8760,
            "description": "How long it lives at most, in hours; then it is destroyed"});
        let (properties, required): (Value, &[&str]) = match self {
            Self::ListOffers => (list_input(), &[]),
            Self::Create => (
                create_input(&provider, &offer, &image, (&disk, &hours)),
                &["provider", "instance_id"],
            ),
            Self::Destroy => (
                json!({"provider": provider, "instance_id": {"type": "string", "minLength": 1, "maxLength": 220,
                    "description": "Instance ID to destroy"}}),
                &["provider", "instance_id"],
            ),
            Self::Spending | Self::Mine => (json!({}), &[]),
            Self::CheckLimit => (
                json!({"estimated_cost": {"type": "number", "minimum": 0, "description": "Estimated cost in USD"}}),
                &["estimated_cost"],
            ),
            Self::Transactions => (
                json!({
                    "purpose": {"type": "string", "enum": ["model", "tool", "machine"], "description": "Only what was for this"},
                    "posted": {"type": "boolean", "description": "Only what was spent or given back, without holds"},
                    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "At most so many; 100 by default"},
                    "before": {"type": "string", "maxLength": 200, "description": "The `next` of the page before"},
                }),
                &[],
            ),
            Self::Proxy => (proxy_input(), &["target_url"]),
            Self::Quote => (
                json!({"provider": provider, "instance_id": offer, "image": image, "disk_gb": disk, "hours": hours}),
                &["provider", "instance_id"],
            ),
            Self::Get => (json!({"instance_id": own}), &["instance_id"]),
            Self::Extend => (
                json!({"instance_id": own, "hours": {"type": "integer", "minimum": 1, "maximum": 8760,
                    "description": "So many hours more"},
                    "idempotency_key": {"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX,
                        "description": "The same key gives the time once, however often it is called"},
                    "dry_run": {"type": "boolean", "description": "Say what it would cost, and give no time"}}),
                &["instance_id", "hours"],
            ),
            Self::Logs => (
                json!({"instance_id": own, "lines": {"type": "integer", "minimum": 1, "maximum": 1000,
                    "description": "So many of the last lines; 100 by default"}}),
                &["instance_id"],
            ),
        };
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    }
}

fn list_input() -> Value {
    json!({
        "provider": {"type": "string", "enum": ["vast.ai", "io.net", "runpod", "local", "vast", "ionet", "all"],
            "description": "Filter by provider (vast.ai, io.net, runpod, local, or all)"},
        "min_vram": {"type": "number", "minimum": 0, "maximum": 10000, "description": "Minimum VRAM of one GPU in GB"},
        "max_price": {"type": "number", "minimum": 0, "description": "Maximum price per hour in USD, all in"},
        "gpu": {"type": "string", "maxLength": 100, "description": "Part of the GPU's name, such as 4090"},
        "min_gpus": {"type": "integer", "minimum": 1, "maximum": 1024, "description": "Minimum number of GPUs"},
        "min_reliability": {"type": "number", "minimum": 0, "maximum": 1, "description": "From 0 to 1"},
        "country": {"type": "string", "pattern": "^[A-Za-z]{2}$", "description": "Two letters, such as US"},
        "disk_gb": {"type": "integer", "minimum": 1, "maximum": DISK_GB_MAX, "description": "Priced with so much disk"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 2000, "description": "At most so many; 100 by default"},
    })
}

fn create_input(provider: &Value, offer: &Value, image: &Value, (disk, hours): (&Value, &Value)) -> Value {
    json!({
        "provider": provider,
        "instance_id": offer,
        "image": image,
        "disk_gb": disk,
        "hours": hours,
        "idle_minutes": {"type": "integer", "minimum": 1, "maximum": IDLE_MINUTES_MAX,
            "description": "Destroy it once nobody has used it through the gateway for so long"},
        "ports": {"type": "array", "maxItems": PORTS_MAX, "items": {"type": "integer", "minimum": 1, "maximum": 65535},
            "description": "TCP ports that are to be reached"},
        "env": {"type": "object", "maxProperties": VARIABLES_MAX,
            "propertyNames": {"maxLength": VARIABLE_NAME_BYTES_MAX},
            "additionalProperties": {"type": "string", "maxLength": VARIABLE_BYTES_MAX},
            "description": "Environment variables; not for secrets"},
        "quote_id": {"type": "string", "maxLength": 100,
            "description": "A quote of quote_gpu_instance, or of an earlier call that asked for approval; what else is said has to agree with it"},
        "idempotency_key": {"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX,
            "description": "The same key rents once, however often it is called"},
        "dry_run": {"type": "boolean", "description": "Say what would happen, and rent nothing"},
    })
}

fn proxy_input() -> Value {
    json!({
        "target_url": {"type": "string", "minLength": 1, "maxLength": 2048,
            "description": "An endpoint of one of your machines, or a model route of this gateway"},
        "method": {"type": "string", "enum": ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"],
            "description": "HTTP method (default: POST)"},
        "body": {"description": "Request body: JSON, or text as it is"},
        "headers": {"type": "object", "maxProperties": 50, "additionalProperties": {"type": "string", "maxLength": 4096},
            "description": "Request headers; those that carry credentials are left out"},
    })
}
