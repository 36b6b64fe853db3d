//! `/api/v1/mcp/contexts`: conversations that are kept. What changes one is a task; a handler makes it, waits for it as
//! long as its caller does, and tells what came of it.

mod about;
mod answer;
mod collection;
mod nodes;
mod prompt;
mod stream;

pub(crate) use about::{__path_health, __path_models, health, models};
pub(crate) use collection::{__path_create, __path_list, __path_remove, __path_show, create, list, remove, show};
pub(crate) use nodes::{__path_add, __path_remove as __path_remove_node, add, remove as remove_node};
pub(crate) use prompt::{__path_prompt, prompt};
