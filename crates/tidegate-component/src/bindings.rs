//! The package `wit/` in Rust, generated.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::panic, clippy::unwrap_used)]

wit_bindgen::generate!({ path: "../../wit", world: "edge-guard", pub_export_macro: false });
