//! Tidegate decides here, and only here.
//!
//! This crate is pure: it has no clock, no I/O, no randomness and no host calls.
//! Time, [`facts`] about a request and replies from a store are handed in; verdicts
//! and questions come out as data. Every shell drives the same code, so what is
//! tested and simulated is what runs in the proxy.
//!
//! The modules, in the order in which a request meets them:
//!
//! - [`time`]: points and spans that somebody hands in
//! - [`policy`]: what the operator meant
//! - [`facts`]: what a shell tells us about a request; [`client`]: what a stranger wrote there
//! - [`token`]: the token that a request carries and what it claims; [`json`], [`protobuf`]: how these are
//!   written down
//! - [`key`]: whose budget a request draws on
//! - [`plan`]: which limits apply
//! - [`limit`]: quotas and the algorithms that count them
//! - [`table`]: many keys in bounded memory, none of which can flood another out of its debt
//! - [`ask`]: questions to the store and its replies; the store in memory
//! - [`lease`]: our share of a global budget: take, settle, lapse, return
//! - [`revoke`]: what is revoked, and how a proxy knows of it
//! - [`wire`]: asks and replies as bytes
//! - [`gate`]: the state machine that every shell drives
//! - [`verdict`]: what happens to the request; [`headers`]: how its client is told
#![no_std]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

extern crate alloc;

pub mod ask;
pub mod client;
pub mod facts;
mod field;
pub mod gate;
pub mod headers;
pub mod json;
pub mod key;
pub mod lease;
pub mod limit;
pub mod numbered;
pub mod plan;
pub mod plugin;
pub mod policy;
pub mod protobuf;
pub mod revoke;
pub mod table;
pub mod time;
pub mod token;
pub mod verdict;
pub mod wire;
