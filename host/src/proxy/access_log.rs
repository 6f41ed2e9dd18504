//! The access log: a line for each exchange, as text or JSON.
//!
//! Lanes collect lines and hand them over in batches to one thread that writes, so that a
//! slow disk or a full pipe holds up no request: batches that it cannot take are lost, and
//! counted. What clients sent is escaped in both forms.

use super::settings::{self, AccessLogFormat};
use proxy_wasm_host::exchange::Exchange;
use serde::Serialize;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A lane hands over its lines when they are this long, or after a second.
const BATCH_BYTES: usize = 16 << 10;

/// Batches that wait to be written; 4 MiB of lines.
const BATCHES_MAX: usize = 256;

/// Where lanes hand over their lines.
pub(super) struct AccessLog {
    to: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// The thread that writes.
pub(super) struct Writer(JoinHandle<()>);

enum Message {
    Lines(Vec<u8>),
    Open(Sink),
    End,
}

enum Sink {
    Stdout,
    File(File),
}

/// A lane's lines that were not handed over yet.
pub(super) struct LogBuffer {
    format: Cell<AccessLogFormat>,
    lines: RefCell<Vec<u8>>,
    to: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// What a line says.
#[derive(Serialize)]
struct Line<'a> {
    /// Milliseconds since 1970, UTC; text in RFC 3339.
    time: String,
    client: String,
    method: Cow<'a, str>,
    authority: Cow<'a, str>,
    path: Cow<'a, str>,
    protocol: &'a str,
    /// 0: the client was gone before there was one.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u32>,
    details: &'a str,
    bytes_received: u64,
    bytes_sent: u64,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    request_id: Cow<'a, str>,
    user_agent: Cow<'a, str>,
}

impl AccessLog {
    /// Starts to write.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened.
    pub(super) fn start(settings: &settings::AccessLog) -> Result<(Self, Writer), String> {
        let mut sink = Sink::open(settings)?;
        let (to, from) = sync_channel(BATCHES_MAX);
        let writer = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            while let Ok(message) = from.recv() {
                match message {
                    Message::Lines(lines) => sink.write(&lines),
                    Message::Open(next) => sink = next,
                    Message::End => return,
                }
            }
        });
        let writer = writer.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok((Self { to, lost: Arc::default() }, Writer(writer)))
    }

    /// Opens the file anew: another one after a reload, or after it was moved away.
    ///
    /// # Errors
    ///
    /// If it cannot be opened; the old one stays.
    pub(super) fn reopen(&self, settings: &settings::AccessLog) -> Result<(), String> {
        let sink = Sink::open(settings)?;
        let _ = self.to.send(Message::Open(sink));
        Ok(())
    }

    /// Batches that could not be written.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes what was handed over, and ends.
    pub(super) fn end(&self, writer: Writer) {
        if self.to.send(Message::End).is_ok() {
            let _ = writer.0.join();
        }
    }
}

impl Sink {
    fn open(settings: &settings::AccessLog) -> Result<Self, String> {
        let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        match &settings.path {
            Some(path) if settings.format != AccessLogFormat::Off => open(path)
                .map(Self::File)
                .map_err(|error| format!("{}: cannot be written: {error}", path.display())),
            _ => Ok(Self::Stdout),
        }
    }

    fn write(&mut self, lines: &[u8]) {
        // There is nobody to tell: the log is where one would be told.
        let _: io::Result<()> = match self {
            Self::File(file) => file.write_all(lines),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines).and_then(|()| out.flush())
            }
        };
    }
}

impl LogBuffer {
    pub(super) fn new(log: &AccessLog) -> Self {
        Self {
            format: Cell::new(AccessLogFormat::Off),
            lines: RefCell::default(),
            to: log.to.clone(),
            lost: Arc::clone(&log.lost),
        }
    }

    pub(super) fn set_format(&self, format: AccessLogFormat) {
        self.format.set(format);
    }

