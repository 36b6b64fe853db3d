//! The tools and the resource template of the server `contexts`, as lists show them.

use super::schemas;
use forebay_domain::Action;
use forebay_mcp::{
    call::raw,
    source::{Hints, Template, Tool},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// A model may take its time; what is waited for at most is the configuration's to say.
const LONG: Duration = Duration::from_mins(10);
const QUICK: Duration = Duration::from_mins(6);

/// The template of the server's resources.
const TEMPLATE: &str = "context://{id}";
const SCHEME: &str = "context://";

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
    Create = "create_context" CONTEXTS_WRITE Adds QUICK,
    Prompt = "add_prompt" CONTEXTS_WRITE Asks LONG,
    AddNode = "add_node" CONTEXTS_WRITE Adds QUICK,
    DeleteNode = "delete_node" CONTEXTS_WRITE Removes QUICK,
    Delete = "delete_context" CONTEXTS_WRITE Removes QUICK,
    List = "list_contexts" CONTEXTS_READ Looks QUICK,
    Get = "get_context" CONTEXTS_READ Looks QUICK,
    Tasks = "list_tasks" TASKS_READ Looks QUICK,
    Task = "get_task" TASKS_READ Looks QUICK,
    Cancel = "cancel_task" TASKS_WRITE Removes QUICK,
}

/// What a tool does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Looks,
    Adds,
    /// Asks a model, with whatever that model may look up or call.
    Asks,
    Removes,
}

impl Effect {
    fn hints(self) -> Hints {
        Hints {
            read_only: self == Self::Looks,
            destructive: self == Self::Removes,
            idempotent: matches!(self, Self::Looks | Self::Removes),
            open_world: self == Self::Asks,
        }
    }
}

impl Own {
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.name() == name)
    }

    /// Whether it is about contexts, and not about tasks of whatever sort.
    pub(super) fn is_about_contexts(self) -> bool {
        !matches!(self, Self::Tasks | Self::Task | Self::Cancel)
    }

    pub(super) fn listed(self) -> Tool {
        let hints = self.effect().hints();
        let (title, description) = self.words();
        let definition = json!({
            "name": self.name(),
            "title": title,
            "description": description,
            "inputSchema": schemas::input(self),
            "outputSchema": schemas::output(self),
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
            Self::Create => (
                "Make a context",
                "Makes a context: a list of nodes that is kept, for one model. Ask in it with add_prompt, by its id.",
            ),
            Self::Prompt => (
                "Ask in a context",
                "Adds a prompt to a context, asks the context's model with all that was said in it, and keeps the answer as \
                 a node. Prompts of one context run one after another.",
            ),
            Self::AddNode => (
                "Add a node to a context",
                "Adds a node to a context without asking the model: something to remember, or an answer of somebody else's.",
            ),
            Self::DeleteNode => (
                "Delete a node of a context",
                "Takes one node out of a context: later prompts are asked without it.",
            ),
            Self::Delete => (
                "Delete a context",
                "Takes a context away with all its nodes. What waits to be asked in it fails.",
            ),
            Self::List => (
                "List contexts",
                "Lists your contexts without their nodes, the newest first.",
            ),
            Self::Get => ("Show a context", "Shows a context with all its nodes, in their order."),
            Self::Tasks => (
                "List tasks",
                "Lists your tasks, the newest first: what waits, what runs, and what became of the others.",
            ),
            Self::Task => (
                "Show a task",
                "Shows one task: its status, and its output or its error. With `wait` it waits for its end, for so long at \
                 most.",
            ),
            Self::Cancel => (
                "Cancel a task",
                "Takes a task back. One that waits never begins; one that runs is told to stop.",
            ),
        }
    }
}

/// All tools, in the form of an offer.
pub(super) fn tools() -> Vec<Arc<Tool>> {
    Own::ALL.iter().map(|own| Arc::new(own.listed())).collect()
}

pub(super) fn templates() -> Vec<Arc<Template>> {
    let definition = json!({
        "uriTemplate": TEMPLATE,
        "name": "context",
        "title": "Context",
        "description": "A context of yours with all its nodes. Subscribers hear when something is added or taken away.",
        "mimeType": "application/json",
    });
    vec![Arc::new(Template {
        template: TEMPLATE.to_owned(),
        raw: raw(&definition),
    })]
}

/// The id in the URI of a context.
pub(super) fn id_of(uri: &str) -> Option<&str> {
    uri.strip_prefix(SCHEME).filter(|id| !id.is_empty())
}

/// The URI of a context.
pub(super) fn uri_of(id: &str) -> String {
    format!("{SCHEME}{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_mcp::tools::Schema;

    #[test]
    fn what_a_tool_does_is_said_truly() {
        for own in Own::ALL {
            let hints = own.listed().hints;
            let looks = own.action() == Action::CONTEXTS_READ || own.action() == Action::TASKS_READ;
            assert_eq!(hints.read_only, looks, "{}", own.name());
            let removes = matches!(own, Own::Delete | Own::DeleteNode | Own::Cancel);
            assert_eq!(hints.destructive, removes, "{}", own.name());
        }
    }

    #[test]
    fn every_schema_can_be_used() {
        for own in Own::ALL {
            for schema in [schemas::input(own), schemas::output(own)] {
                assert_eq!(schema["type"], "object", "{}", own.name());
                assert!(Schema::new(own.name(), &schema).is_ok(), "{}", own.name());
            }
        }
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_point() {
        let prompt = json!({"context_id": "c", "prompt": "2+2?", "max_tokens": 16.0, "priority": 3.0});
        let schema = Schema::new("prompt", &schemas::input(Own::Prompt)).unwrap();
        let read = schema.read(&forebay_mcp::call::raw(&prompt)).unwrap();
        assert_eq!((&read["max_tokens"], &read["priority"]), (&json!(16), &json!(3)));
    }

    #[test]
    fn a_uri_names_one_context() {
        assert_eq!(id_of(&uri_of("c1")), Some("c1"));
        for other in ["context://", "contexts://c1", "gpu://instances"] {
            assert_eq!(id_of(other), None, "{other}");
        }
    }
}
