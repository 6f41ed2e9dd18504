//! Runs components of the world `edge-guard` (`wit/`), Tidegate's or anybody's, in wasmtime.
//! [`engine`] and `package` serve plugins of policies too.
//!
//! No I/O here: what a component imports is asked of a [`Shell`], and what it decides comes back
//! from [`Instance`]'s methods. An instance that traps, or runs for too long, is of no more use;
//! whoever runs it makes another.
//!
//! - [`engine`]: compiles components; `package`: says what is wrong with others
//! - [`instance`]: one of them at work, on one thread
//! - [`shell`]: what it finds around it
//! - [`world`]: the package in Rust

pub mod engine;
pub mod instance;
pub(crate) mod package;
pub mod shell;
pub mod world;

pub use engine::{Component, Engine};
pub use instance::{Failed, Instance};
pub use shell::Shell;
