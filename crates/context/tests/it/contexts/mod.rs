//! Contexts that are kept: what a model gets to read, what is kept of what it says, and what happens twice, at once, or
//! not at all.

mod bounds;
mod twice;
mod whole;
mod world;
