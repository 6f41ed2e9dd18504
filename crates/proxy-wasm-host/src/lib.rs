//! Runs proxy-wasm filters in wasmtime, as Envoy does. No I/O in here.
//!
//! [`engine`] compiles modules; a [`worker`] runs them on one thread; an [`http`] or [`tcp`]
//! stream leads one exchange or connection through a chain of them. All that filters want of
//! the world, clocks and calls included, is asked of [`outside`], and comes back as plain
//! method calls, so that it can as well be a test's.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod abi;
pub mod budget;
mod chain;
pub mod engine;
pub mod exchange;
pub mod foreign;
pub mod http;
pub mod maps;
pub mod outside;
pub mod plugin;
mod properties;
mod protobuf;
#[cfg(test)]
mod scene;
mod shared;
pub mod status;
pub mod tcp;
mod vm;
pub mod worker;
