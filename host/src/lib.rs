//! The host service: proxies ask it what they must not decide alone, and it keeps the one
//! truth, in its memory or in Redis.
//!
//! One ask's way: a listener ([`service`]) reads it, the core decodes it, the store answers
//! it, the asking proxy's share of the demand is added, and it goes back. Nothing is decided
//! here: every sum is the core's.
//!
//! - [`config`]: what the operator set
//! - [`policy_file`]: policies as files; [`check`]: what one means, in plain words
//! - [`doctor`]: is the Redis that is set fit for limits?
//! - [`test`]: policies tried on a virtual clock
//! - [`shipped`]: the filter, and where it is
//! - `files`: whether they changed; `tls`: what some of them are for; `in_flight`: how many are
//! - [`secret`]: text that is used and never shown
//! - [`logs`]: events, to standard error
//! - [`revocations`]: what is revoked, durable and told to proxies
//! - `revocations_api`: where tokens are revoked
//! - [`plugins`]: components that compute what no rule can say
//! - [`cli`]: the command line that revokes
//! - [`service`]: listeners, asks, metrics, health, shutdown
//! - [`component`]: Tidegate as a component, and any other of its world, at work
//! - [`proxy`]: a reverse proxy that runs the filter itself, and any other proxy-wasm filter

pub mod check;
pub mod cli;
pub mod component;
pub mod config;
pub mod doctor;
mod files;
mod in_flight;
pub mod logs;
pub mod plugins;
pub mod policy_file;
pub mod proxy;
pub mod revocations;
mod revocations_api;
pub mod secret;
pub mod service;
pub mod shipped;
pub mod test;
mod tls;
