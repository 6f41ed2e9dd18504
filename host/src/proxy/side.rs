//! One side of a connection that carries bytes both ways: what came, and what is still to be
//! sent.

use super::pipe::PIPE_BYTES;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at once.
const READ_BYTES: usize = 16 << 10;

/// One side.
pub(super) struct Side<S> {
    io: S,
    unsent: VecDeque<Bytes>,
    unsent_bytes: usize,
    /// To be shut down behind what is unsent.
    ends: bool,
    is_shut: bool,
    has_read_end: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Side<S> {
    pub(super) fn new(io: S) -> Self {
        Self {
            io,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            ends: false,
            is_shut: false,
            has_read_end: false,
        }
    }

    /// Bytes to be sent; whether they are the last.
    pub(super) fn push(&mut self, data: Bytes, is_end: bool) {
        if !data.is_empty() && !self.ends {
            self.unsent_bytes += data.len();
            self.unsent.push_back(data);
        }
        self.ends |= is_end;
    }

    /// Whether more should be pushed.
    pub(super) const fn has_room(&self) -> bool {
        self.unsent_bytes < PIPE_BYTES
    }

    /// Whether everything was sent, the end included.
    pub(super) const fn is_shut(&self) -> bool {
        self.is_shut
    }

    /// Whether its end was read.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_read_end
    }

    /// Sends what it can; says whether that was anything.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut has_moved = false;
        while let Some(first) = self.unsent.front_mut() {
            match Pin::new(&mut self.io).poll_write(cx, first) {
                Poll::Pending => return Ok(has_moved),
                Poll::Ready(written) => {
                    let written = written?;
                    if written == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    first.advance(written);
                    self.unsent_bytes -= written;
                    if first.is_empty() {
                        self.unsent.pop_front();
                    }
                    has_moved = true;
                }
            }
        }
        if has_moved && let Poll::Ready(flushed) = Pin::new(&mut self.io).poll_flush(cx) {
            flushed?;
        }
        if self.ends
            && !self.is_shut
            && let Poll::Ready(shut) = Pin::new(&mut self.io).poll_shutdown(cx)
        {
            self.is_shut = true;
            has_moved = true;
            // One that went first has had all that it wanted.
            let _ = shut;
        }
        Ok(has_moved)
    }

    /// What comes; nothing at the end, and then never again.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.has_read_end {
            return Poll::Pending;
        }
        let mut space = BytesMut::zeroed(READ_BYTES);
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(read) => read?,
        }
        let length = buffer.filled().len();
        self.has_read_end = length == 0;
        space.truncate(length);
        Poll::Ready(Ok(space.freeze()))
    }
}
