//! Who is the master, by the word of the sentinels.
//!
//! Every sentinel is subscribed to (`+switch-master`): whichever hears of a switch first, we
//! hear it too. On such news, when the master's connection is lost, and every
//! [`ASK_EVERY`], all of them are asked at once, and `judge` says whom to believe. The master's
//! own word (that it is one) and a write that works are waited for by the keeper.
//!
//! Sentinels tell the new master about a second after it is writable: they learn of its
//! promotion by a question that they ask once a second. A client cannot safely be earlier.

mod attend;
mod judge;

use crate::health::Backend;
use crate::link::Link;
use crate::settings::{Access, Address, Settings};
use attend::Sentinel;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use judge::Judge;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How often all are asked, news or not.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// And while there is no connection to the master.
const ASK_EVERY_AWAY: Duration = Duration::from_millis(250);

/// All sentinels of a master.
pub(crate) struct Sentinels {
    each: Vec<Sentinel>,
    /// Rings when one of them has something to say, or the master's connection is lost.
    news: Arc<Notify>,
}

impl Sentinels {
    pub(crate) fn new(
        settings: &Settings,
        master_name: &str,
        sentinels: &[Address],
        access: &Access,
        news: Arc<Notify>,
    ) -> Self {
        let each = sentinels.iter().map(|address| {
            Sentinel::new(settings, master_name, address.clone(), access.clone(), news.clone())
        });
        Self { each: each.collect(), news }
    }

    /// How each of them is.
    pub(crate) fn backends(&self) -> Vec<Backend> {
        self.each.iter().map(|one| Backend::sentinel(&one.address, one.trouble())).collect()
    }

    /// Keeps `target` at the master's address, for as long as this is polled; `link` is the
    /// place of its connection.
    pub(crate) async fn follow(
        self: Arc<Self>,
        link: Arc<Link>,
        target: watch::Sender<Option<Address>>,
    ) {
        let mut attendants = JoinSet::new();
        for number in 0..self.each.len() {
            let this = self.clone();
            attendants.spawn(async move { this.each[number].attend().await });
        }
        for one in &self.each {
            one.first_attempt().await;
        }
        let mut judge = Judge::new(self.each.len());
        loop {
            let mut answers: FuturesUnordered<_> = self.each.iter().map(Sentinel::ask).collect();
            let mut views = Vec::with_capacity(self.each.len());
            let is_stale = loop {
                let answer = tokio::select! {
                    answer = answers.next() => answer,
                    // What was asked before the news is old; and one may be silent.
                    () = self.news.notified() => break true,
                };
                let Some(answer) = answer else { break false };
                let Some(view) = answer else { continue };
                // A later switch than any known is not doubted: no need to hear the slower ones.
                if let Some(master) = judge.hear(&view) {
                    tell(&target, master);
                }
                views.push(view);
            };
            if is_stale {
                continue;
            }
            let is_up = link.is_up();
            match judge.conclude(&views, is_up, Instant::now()) {
                Some(master) => tell(&target, master),
                None if target.borrow().is_none() => self.say_nobody_knows(&link),
                None => {}
            }
            let pause = if is_up { ASK_EVERY } else { ASK_EVERY_AWAY };
            tokio::select! {
                () = self.news.notified() => {}
                () = sleep(pause.mul_f64(0.75 + 0.5 * fastrand::f64())) => {}
            }
        }
    }

    fn say_nobody_knows(&self, link: &Link) {
        let all = self.each.iter().filter_map(|one| Some((&one.address, one.trouble()?)));
        let all: Vec<_> = all.map(|(address, trouble)| format!("{address}: {trouble}")).collect();
        let why = format!("no sentinel names the master ({})", all.join("; "));
        link.failed();
        if link.set_trouble(Some(&why)) {
            tracing::warn!(why, "no redis master known");
        }
    }
}

/// Names the master, if it is another.
fn tell(target: &watch::Sender<Option<Address>>, master: Address) {
    target.send_if_modified(|known| {
        let is_other = known.as_ref() != Some(&master);
        if is_other {
            tracing::info!(%master, "sentinel names the redis master");
            *known = Some(master);
        }
        is_other
    });
}
