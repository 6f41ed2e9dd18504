//! A body between two tasks of one thread: one side pushes parts, the other is a [`Body`].
//!
//! It holds [`PIPE_BYTES`] and then says that it is full; who pushes looks before it reads
//! more. Either side learns at once that the other is gone.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::HeaderMap;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What a pipe holds before it is full: a few of the chunks that sockets hand over. The
/// last push may go beyond it.
pub(super) const PIPE_BYTES: usize = 64 << 10;

/// Where parts are pushed. Dropped before [`Sender::end`], it cuts the body off.
pub(super) struct Sender(Rc<RefCell<State>>);

/// The body.
pub(super) struct Receiver(Rc<RefCell<State>>);

/// The body was cut off before its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutOff;

#[derive(Default)]
struct State {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    is_ended: bool,
    is_cut_off: bool,
    is_unwanted: bool,
    sender: Option<Waker>,
    receiver: Option<Waker>,
}

/// Both ends of an empty pipe.
pub(super) fn pipe() -> (Sender, Receiver) {
    let state = Rc::new(RefCell::new(State::default()));
    (Sender(Rc::clone(&state)), Receiver(state))
}

impl Sender {
    pub(super) fn data(&self, data: Bytes) {
        if !data.is_empty() {
            self.push(Frame::data(data));
        }
    }

    /// Trailers, which are the end.
    pub(super) fn trailers(&self, trailers: HeaderMap) {
        self.push(Frame::trailers(trailers));
        self.end();
    }

    pub(super) fn end(&self) {
        let waker = {
            let mut state = self.0.borrow_mut();
            state.is_ended = true;
            state.receiver.take()
        };
        wake(waker);
    }

    /// What was pushed and not taken.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.0.borrow().bytes
    }

    /// Whether more may be pushed; if not, the task is woken when that, or
    /// [`Sender::is_unwanted`], changes. There is always room for what nobody wants.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> bool {
        let mut state = self.0.borrow_mut();
        state.sender = Some(cx.waker().clone());
        state.is_unwanted || state.bytes < PIPE_BYTES
    }

    /// Whether the body was dropped.
    pub(super) fn is_unwanted(&self) -> bool {
        self.0.borrow().is_unwanted
    }

    fn push(&self, frame: Frame<Bytes>) {
        let waker = {
            let mut state = self.0.borrow_mut();
            if state.is_unwanted {
                return;
            }
            state.bytes += frame.data_ref().map_or(0, Bytes::len);
            state.frames.push_back(frame);
            state.receiver.take()
        };
        wake(waker);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.borrow_mut();
            state.is_cut_off = !state.is_ended;
            state.receiver.take()
        };
        wake(waker);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.borrow_mut();
            state.is_unwanted = true;
            state.frames.clear();
            state.bytes = 0;
            state.sender.take()
        };
        wake(waker);
    }
}

impl Body for Receiver {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let mut state = self.0.borrow_mut();
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.data_ref().map_or(0, Bytes::len);
            let waker = state.sender.take();
            drop(state);
            wake(waker);
            return Poll::Ready(Some(Ok(frame)));
        }
        if state.is_cut_off {
            return Poll::Ready(Some(Err(CutOff)));
        }
        if state.is_ended {
            return Poll::Ready(None);
        }
        state.receiver = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.borrow();
        state.frames.is_empty() && state.is_ended
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.0.borrow();
        let has_trailers = state.frames.back().is_some_and(Frame::is_trailers);
        match state.is_ended && !has_trailers {
            true => SizeHint::with_exact(state.bytes as u64),
            false => SizeHint::default(),
        }
    }
}

/// With nothing borrowed: a waker may run code of its own.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body was cut off")
    }
}

impl std::error::Error for CutOff {}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &mut Receiver) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    fn text(body: &mut Receiver) -> String {
        let Poll::Ready(Some(Ok(frame))) = frame(body) else { panic!("no frame") };
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn it_is_full_until_enough_was_taken() {
        let (sender, mut body) = pipe();
        let cx = Context::from_waker(Waker::noop());
        assert!(sender.poll_room(&cx));
        sender.data(Bytes::from(vec![b'a'; PIPE_BYTES]));
        assert!(!sender.poll_room(&cx));
        assert_eq!(text(&mut body).len(), PIPE_BYTES);
        assert!(sender.poll_room(&cx));
    }

    #[test]
    fn an_end_is_told_from_a_cut() {
        let (sender, mut body) = pipe();
        sender.data(Bytes::from_static(b"a"));
        assert!(!body.is_end_stream());
        sender.end();
        assert_eq!(body.size_hint().exact(), Some(1));
        drop(sender);
        assert_eq!(text(&mut body), "a");
        assert!(matches!(frame(&mut body), Poll::Ready(None)) && body.is_end_stream());

        let (sender, mut body) = pipe();
        sender.data(Bytes::from_static(b"a"));
        drop(sender);
        assert_eq!(text(&mut body), "a");
        assert!(matches!(frame(&mut body), Poll::Ready(Some(Err(CutOff)))));
    }

    #[test]
    fn who_pushes_learns_that_nobody_reads() {
        let (sender, body) = pipe();
        drop(body);
        assert!(sender.is_unwanted());
        sender.data(Bytes::from_static(b"a"));
        assert!(sender.0.borrow().frames.is_empty());
    }
}
