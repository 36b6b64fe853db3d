//! The tools and resources of the server `gpu`, as lists show them. The names and required parameters of the first seven
//! are what clients in the field call.

use forebay_domain::Action;
use forebay_mcp::{
    call::raw,
    source::{Hints, Resource, Tool},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// What rents, ends or asks a provider may take as long as the provider does.
const SLOW: Duration = Duration::from_mins(3);
const QUICK: Duration = Duration::from_secs(30);

macro_rules! tools {
    ($($variant:ident = $name:literal $action:ident $effect:ident $limit:ident,)*) => {
        /// The tools of this server.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Own { $($variant,)* }

        impl Own {
            pub(super) const ALL: [Self; [$($name),*].len()] = [$(Self::$variant,)*];

            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What its caller has to be allowed, beside calling the tool.
            pub(super) fn action(self) -> Action {
                match self { $(Self::$variant => Action::$action,)* }
            }

            fn effect(self) -> Effect {
                match self { $(Self::$variant => Effect::$effect,)* }
            }

            fn time_limit(self) -> Duration {
                match self { $(Self::$variant => $limit,)* }
            }
        }
    };
}

tools! {
    ListOffers = "list_gpu_instances" GPU_READ LooksOutside SLOW,
    Create = "create_gpu_instance" GPU_CREATE Spends SLOW,
    Destroy = "destroy_gpu_instance" GPU_DESTROY Destroys SLOW,
    Spending = "get_spending_info" SPENDING_READ Looks QUICK,
    CheckLimit = "check_spending_limit" SPENDING_READ Looks QUICK,
    Transactions = "get_billing_transactions" BILLING_READ Looks QUICK,
    Proxy = "proxy_inference_request" GPU_PROXY Sends LONG,
    Quote = "quote_gpu_instance" GPU_READ LooksOutside SLOW,
    Get = "get_gpu_instance" GPU_READ Looks QUICK,
    Mine = "list_my_gpu_instances" GPU_READ Looks QUICK,
    Extend = "extend_gpu_instance" GPU_CREATE Spends SLOW,
    Logs = "get_gpu_instance_logs" GPU_READ LooksOutside SLOW,
}

/// What runs on a machine may take its time to answer.
const LONG: Duration = Duration::from_mins(10);

/// What a tool does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Looks,
    LooksOutside,
    /// Spends money, and takes nothing away.
    Spends,
    /// Sends what it is given to a machine.
    Sends,
    Destroys,
}

impl Effect {
    fn hints(self) -> Hints {
        Hints {
            read_only: matches!(self, Self::Looks | Self::LooksOutside),
            // What a request does on a machine nobody here knows.
            destructive: matches!(self, Self::Destroys | Self::Sends),
            idempotent: matches!(self, Self::Looks | Self::LooksOutside | Self::Destroys),
            open_world: self != Self::Looks,
        }
    }
}

impl Own {
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.name() == name)
    }

    pub(super) fn listed(self) -> Tool {
        let hints = self.effect().hints();
        let (title, description) = self.words();
        let definition = json!({
            "name": self.name(),
            "title": title,
            "description": description,
            "inputSchema": self.input(),
            "annotations": {
                "title": title,
                "readOnlyHint": hints.read_only,
                "destructiveHint": hints.destructive,
                "idempotentHint": hints.idempotent,
                "openWorldHint": hints.open_world,
            },
        });
        Tool {
            name: self.name().to_owned(),
            raw: raw(&definition),
            hints,
            headers: Vec::new(),
            time_limit: self.time_limit(),
        }
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::ListOffers => (
                "List GPUs for rent",
                "Lists GPU machines that can be rented now, from all providers, cheapest first. Prices are all in, by the hour, \
                 in US dollars. Rent one with create_gpu_instance, by its provider and instance_id.",
            ),
            Self::Create => (
                "Rent a GPU machine",
                "Rents a machine that list_gpu_instances or quote_gpu_instance has shown. It costs money until it is destroyed, \
                 and is refused where that could go beyond a spending limit. It ends by itself after its lifetime.",
            ),
            Self::Destroy => (
                "Destroy a rented GPU machine",
                "Ends a machine of yours and what it costs; what is on it is lost. Takes its id, the provider's id of it, or the \
                 id of the offer that it was rented by.",
            ),
            Self::Spending => (
                "What is spent",
                "How all spending limits stand that count for you: for each window the limit, what is spent, held and left; and \
                 what runs now costs an hour.",
            ),
            Self::CheckLimit => (
                "Whether it can be spent",
                "Says whether so many US dollars more could be spent now. It is advice: nothing is set aside, and renting checks \
                 again.",
            ),
            Self::Transactions => (
                "What was spent",
                "Your movements of money, the newest first: what was held, spent and given back, when and for what.",
            ),
            Self::Proxy => (
                "Ask what runs on a machine",
                "Sends an HTTP request to an endpoint of one of your machines, as get_gpu_instance shows it, or to a model route \
                 of this gateway (`/v1/…`), and gives its answer. Reaches nothing else.",
            ),
            Self::Quote => (
                "Quote a GPU machine",
                "Reads an offer anew and says what renting it costs, all in, and what is set aside for it. The quote can be \
                 rented with create_gpu_instance until it expires, at no more than its price.",
            ),
            Self::Get => (
                "Show a rented GPU machine",
                "Shows one machine of yours: its state, cost, end, and where its ports are reached.",
            ),
            Self::Mine => (
                "List my GPU machines",
                "Lists the machines that you have, and what each of them costs.",
            ),
            Self::Extend => (
                "Keep a GPU machine longer",
                "Lets a machine of yours live so many hours longer. It is refused where that could go beyond a spending limit.",
            ),
            Self::Logs => (
                "Log of a GPU machine",
                "The last lines of the log of a machine of yours.",
            ),
        }
    }
}

