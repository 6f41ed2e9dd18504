//! What holders and records of leases promise one by one; how they fare together is
//! simulated in `tests/sim`.

mod holder;
mod made_up;
mod packed;
mod pool;
mod record;
mod store;
mod till;
mod wire;
