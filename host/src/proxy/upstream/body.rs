//! What is sent upstream.

use crate::proxy::headers::WireHeaders;
use crate::proxy::pipe::{CutOff, Receiver};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A request's body.
pub(in crate::proxy) enum RequestBody {
    /// There is none.
    Empty,
    /// All of it is here.
    Whole { data: Option<Bytes>, trailers: Option<WireHeaders> },
    /// It comes part by part.
    Pipe(Receiver),
}

impl RequestBody {
    /// One that is all here; nothing of what is empty is sent.
    pub(in crate::proxy) fn whole(data: Bytes, trailers: WireHeaders) -> Self {
        Self::Whole {
            data: Some(data).filter(|data| !data.is_empty()),
            trailers: Some(trailers).filter(|trailers| !trailers.is_empty()),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole { data, trailers } => {
                let data = data.take().map(Frame::data);
                Poll::Ready(data.or_else(|| trailers.take().map(Frame::trailers)).map(Ok))
            }
            Self::Pipe(receiver) => Pin::new(receiver).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole { data, trailers } => data.is_none() && trailers.is_none(),
            Self::Pipe(receiver) => receiver.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole { data, trailers: None } => {
                SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Whole { .. } => SizeHint::default(),
            Self::Pipe(receiver) => receiver.size_hint(),
        }
    }
}
