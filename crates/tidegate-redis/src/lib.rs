//! Answers asks from a Redis server, to the bit as the memory store would.
//!
//! One ask is one call of one script (`scripts/take.lua`). Asks that arrive together go out
//! in one pipelined round trip. No ask ever waits for a connection: while there is none, the
//! answer is [`Error::Away`] at once, and a supervisor dials in the background. What may have
//! run is never sent again.
//!
//! - `settings`: how to reach a server, and how long to wait for it
//! - `store`: asks in, batches out
//! - `link`: the connection and its supervisor
//! - `script`: an ask as a call of the script, and its reply
//! - `error`: why there is no answer, and whether it was charged
//! - `stats`: what is counted

mod cluster;
mod dial;
mod error;
mod health;
mod keeper;
mod lane;
mod lineage;
mod link;
mod probe;
mod script;
mod sentinel;
mod settings;
mod stats;
mod store;
mod tls;

pub use error::{Error, Refusal};
pub use health::{Backend, BackendKind, Health};
pub use settings::{
    Access, Address, BadUrl, ClientCertificate, Credentials, Password, Servers, Settings, Tls,
};
pub use stats::{BATCH_SIZES, Stats};
pub use store::Store;
