//! Hosts that share a log in a real Redis: what one accepts all know at once, and nothing that
//! was acknowledged is ever lost, whatever Redis forgets and whichever host dies.

mod crashes;
mod fail_over;
mod hosts;
mod losses;
#[path = "../revocations/made_up.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod made_up;
mod outages;
#[path = "../../../crates/tidegate-redis/tests/server/mod.rs"]
mod server;
mod sharing;
mod trimming;
