//! Revocations: kept through whatever happens to a host, and told to proxies.

mod images;
mod ledger;
mod made_up;
mod news;
mod opened;
