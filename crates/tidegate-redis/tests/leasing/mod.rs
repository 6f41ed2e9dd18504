//! What tests of leases ask, and whom.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use crate::server::{Server, until};
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use std::time::Duration;
use tidegate_core::ask::LimitTag;
use tidegate_core::key::Key;
use tidegate_core::lease::{HolderId, Want};
use tidegate_core::limit::Quota;
use tidegate_redis::{Settings, Store};

/// No test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub const LIMIT: LimitTag = LimitTag(9);

pub const ME: HolderId = HolderId::new(7, 1);

/// Wants so many units as a lease, and tells nothing.
pub fn want(key: u64, quota: Quota, units: u32) -> Want {
    Want {
        units,
        least: units.min(1),
        rate_milli: 1_000_000,
        tried: units,
        ..Want::nothing(Key(u128::from(key).to_be_bytes()), LIMIT, quota)
    }
}

/// A record's name.
pub fn name(key: Key) -> String {
    format!("tidegate:lease:{:016x}:{{{:032x}}}", LIMIT.0, u128::from_be_bytes(key.0))
}

pub async fn client(server: &Server) -> MultiplexedConnection {
    let client = redis::Client::open(("127.0.0.1", server.port)).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

pub async fn connected(server: &Server) -> Arc<Store> {
    let mut settings = Settings::standalone("127.0.0.1".to_owned(), server.port);
    // These tests hold sums together, not times.
    (settings.read_timeout, settings.pool_timeout) = (PATIENCE, PATIENCE);
    settings.dial_timeout = PATIENCE;
    let store = Arc::new(Store::start(settings));
    until(|| store.trouble().is_none()).await;
    store
}
