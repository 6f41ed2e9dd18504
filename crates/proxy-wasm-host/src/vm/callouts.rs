//! The calls that a machine's filters have in flight, and what comes back.

use super::ContextId;
use crate::maps::HeaderMap;
use crate::outside::{CallToken, Outside};
use crate::status::Status;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Calls that one machine may have in flight: many more than any filter makes for each of
/// the requests that it can hold at a time.
const IN_FLIGHT_MAX: usize = 16_384;

/// Bytes of headers and bodies that a machine may have in flight.
const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;

/// gRPC streams that the other side has ended and the filter has not: it may still close
/// them. Of more than this, the oldest are forgotten.
const HALF_CLOSED_MAX: usize = 1024;

/// What a token is for; its two lowest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http = 0,
    GrpcCall = 1,
    GrpcStream = 2,
}

/// One machine's calls.
#[derive(Debug, Default)]
pub(crate) struct Callouts {
    /// The last token of each kind.
    last: [u32; 3],
    live: BTreeMap<u32, Callout>,
    bytes: usize,
    half_closed: VecDeque<u32>,
}

#[derive(Debug)]
struct Callout {
    root: ContextId,
    bytes: usize,
    is_local_end: bool,
    is_remote_end: bool,
}

/// What a callback that answers a call brings with it. Readable by all contexts of the
/// filter that made the call, until the callback returns.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) root: ContextId,
    /// gRPC's first and last metadata, an HTTP response's headers and trailers: the maps 4
    /// to 7 of the ABI.
    pub(crate) maps: [Option<HeaderMap>; 4],
    pub(crate) http_body: Option<Bytes>,
    pub(crate) grpc_message: Option<Bytes>,
    pub(crate) status: (u32, String),
}

impl Kind {
    /// The kind that a token is of.
    pub(crate) const fn of(token: u32) -> Option<Self> {
        match token & 3 {
            0 => Some(Self::Http),
            1 => Some(Self::GrpcCall),
            2 => Some(Self::GrpcStream),
            _ => None,
        }
    }
}

impl Callouts {
    /// A token for a new call: 4, 8, 12 and so on for HTTP, 5, 9 for gRPC calls, 6, 10 for
    /// gRPC streams.
    ///
    /// # Errors
    ///
    /// `InternalFailure` if the machine has too much in flight.
    pub(crate) fn begin(
        &mut self,
        kind: Kind,
        root: ContextId,
        bytes: usize,
    ) -> Result<u32, Status> {
        let total = self.bytes.saturating_add(bytes);
        if self.live.len() >= IN_FLIGHT_MAX || total > IN_FLIGHT_BYTES_MAX {
            return Err(Status::InternalFailure);
        }
        let last = match kind {
            Kind::Http => &mut self.last[0],
            Kind::GrpcCall => &mut self.last[1],
            Kind::GrpcStream => &mut self.last[2],
        };
        loop {
            *last = last.wrapping_add(4);
            let token = (*last & !3) | kind as u32;
            if token > 3 && !self.live.contains_key(&token) {
                let callout = Callout { root, bytes, is_local_end: false, is_remote_end: false };
                self.live.insert(token, callout);
                self.bytes = total;
                return Ok(token);
            }
        }
    }

    /// Ends a call: no more is known of it.
    pub(crate) fn end(&mut self, token: u32) {
        let Some(callout) = self.live.remove(&token) else { return };
        self.bytes = self.bytes.saturating_sub(callout.bytes);
        if callout.is_remote_end {
            self.half_closed.retain(|known| *known != token);
        }
    }

    /// Whose call it is, if it is one from which something may still come.
    pub(crate) fn root_of(&self, token: u32) -> Option<ContextId> {
        self.live.get(&token).filter(|callout| !callout.is_remote_end).map(|callout| callout.root)
    }

    /// Whether it is known, ended by the other side or not.
    pub(crate) fn is_known(&self, token: u32) -> bool {
        self.live.contains_key(&token)
    }

    /// The other side has ended a gRPC stream. The filter may still name it, until it has
    /// ended its side too.
    pub(crate) fn end_remote(&mut self, token: u32) {
        let Some(callout) = self.live.get_mut(&token) else { return };
        if callout.is_local_end {
            return self.end(token);
        }
        callout.is_remote_end = true;
        self.half_closed.push_back(token);
        if self.half_closed.len() > HALF_CLOSED_MAX
            && let Some(oldest) = self.half_closed.front().copied()
        {
            self.end(oldest);
        }
    }

    /// The filter has ended its side of a gRPC stream; whether the other side is still there.
    pub(crate) fn end_local(&mut self, token: u32) -> bool {
        let Some(callout) = self.live.get_mut(&token) else { return false };
        if callout.is_remote_end {
            self.end(token);
            return false;
        }
        callout.is_local_end = true;
        true
    }

    /// Cancels the gRPC calls of one root context, or of all, and forgets its other calls.
    pub(crate) fn cancel(&mut self, root: Option<ContextId>, vm: u64, outside: &dyn Outside) {
        let is_meant = |callout: &Callout| root.is_none_or(|root| root == callout.root);
        let ended: Vec<(u32, bool)> = self
            .live
            .iter()
            .filter(|(_, callout)| is_meant(callout))
            .map(|(token, callout)| (*token, callout.is_remote_end))
            .collect();
        for (token, is_remote_end) in ended {
            if Kind::of(token) != Some(Kind::Http) && !is_remote_end {
                outside.grpc_cancel(CallToken { vm, token });
            }
            self.end(token);
        }
    }
}
