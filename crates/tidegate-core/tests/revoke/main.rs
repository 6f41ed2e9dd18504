//! Revocations: records and how they go together, filters that miss nothing, messages.

mod fuse;
mod log;
mod made_up;
mod names;
mod pages;
mod record;
mod wire;
