//! How long a client's connection may do nothing.
//!
//! - without an exchange, and nothing read of the next: `timeouts.idle`;
//! - with some of a request's head read, or none of the first: `timeouts.request_headers`;
//! - with an exchange, and no byte in or out: `timeouts.stream_idle` and a little, for an
//!   exchange that waits for its upstream ends by itself before that, with an answer.
//!
//! One timer for a connection, which is not moved with every request: when it fires too
//! early it is set again.

use crate::proxy::settings::Timeouts;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

/// How much longer a silent exchange's connection stays than the exchange itself may.
const GRACE: Duration = Duration::from_secs(1);

/// What a connection has done of late. Atomic only because hyper wants what it upgrades to
/// be of any thread.
pub(super) struct Activity {
    start: Instant,
    /// Milliseconds since `start` of the last byte in or out.
    moved_ms: AtomicU64,
    /// Milliseconds since `start` of the first byte after the last exchange's end, and 1;
    /// 0: there was none.
    head_since_ms: AtomicU64,
    exchanges: AtomicUsize,
    is_http2: AtomicBool,
    idle: Option<Duration>,
    head: Duration,
    stream_idle: Option<Duration>,
}

impl Activity {
    pub(super) fn new(timeouts: &Timeouts) -> Self {
        Self {
            start: Instant::now(),
            moved_ms: AtomicU64::new(0),
            // A new connection owes a request.
            head_since_ms: AtomicU64::new(1),
            exchanges: AtomicUsize::new(0),
            is_http2: AtomicBool::new(false),
            idle: timeouts.idle,
            head: timeouts.request_headers,
            stream_idle: timeouts.stream_idle,
        }
    }

    pub(super) fn exchange_began(&self, is_http2: bool) {
        self.is_http2.store(is_http2, Ordering::Relaxed);
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        self.head_since_ms.store(0, Ordering::Relaxed);
    }

    pub(super) fn exchange_ended(&self) {
        self.exchanges.fetch_sub(1, Ordering::Relaxed);
        self.moved_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn moved(&self, has_read: bool) {
        let now = self.now_ms();
        self.moved_ms.store(now, Ordering::Relaxed);
        let is_at_rest = self.exchanges.load(Ordering::Relaxed) == 0;
        // Of HTTP/2 a byte may be of much else than a head.
        let may_be_head = has_read && is_at_rest && !self.is_http2.load(Ordering::Relaxed);
        if may_be_head && self.head_since_ms.load(Ordering::Relaxed) == 0 {
            self.head_since_ms.store(now + 1, Ordering::Relaxed);
        }
    }

    /// When the connection is to be closed, as things are.
    fn deadline(&self) -> Option<Instant> {
        let at = |ms| self.start + Duration::from_millis(ms);
        let moved = at(self.moved_ms.load(Ordering::Relaxed));
        if self.exchanges.load(Ordering::Relaxed) > 0 {
            return Some(moved + self.stream_idle? + GRACE);
        }
        match self.head_since_ms.load(Ordering::Relaxed) {
            0 => Some(moved + self.idle?),
            since => Some(at(since - 1) + self.head),
        }
    }

    /// Ready when the connection is to be closed. To be polled whenever it has done something.
    pub(super) const fn watch(&self) -> Watch<'_> {
        Watch { activity: self, timer: None }
    }
}

/// See [`Activity::watch`].
pub(super) struct Watch<'a> {
    activity: &'a Activity,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Future for Watch<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(deadline) = self.activity.deadline() else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
            if timer.deadline().into_std() > deadline {
                timer.as_mut().reset(deadline.into());
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer = None;
        }
    }
}

/// A stream whose bytes are noticed.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: &Arc<Activity>) -> Self {
        Self { stream, activity: Arc::clone(activity) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() && buffer.filled().len() > before {
            self.activity.moved(true);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_ready() {
            self.activity.moved(false);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        if written.is_ready() {
            self.activity.moved(false);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
