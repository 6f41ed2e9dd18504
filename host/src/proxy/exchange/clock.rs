//! How long an exchange may take, with one timer for all of it.
//!
//! The timer is only set when there is something to wait for, and is not moved with every
//! part that comes: when it fires too early it is set again.

use crate::proxy::settings::Timeouts;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::{Sleep, sleep_until};

/// An exchange's times.
pub(super) struct Clock {
    start: Instant,
    last_moved: Instant,
    request_sent: Option<Instant>,
    has_response_begun: bool,
    for_response: Option<Duration>,
    for_idle: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RanOut {
    /// The response's head, counted from the request's end.
    Response,
    /// Nothing moved, in either direction.
    Idle,
}

impl Clock {
    pub(super) fn new(timeouts: &Timeouts) -> Self {
        let start = Instant::now();
        Self {
            start,
            last_moved: start,
            request_sent: None,
            has_response_begun: false,
            for_response: timeouts.request,
            for_idle: timeouts.stream_idle,
            timer: None,
        }
    }

    pub(super) fn since_start(&self) -> Duration {
        self.start.elapsed()
    }

    /// Something came.
    pub(super) fn moved(&mut self) {
        self.last_moved = Instant::now();
    }

    pub(super) fn request_sent(&mut self) {
        self.request_sent = Some(Instant::now());
    }

    pub(super) fn response_began(&mut self) {
        self.has_response_begun = true;
    }

    /// Ready when a time has run out; once for each. `is_asked`: upstream owes a response.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_asked: bool) -> Poll<RanOut> {
        loop {
            let for_response = self.for_response.filter(|_| is_asked && !self.has_response_begun);
            let response = self.request_sent.zip(for_response).map(|(sent, max)| sent + max);
            let idle = self.for_idle.map(|max| self.last_moved + max);
            let Some(next) = response.into_iter().chain(idle).min() else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next.into())));
            if timer.deadline().into_std() > next {
                timer.as_mut().reset(next.into());
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            let now = Instant::now();
            if response.is_some_and(|at| at <= now) {
                self.for_response = None;
                return Poll::Ready(RanOut::Response);
            }
            if idle.is_some_and(|at| at <= now) {
                self.last_moved = now;
                return Poll::Ready(RanOut::Idle);
            }
        }
    }
}
