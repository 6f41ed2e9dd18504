//! Revocations: records and how they go together, filters that miss nothing, messages.

mod deltas;
mod fuse;
mod host;
mod known;
mod log;
mod made_up;
mod names;
mod pages;
mod record;
mod wire;
