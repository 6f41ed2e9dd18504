//! What a plugin logs and prints: so many lines a second of it, and so long ones.

use crate::logs::allowance::Allowance;
use bytes::Bytes;
use std::sync::Arc;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

const LINE_BYTES_MAX: usize = 4_096;

/// The log of one plugin.
pub(super) struct Line {
    plugin: String,
    /// Of what it writes itself.
    own: Allowance,
    /// Of what the host says of it: no chatter of its own hides that it fails.
    ours: Allowance,
}

/// Standard output and error of a plugin.
pub(super) struct Printed(pub(super) Arc<Line>);

impl Line {
    pub(super) fn new(plugin: &str) -> Arc<Self> {
        let (own, ours) = (Allowance::new(), Allowance::new());
        Arc::new(Self { plugin: plugin.to_owned(), own, ours })
    }

    /// What the host has to say of it.
    pub(super) fn warn(&self, what: &str, why: &str) {
        if self.ours.allows(tracing::Level::WARN) {
            self.write(tracing::Level::WARN, &format!("{what}: {why}"));
        }
    }

    /// What it says itself.
    pub(super) fn log(&self, level: tracing::Level, message: &str) {
        if self.own.allows(level) {
            self.write(level, message);
        }
    }

    fn write(&self, level: tracing::Level, message: &str) {
        let end = message.floor_char_boundary(LINE_BYTES_MAX);
        let message = message.get(..end).unwrap_or_default().trim_end().escape_debug();
        let plugin = &*self.plugin;
        match level {
            tracing::Level::ERROR => tracing::error!(plugin, "{message}"),
            tracing::Level::WARN => tracing::warn!(plugin, "{message}"),
            tracing::Level::INFO => tracing::info!(plugin, "{message}"),
            _ => tracing::debug!(plugin, "{message}"),
        }
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // Nothing interrupts this, and nobody else holds a guest to what it may write.
        if bytes.len() > LINE_BYTES_MAX {
            return Err(StreamError::trap("it printed more at once than it may"));
        }
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.is_empty()) {
            self.0.log(tracing::Level::INFO, line);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LINE_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};
    use tracing_subscriber::fmt;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Pad(Arc<Mutex<Vec<u8>>>);

    impl Write for Pad {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_plugin_says_never_hides_what_is_said_of_it() {
        let pad = Pad::default();
        let to = pad.clone();
        let shown = fmt().with_ansi(false).with_writer(move || to.clone()).finish();
        tracing::subscriber::with_default(shown, || {
            let line = Line::new("tiers");
            (0..100).for_each(|_| line.log(tracing::Level::DEBUG, "seen by nobody"));
            (0..100).for_each(|_| line.log(tracing::Level::INFO, "hear me"));
            line.warn("trap", "unreachable");
        });
        let text = String::from_utf8(pad.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("hear me").count(), 20, "{text}");
        assert!(text.contains("trap: unreachable"), "{text}");
        assert!(!text.contains("nobody"), "{text}");
    }
}
