//! What all machines of a process have in common: data by key, queues, metrics.
//!
//! Any thread may come to any of it at any time. Nothing is copied and no module runs while
//! a lock is held, so that one worker never waits longer for another than for a look-up.
//!
//! Envoy keeps as much as memory can hold. Here each part has a bound: at it a call returns
//! `InternalFailure` and changes nothing.

pub(crate) mod data;
pub(crate) mod metrics;
pub(crate) mod queues;
mod quota;
