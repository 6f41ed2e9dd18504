//! Where one filter is in one direction of an exchange.

use bytes::Bytes;

/// What waits in front of a filter, and what it holds.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) headers: Part,
    /// Not yet shown to the filter.
    pub(super) data: Bytes,
    /// Shown to it, and kept for it where it does not see it again.
    pub(super) kept: Bytes,
    /// Whether the direction's end is behind `data` (or behind the headers).
    pub(super) is_end: bool,
    /// Whether the filter was shown that end.
    pub(super) was_end_shown: bool,
    pub(super) trailers: Part,
    pub(super) pause: Pause,
    /// Whether more than may be held ends the exchange, rather than makes the sender wait.
    pub(super) is_bounded: bool,
}

/// Headers or trailers in a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    /// Not there yet.
    #[default]
    Ahead,
    /// There; the filter was not called with it.
    Waits,
    /// The filter was called with it, and holds it.
    Held,
    Gone,
}

/// What a filter holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pause {
    #[default]
    No,
    /// Everything, unseen.
    All,
    /// The headers; it is shown the body.
    Headers,
    /// What it was shown of the body.
    Body,
    /// The trailers, and all that was held before.
    Trailers,
}

/// Actions as modules return them.
pub(super) mod action {
    pub(in crate::http) const CONTINUE: u32 = 0;
    pub(in crate::http) const STOP: u32 = 1;
    /// Of headers: continue, and end the stream; Envoy takes it for continue.
    pub(in crate::http) const CONTINUE_AND_END: u32 = 2;
    /// Of headers: hold everything, up to the buffer's bound.
    pub(in crate::http) const STOP_ALL_AND_BUFFER: u32 = 3;
    /// Of a body: keep it, but let the sender wait rather than fail beyond the bound.
    pub(in crate::http) const STOP_AND_WATERMARK: u32 = 2;
    /// Of a body: stop, and keep nothing.
    pub(in crate::http) const STOP_NO_BUFFER: u32 = 3;
}