/// The resources of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnResource {
    Instances,
    Spending,
}

impl OwnResource {
    pub(super) const ALL: [Self; 2] = [Self::Instances, Self::Spending];

    pub(super) fn uri(self) -> &'static str {
        match self {
            Self::Instances => "gpu://instances",
            Self::Spending => "spending://current",
        }
    }

    pub(super) fn at(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.uri() == uri)
    }

    pub(super) fn action(self) -> Action {
        match self {
            Self::Instances => Action::GPU_READ,
            Self::Spending => Action::SPENDING_READ,
        }
    }

    pub(super) fn listed(self) -> Resource {
        let (name, title, description) = match self {
            Self::Instances => (
                "instances",
                "GPU machines",
                "Machines for rent across all providers, and those that you have. Subscribers hear when one of theirs changes.",
            ),
            Self::Spending => (
                "spending",
                "Spending",
                "How all spending limits stand that count for you. Subscribers hear when something is spent or held.",
            ),
        };
        let definition = json!({"uri": self.uri(), "name": name, "title": title, "description": description,
            "mimeType": "application/json"});
        Resource {
            uri: self.uri().to_owned(),
            raw: raw(&definition),
        }
    }
}

/// All tools, in the form of an offer.
pub(super) fn tools() -> Vec<Arc<Tool>> {
    Own::ALL.iter().map(|own| Arc::new(own.listed())).collect()
}

pub(super) fn resources() -> Vec<Arc<Resource>> {
    OwnResource::ALL.iter().map(|own| Arc::new(own.listed())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the clients of the field call, by the documentation that they were written from.
    #[test]
    fn the_first_seven_tools_have_the_parameters_that_clients_know() {
        for (tool, parameters, required) in [
            (
                "list_gpu_instances",
                &["provider", "min_vram", "max_price"][..],
                &[][..],
            ),
            (
                "create_gpu_instance",
                &["provider", "instance_id", "image"],
                &["provider", "instance_id"],
            ),
            (
                "destroy_gpu_instance",
                &["provider", "instance_id"],
                &["provider", "instance_id"],
            ),
            ("get_spending_info", &[], &[]),
            ("check_spending_limit", &["estimated_cost"], &["estimated_cost"]),
            ("get_billing_transactions", &[], &[]),
            (
                "proxy_inference_request",
                &["target_url", "method", "body", "headers"],
                &["target_url"],
            ),
        ] {
            let input = Own::named(tool).unwrap().input();
            assert_eq!(input["required"], json!(required), "{tool}");
            for parameter in parameters {
                assert!(
                    input["properties"].get(parameter).is_some(),
                    "{tool} has no {parameter}"
                );
            }
        }
    }

    #[test]
    fn what_a_tool_does_is_said_truly() {
        for own in Own::ALL {
            let hints = own.listed().hints;
            let changes = matches!(own, Own::Create | Own::Destroy | Own::Extend | Own::Proxy);
            assert_eq!(hints.read_only, !changes, "{}", own.name());
            assert_eq!(
                hints.destructive,
                matches!(own, Own::Destroy | Own::Proxy),
                "{}",
                own.name()
            );
        }
    }
}
