//! What a plugin logs and prints: so many lines a second of it, and so long ones.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// What comes on top in a second is dropped.
const LINES_MAX: u32 = 20;

const LINE_BYTES_MAX: usize = 4_096;

/// The log of one plugin.
pub(super) struct Line {
    plugin: String,
    /// When this second began, and how many lines it had.
    room: Mutex<(Instant, u32)>,
}

/// Standard output and error of a plugin.
pub(super) struct Printed(pub(super) Arc<Line>);

impl Line {
    pub(super) fn new(plugin: &str) -> Arc<Self> {
        Arc::new(Self { plugin: plugin.to_owned(), room: Mutex::new((Instant::now(), 0)) })
    }

    pub(super) fn warn(&self, what: &str, why: &str) {
        self.log(tracing::Level::WARN, &format!("{what}: {why}"));
    }

    pub(super) fn log(&self, level: tracing::Level, message: &str) {
        if !self.has_room() {
            return;
        }
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

    fn has_room(&self) -> bool {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if room.0.elapsed() >= Duration::from_secs(1) {
            *room = (Instant::now(), 0);
        }
        room.1 += 1;
        room.1 <= LINES_MAX
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
