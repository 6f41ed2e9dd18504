//! A fault: how it is made, how it is mended, and what it is allowed to cost.

use crate::BURST;
use std::time::Duration;

/// Something that breaks in a lab of kind `L`.
pub(crate) struct Fault<L> {
    /// On the command line, and in the table.
    pub(crate) name: &'static str,
    pub(crate) make: fn(&mut L),
    pub(crate) mend: fn(&mut L),
    pub(crate) heals: Heals,
    /// How many more than its bound a limit may admit, in any span.
    pub(crate) over_max: f64,
}

/// What was counted is kept.
pub(crate) const NONE: f64 = 0.0;

/// What was counted may be lost: then a key may have a burst once more.
pub(crate) const A_BURST: f64 = BURST as f64;

/// When decisions by the store are to be back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heals {
    /// They never stop.
    Unhurt,
    /// Without help, so long after the fault at the latest.
    Itself(Duration),
    /// So long after it was mended at the latest.
    Mended(Duration),
}

/// After a fault that somebody must mend.
pub(crate) const MENDED: Heals = Heals::Mended(Duration::from_secs(2));

/// Is mended by itself.
pub(crate) fn nothing<L>(_: &mut L) {}
