//! Answers asks from Redis, to the bit as the memory store would: from one server, from the
//! master that Sentinel names, or from a cluster, over TLS or not.
//!
//! One ask is one call of one script (`scripts/take.lua`); on a cluster, one call for each of
//! its budgets, in parallel, all or nothing. An ask for leases is one call of another
//! (`scripts/lease.lua`) for each of its keys. Calls that arrive together go out in one
//! pipelined round trip. No ask ever waits for a connection: while there is none, the answer
//! is [`Error::Away`] at once, and a keeper dials in the background. What may have run is
//! never sent again.
//!
//! - `settings`: where Redis is, how one gets in, how long to wait
//! - `store`: asks in, replies out, whatever there is behind
//! - `take`, `lease`: an ask as calls of its script, and its reply
//! - `call`: what is sent to one server, whichever of them it is
//! - `lane`: the way to one server: calls in, batches out
//! - `link`: the place of that server's connection, and when it is given up
//! - `breaker`: keeps asks from a server that is known not to answer them
//! - `outage`: for how long, and how far its counts may be off by that
//! - `keeper`: dials, probes, and paces itself
//! - `dial`, `tls`: one connection, signed in, or the step at which it failed
//! - `probe`: whether a server works, by the script itself
//! - `sentinel`: who the master is, by the word of all sentinels
//! - `cluster`: whose slot a key is in, and budgets in several slots
//! - `lineage`: which writes a server has, and what a fail-over lost
//! - `census`: how much is asked of the whole fleet
//! - [`log`]: what is revoked, in the order that all hosts agree on
//! - `error`: why there is no answer, and whether it was charged
//! - `health`, `stats`: how it is, server by server, and what is counted
//! - `inspect`: a look at everything, once, for a person

mod breaker;
mod call;
mod census;
mod cluster;
mod dial;
mod error;
mod health;
pub mod inspect;
mod keeper;
mod lane;
mod lease;
mod lineage;
mod link;
pub mod log;
mod outage;
mod probe;
mod sentinel;
mod settings;
mod stats;
mod store;
mod take;
mod tls;

pub use census::{Census, Counted, Fleet, Record};
pub use error::{Error, Refusal};
pub use health::{Backend, BackendKind, Health};
pub use outage::Outage;
pub use settings::{
    Access, Address, BadUrl, ClientCertificate, Credentials, Password, Servers, Settings, Tls,
};
pub use stats::{BATCH_SIZES, Stats};
pub use store::Store;
