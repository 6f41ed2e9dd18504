//! Leases in virtual time: the real holders, the real store and the real bytes between
//! them, under a network and clocks that misbehave, held against an independent judge.

mod clock;
mod fuzz;
mod judge;
mod memory;
mod proxy;
mod rng;
mod scenario;
mod shapes;
mod world;
