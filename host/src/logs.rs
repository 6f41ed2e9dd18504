//! Events, to standard error: text for a person at a terminal, otherwise one JSON object a line.
//!
//! Who revoked what (`revocations_api::audit`) is written at any level but `off`.
//!
//! What callers send is logged only as a field's value, which both forms escape. What plugins and
//! components write has an [`allowance`].

pub(crate) mod allowance;

use crate::config::{LogFormat, LogLevel};
use std::io::IsTerminal;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

/// The target of events that no level hides but `off`.
pub(crate) const AUDIT: &str = "audit";

/// Starts logging for the rest of the process.
pub fn start(level: LogLevel, format: LogFormat) {
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let audit = if level == LogLevel::Off { LevelFilter::OFF } else { LevelFilter::INFO };
    let level = filter(level);
    let shown = Targets::new().with_default(level).with_target(AUDIT, audit.max(level));
    let logs = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    if json {
        let logs = logs.json().flatten_event(true).with_current_span(false).with_span_list(false);
        registry().with(logs.with_filter(shown)).init();
    } else {
        registry().with(logs.with_filter(shown)).init();
    }
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
