//! What the gate promises, driven as a proxy drives it: several workers, each with a gate of
//! its own, over one piece of shared memory and one clock.

mod debts;
mod global;
#[path = "../revoke/host.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod host;
mod keys;
mod leased;
mod local;
mod plugins;
mod proxy;
mod response;
mod revoked;
mod rules;
