//! Tells the other hosts how much is asked of this one, and hears of them, every few seconds.
//!
//! Never in the way of an ask. Whatever goes wrong, the last census goes on counting and the
//! next comes soon; the log says so when it begins and when it is over.

use super::Site;
use super::shares::{HALF_LIFE, Shares};
use std::error::Error as _;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tidegate_redis::{Census, Error, Store};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How soon it is tried again when it could not be taken.
const AGAIN: Duration = Duration::from_secs(1);

/// A host that has heard nothing for so many censuses may be the first to be back.
const SILENT_AFTER: u32 = 2;

/// Who takes it.
struct Teller {
    site: Arc<Site>,
    host: u64,
    heard: Option<Instant>,
    /// Since when it hears again, if it once did not.
    back: Option<Instant>,
    is_failing: bool,
}

/// Takes censuses, where there are other hosts to tell, for as long as what is returned is kept.
pub(super) fn start(site: &Arc<Site>) -> JoinSet<()> {
    let mut task = JoinSet::new();
    if site.store.redis().is_some() {
        // Two hosts that drew the same would count as one: one in 2^44 among a thousand.
        let host = fastrand::u64(..);
        let site = site.clone();
        task.spawn(Teller { site, host, heard: None, back: None, is_failing: false }.run());
    }
    task
}

impl Teller {
    async fn run(mut self) {
        let site = self.site.clone();
        let Some(redis) = site.store.redis() else { return };
        loop {
            let pause = match self.take(redis).await {
                Ok(every) => every.mul_f64(0.9 + 0.2 * fastrand::f64()),
                Err(_) => AGAIN,
            };
            sleep(pause).await;
        }
    }

    /// Takes one, and says how long until the next.
    async fn take(&mut self, redis: &Store) -> Result<Duration, Error> {
        let (proxies, records) = self.shares().tell(self.site.clock.now());
        let own = Census { host: self.host, half_life: HALF_LIFE, proxies, records };
        let taken = redis.census(&own).await;
        self.log(taken.as_ref().err());
        let fleet = taken?;
        let now = self.site.clock.now();
        let every = self.shares().census_every();
        if self.heard.is_some_and(|heard| now.duration_since(heard) > every * SILENT_AFTER) {
            self.back = Some(now);
        }
        self.heard = Some(now);
        let hears_for = self.back.map_or(Duration::MAX, |back| now.duration_since(back));
        let mut shares = self.shares();
        shares.hear(&own.records, &fleet, hears_for, now);
        Ok(shares.census_every())
    }

    /// That there is no connection is said by whoever keeps it.
    fn log(&mut self, error: Option<&Error>) {
        match error {
            Some(Error::Away) => {}
            Some(error) if !self.is_failing => {
                self.is_failing = true;
                let cause = error.source().map(ToString::to_string);
                tracing::warn!(
                    %error,
                    cause,
                    "no census: shares of limits (on_error: local_share) go by the last one, or by \
                     this host's own proxies if there was none"
                );
            }
            None if self.is_failing => {
                self.is_failing = false;
                tracing::info!("the census is taken again");
            }
            Some(_) | None => {}
        }
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.site.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