    /// Adds a line about an exchange that has ended.
    pub(super) fn add(&self, exchange: &Exchange, took: Duration) {
        let format = self.format.get();
        if format == AccessLogFormat::Off {
            return;
        }
        let line = Line::of(exchange, took);
        {
            let mut lines = self.lines.borrow_mut();
            match format {
                AccessLogFormat::Json => {
                    let _ = serde_json::to_writer(&mut *lines, &line);
                }
                _ => lines.extend_from_slice(line.text().as_bytes()),
            }
            lines.push(b'\n');
        }
        if self.lines.borrow().len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Hands over what there is.
    pub(super) fn flush(&self) {
        let lines = std::mem::take(&mut *self.lines.borrow_mut());
        if !lines.is_empty() && self.to.try_send(Message::Lines(lines)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> Line<'a> {
    fn of(exchange: &'a Exchange, took: Duration) -> Self {
        let facts = &exchange.facts;
        let field = |name: &str| {
            let headers = exchange.request_headers.as_ref();
            let value = headers.and_then(|headers| headers.get(name.as_bytes()));
            value.map_or(Cow::Borrowed(""), |value| String::from_utf8_lossy(value))
        };
        Self {
            time: rfc3339(facts.start_wall_ns),
            client: facts.connection.source.map(|at| at.ip().to_string()).unwrap_or_default(),
            method: field(":method"),
            authority: field(":authority"),
            path: field(":path"),
            protocol: facts.protocol,
            status: facts.response_code.unwrap_or(0),
            grpc_status: facts.grpc_status,
            details: facts.response_code_details.as_deref().unwrap_or("via_upstream"),
            bytes_received: facts.request_body_bytes,
            bytes_sent: facts.response_body_bytes,
            duration_ms: (took.as_secs_f64() * 1e6).round() / 1e3,
            upstream: facts
                .upstream
                .as_ref()
                .and_then(|upstream| Some(upstream.address?.to_string())),
            request_id: field("x-request-id"),
            user_agent: field("user-agent"),
        }
    }

    /// For a person: what came, what became of it, who and how long.
    fn text(&self) -> String {
        let mut text = String::with_capacity(256);
        let _ = write!(
            text,
            "{} {} {} {} {} {} {} {} {} {:.3}ms {} {} {}",
            self.time,
            self.client,
            quoted(&format!("{} {} {}", self.method, self.path, self.protocol)),
            self.status,
            quoted(self.details),
            quoted(&self.authority),
            self.bytes_received,
            self.bytes_sent,
            self.upstream.as_deref().unwrap_or("-"),
            self.duration_ms,
            quoted(&self.request_id),
            quoted(&self.user_agent),
            self.grpc_status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
        );
        text
    }
}

/// In quotes, with nothing in it that a terminal or a line's reader would act on.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// A moment as `2026-11-21T12:34:56.789Z`.
fn rfc3339(wall_ns: u64) -> String {
    let (seconds, millis) = (wall_ns / 1_000_000_000, wall_ns / 1_000_000 % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day of a day since 1970, by the Gregorian calendar.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    loop {
        let length = 365 + u64::from(is_leap(year));
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_wasm_host::maps::HeaderMap;

    fn exchange() -> Exchange {
        let mut exchange = Exchange::default();
        let headers: HeaderMap = [
            (":method", "GET"),
            (":authority", "shop"),
            (":path", "/\"\n\u{1b}[31m"),
            ("user-agent", "curl"),
            ("x-request-id", "7"),
        ]
        .into_iter()
        .collect();
        exchange.request_headers = Some(headers);
        exchange.facts.protocol = "HTTP/1.1";
        exchange.facts.start_wall_ns = 1_795_264_496_789_000_000;
        exchange.facts.response_code = Some(429);
        exchange.facts.response_code_details = Some("tidegate{limit=login}".to_owned());
        exchange
    }

    #[test]
    fn a_line_for_people_is_one_line() {
        let exchange = exchange();
        let line = Line::of(&exchange, Duration::from_micros(1_250)).text();
        assert_eq!(
            line,
            "2026-11-21T12:34:56.789Z  \"GET /\\\"\\n\\u{1b}[31m HTTP/1.1\" 429 \
             \"tidegate{limit=login}\" \"shop\" 0 0 - 1.250ms \"7\" \"curl\" -"
        );
    }

    #[test]
    fn a_line_for_machines_is_json() {
        let exchange = exchange();
        let line = Line::of(&exchange, Duration::from_micros(1_250));
        let json = serde_json::to_value(&line).unwrap();
        assert_eq!(json["path"], "/\"\n\u{1b}[31m");
        assert_eq!((&json["status"], &json["duration_ms"]), (&429.into(), &1.25.into()));
        assert!(!serde_json::to_string(&line).unwrap().contains('\n'));
    }

    #[test]
    fn days_are_the_calendars() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_164_800, "2024-02-29"),
            (1_735_603_200, "2024-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(&rfc3339(seconds * 1_000_000_000)[..10], day);
        }
    }
}
