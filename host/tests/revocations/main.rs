//! Revocations: kept through whatever happens to a host, and told to proxies.

mod ledger;
mod made_up;
mod owed;
