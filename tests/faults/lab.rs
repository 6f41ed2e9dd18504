//! What is broken: a Redis of some kind, on a thread of its own.
//!
//! Its calls wait for processes, which the load must not; and its processes end with the
//! thread that started them.

pub(crate) mod behind;
pub(crate) mod cluster;
pub(crate) mod one;
pub(crate) mod sentinel;
pub(crate) mod split;
pub(crate) mod tls;

use crate::fault::Fault;
use crate::server::Server;
use anyhow::{Context, bail};
use harness::Result;
use harness::host::Environment;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;

/// Some kind of Redis, with its faults.
pub(crate) trait Lab: Sized + 'static {
    /// On the command line, and over its table.
    const NAME: &'static str;

    /// How long the load goes on before the fault.
    const BEFORE: Duration = Duration::from_secs(2);

    /// How long a fault lasts.
    const UNDER: Duration;

    /// All of them.
    const FAULTS: &'static [Fault<Self>];

    /// Starts it, whole and empty; `None` if there is no Redis here.
    fn start() -> Option<Self>;

    /// What a host service is told of it, if it has none of its own.
    fn environment(&self) -> Environment {
        Environment::new()
    }

    /// Where its own host services are asked: each by an Envoy, under a load.
    fn hosts(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// How many keys each shard has; that which a fault is of comes first. Nothing, if all
    /// keys are in one.
    fn keys(&mut self) -> Vec<u64> {
        Vec::new()
    }

    /// How often our script was called, so far, by servers that nobody is to ask any more.
    fn stale_calls(&mut self) -> u64 {
        0
    }
}

/// What clients of one server must say.
pub(crate) const PASSWORD: &str = "a-secret-of-the-tests";

/// What a host service is told of one server.
pub(crate) fn of_one(address: String) -> Environment {
    vec![
        ("TIDEGATE_PROVIDER", "redis".to_owned()),
        ("TIDEGATE_REDIS_ADDRESSES", address),
        ("TIDEGATE_REDIS_PASSWORD", PASSWORD.to_owned()),
    ]
}

/// Has a server do something that it answers with OK.
pub(crate) fn say(server: &Server, words: &[&str]) {
    assert_eq!(server.command(words), "+OK", "{words:?}");
}

/// A lab on its thread.
pub(crate) struct Stage<L> {
    deeds: Option<mpsc::Sender<Deed<L>>>,
    thread: Option<JoinHandle<()>>,
}

type Deed<L> = Box<dyn FnOnce(&mut L) + Send>;

impl<L: Lab> Stage<L> {
    /// Starts a lab, and waits until it is up.
    pub(crate) async fn open() -> Result<Self> {
        let (deeds, to_do) = mpsc::channel::<Deed<L>>();
        let (up, is_up) = oneshot::channel();
        let thread = thread::spawn(move || {
            let lab = L::start();
            let _ = up.send(lab.is_some());
            if let Some(mut lab) = lab {
                to_do.into_iter().for_each(|deed| deed(&mut lab));
            }
        });
        let stage = Self { deeds: Some(deeds), thread: Some(thread) };
        if !is_up.await.with_context(|| format!("{} did not come up", L::NAME))? {
            bail!("no redis-server here: install it, or set TIDEGATE_REDIS_SERVER");
        }
        Ok(stage)
    }

    /// Does something with it, and waits for that.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        deed: impl FnOnce(&mut L) -> R + Send + 'static,
    ) -> Result<R> {
        let (done, is_done) = oneshot::channel();
        let deed: Deed<L> = Box::new(move |lab| {
            let _ = done.send(deed(lab));
        });
        let sent = self.deeds.as_ref().is_some_and(|deeds| deeds.send(deed).is_ok());
        if !sent {
            bail!("{} is gone", L::NAME);
        }
        is_done.await.with_context(|| format!("what was done to {} failed", L::NAME))
    }
}

impl<L> Drop for Stage<L> {
    fn drop(&mut self) {
        self.deeds = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
