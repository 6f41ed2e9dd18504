//! The files in `host/deploy/` are what they claim to be: they start, they ride out what they
//! are meant to, and their checkers find nothing wrong with them.
//!
//! What runs in a container there runs here as a process: the same scripts with the same
//! configuration, users and passwords. Only places and ports are others, and those are
//! variables of the scripts.
//!
//! What needs tools beside Redis (kubectl, promtool, schemas) runs in `cargo xtask test --only
//! deploy`, which fetches them; elsewhere it is skipped aloud.

mod checkers;
mod cluster;
mod lab;
mod manifests;
mod metrics;
mod monitoring;
mod probes;
mod rights;
mod rotation;
mod runbook;
mod sentinel;
mod settings;
