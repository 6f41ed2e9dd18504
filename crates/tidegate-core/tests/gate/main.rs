//! What the gate promises, driven as a proxy drives it: several workers, each with a gate of
//! its own, over one piece of shared memory and one clock.

mod debts;
mod global;
mod keys;
mod leased;
mod local;
mod proxy;
mod response;
mod rules;
