//! `tidegate proxy`: a reverse proxy whose every exchange goes through proxy-wasm filters.
//!
//! One thread looks after the process: it reads settings, watches files, takes signals and
//! answers the operator. The others are lanes: each has its own machines, listeners,
//! connections and pools, and shares nothing that a request would have to wait for.
//!
//! - [`settings`]: what the operator set; [`arguments`]: the same as flags
//! - [`plan`]: settings with all that they name read and compiled; `host/src/files.rs`: whether
//!   that changed; `host/src/tls.rs`: a part of it
//! - [`lane`]: a worker thread; [`shared`]: what all have in common
//! - [`listener`]: how clients come in; [`exchange`]: one request and its response;
//!   [`tcp`]: one connection without HTTP
//! - [`guard`]: a component that decides each request before filters see it
//! - [`headers`], [`client_address`], [`path`], [`ids`]: what filters see of a request
//! - [`upstream`]: connections to origins; [`pipe`], [`side`]: bytes under way
//! - [`calls`]: what filters ask of the world
//! - [`access_log`], [`metrics`], [`admin`]: what can be seen
//! - [`keeper`]: start, reload and end; [`trial`]: what is new, tried before lanes have it

mod access_log;
mod admin;
mod arguments;
mod calls;
mod client_address;
mod exchange;
mod guard;
mod headers;
mod ids;
mod keeper;
mod lane;
mod listener;
mod metrics;
mod path;
mod pipe;
mod plan;
mod settings;
mod shared;
mod side;
mod tcp;
mod time;
mod trial;
mod upstream;

pub use arguments::Arguments;
pub(crate) use calls::ask_here;

use crate::config::Problem;
use std::fmt;

/// Why the proxy could not start, or ended.
#[derive(Debug)]
pub enum Failure {
    /// The command line contradicts itself.
    Usage(String),
    /// A setting is wrong.
    Settings(Problem),
    /// What the settings name is wrong, or cannot be had.
    Other(String),
}

/// Serves until told to stop.
///
/// # Errors
///
/// [`Failure`], if it cannot start. What happens afterwards is answered, counted and logged,
/// and ends nothing.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    keeper::run(arguments)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::Other(what) => f.write_str(what),
            Self::Settings(problem) => problem.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}
