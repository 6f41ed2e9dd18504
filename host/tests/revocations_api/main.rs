//! The API for revocations, and the command line that calls it: the real program on both sides.
#![allow(unreachable_pub, reason = "the modules of one test program")]

#[path = "../common/mod.rs"]
mod common;

mod change;
mod cli;
mod home;
mod lines;
mod page;
mod receivers;
#[path = "../../../crates/tidegate-redis/tests/server/mod.rs"]
mod server;
mod shared;
mod strangers;
mod tls;
mod wrong;
