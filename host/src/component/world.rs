//! The package `wit/` in Rust, generated.
#![allow(missing_docs, clippy::all)]

pub use self::exports::tidegate::edge::guard;
pub use self::tidegate::edge::{clock, log, shared, store, types};

wasmtime::component::bindgen!({ path: "../wit", world: "edge-guard" });
