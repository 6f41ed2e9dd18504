//! Revocations: kept through whatever happens to a host, and told to proxies.
#![allow(unreachable_pub, reason = "the modules of one test program")]

#[path = "../common/mod.rs"]
mod common;

mod damage;
mod disk;
mod host;
mod images;
mod ledger;
mod made_up;
mod measured;
mod news;
mod opened;
mod owed;
#[path = "../../../crates/tidegate-redis/tests/server/mod.rs"]
mod server;
mod two_hosts;
mod workers;
