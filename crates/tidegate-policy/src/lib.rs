//! From the document that an operator typed to the [`Policy`](tidegate_core::policy::Policy)
//! that was meant.
//!
//! A document (YAML for people, JSON inside Envoy) becomes a policy in two steps: [`text`] is
//! the document as typed, [`resolve`] makes of it what is meant, and whatever is wrong on the
//! way is told as [`diagnostic`]s, all of them at once ([`reading`]; how small things are
//! written is in [`spelling`]).
//!
//! Pure as the core is, and a crate of its own because it runs once for each configuration
//! where the core runs for each request: in a filter this is compiled to be small, and the core
//! to be quick as well.
#![no_std]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

extern crate alloc;

pub mod diagnostic;
pub mod reading;
pub mod resolve;
pub mod spelling;
pub mod text;
