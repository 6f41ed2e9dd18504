//! Leases in virtual time: the real gates and records and the real bytes between them, under a
//! network and clocks that misbehave, held against an independent judge.
//!
//! After every step, what was admitted conforms to the quota: the smallest burst to which the
//! stream of all proxies conforms is at most the quota's, or no window holds more than its
//! count. Tolerated are what refills in one tick of the store's clock, and what was let through on
//! shares of an outage and not charged yet (see `watch`).
//!
//! ```text
//! cargo test -p tidegate-core --test sim                                some thousand histories
//! TIDEGATE_SIM_SEEDS=100000 cargo test -p tidegate-core --test sim fuzz  many more
//! TIDEGATE_SIM_FIRST=2000 ...                                           from that seed on
//! TIDEGATE_SIM_SEED=7 cargo test -p tidegate-core --test sim fuzz       this one
//! cargo test -p tidegate-core --test sim -- --nocapture --include-ignored --test-threads 1 shapes
//! ```
//!
//! - `world`: virtual time, the network; `server`: the store; `scenario`: what a history is made of
//! - `proxy`: a shell around gates, which only carries; `request`: what comes to them, under which
//!   policy; `memory`, `clock`, `rng`: what they stand on
//! - `judge`: what was admitted, against the quota and against an ideal limiter; `watch`: which
//!   quota that is, where it changes or the store is away
//! - `fuzz`: made-up histories; `pinned`: those that once showed something, or would
//! - `shapes`: the shapes of demand that a fleet sees, as tables

mod clock;
mod fuzz;
mod judge;
mod memory;
mod pinned;
mod proxy;
mod request;
mod rng;
mod scenario;
mod server;
mod shapes;
mod watch;
mod world;
