//! `tidegate proxy` as a process, before real origins, with real filters.
#![allow(unreachable_pub, reason = "the modules of one test program")]

#[path = "../common/mod.rs"]
mod common;

mod callouts;
mod clients;
mod exchanges;
mod failures;
mod filters;
mod home;
mod life;
mod origin;
mod settings;
mod tls;
mod upgrades;
