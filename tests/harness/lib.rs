//! Real processes on a short leash: Envoy with the filter, the host service, Redis,
//! an origin, and clients that behave badly on purpose.
//!
//! Every process owns its ports, its folder and its logs, is killed when its handle
//! drops, and dies with the test whatever happens. Nothing here sleeps: whatever takes
//! time is awaited as a condition with a deadline ([`wait`]).
//!
//! A test is one [`stage`]. What it needs and this machine lacks (Envoy, the filter,
//! Redis) makes it skip aloud, or fail if `TIDEGATE_REQUIRE_REAL=1`.

pub mod bundled;
pub mod client;
pub mod envoy;
pub mod fleet;
pub mod ground;
pub mod guard;
pub mod host;
pub mod load;
pub mod origin;
pub mod parts;
pub mod plugin;
pub mod ports;
pub mod process;
pub mod propagation;
pub mod redis;
pub mod revoker;
mod stage;
pub mod tokens;
pub mod wait;
pub mod way;
pub mod wit;
pub mod workshop;
pub mod yaml;

pub use stage::{NotHere, perform, stage, stage_for_workers};

/// Errors here are told, never handled.
pub type Result<T> = anyhow::Result<T>;
