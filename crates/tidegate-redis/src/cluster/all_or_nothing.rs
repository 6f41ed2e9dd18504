//! An ask about several budgets, each in a slot of its own.
//!
//! No script can see them all. So each is taken from by itself, all at once, in one parallel
//! round trip; if all admit, that was it. If not, what was taken is given back at once. So
//!
//! - never more is admitted than by one store: whoever is admitted has been charged for
//!   everything, by scripts that see the whole budget;
//! - less may be: what is taken and not yet given back is missing to others, for one round
//!   trip. What cannot be given back, since its server is gone by then, or said nothing to the
//!   taking, stays charged; that is counted ([`crate::Stats::kept_charges`]).
//!
//! The reply is to the bit that of one store, if nobody else asks in that time.

use super::Cluster;
use crate::call::Call;
use crate::error::Error;
use crate::link::State;
use crate::take::{self, Kind, Receipt, Taking};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tidegate_core::ask::{Answer, Ask, Item, Reply};
use tokio::time::{Instant, timeout};

/// How long the reply waits for what is given back, so that whoever asks again finds it there.
/// It goes on if it takes longer.
const GIVE_BACK_WITHIN: Duration = Duration::from_millis(5);

/// What came of one item.
type Taken = Result<(Answer, Option<Receipt>), Error>;

/// Answers, and charges if every item is admitted.
pub(super) async fn answer(
    cluster: Arc<Cluster>,
    ask: Arc<Ask>,
    now_us: u64,
    until: Option<Instant>,
) -> Result<Reply, Error> {
    if !cluster.can_answer(&ask) {
        return Err(Error::Away);
    }
    let take = |item| {
        let taking = Taking::one(ask.clone(), item, now_us, Kind::TakeWithReceipt);
        take(&cluster, &ask.items[item], Call::take(taking, until))
    };
    let taken: Vec<Taken> = join_all((0..ask.items.len()).map(take)).await;
    let admits = |taken: &Taken| matches!(taken, Ok((answer, _)) if answer.outcome.is_ok());
    if !taken.iter().all(admits) {
        let back = tokio::spawn(give_back(cluster, ask.clone(), now_us, receipts(&ask, &taken)));
        let _ = timeout(GIVE_BACK_WITHIN, back).await;
    }
    reply(&ask, taken)
}

/// The reply to what came of each.
fn reply(ask: &Ask, taken: Vec<Taken>) -> Result<Reply, Error> {
    // Whether it may be charged is what matters about an error.
    if let Some(error) = taken.iter().filter_map(|t| t.as_ref().err()).find(|e| e.may_have_run()) {
        return Err(error.clone());
    }
    let answers = taken.into_iter().map(|taken| taken.map(|(answer, _)| answer));
    let mut reply = Reply { answers: answers.collect::<Result<_, _>>()? };
    if !reply.admits() {
        for (answer, item) in reply.answers.iter_mut().zip(&ask.items) {
            uncharge(answer, item);
        }
    }
    Ok(reply)
}

/// How it stands without the charge. The reset is the same: it is that of the budget with
/// nothing left.
fn uncharge(answer: &mut Answer, item: &Item) {
    if let Ok(standing) = &mut answer.outcome {
        standing.remaining = standing.remaining.saturating_add(item.cost);
    }
}

async fn take(cluster: &Cluster, item: &Item, call: Call) -> Taken {
    take::receipted(item, &cluster.call(call).await?)
}

/// Which items were charged, and by what to find that again.
fn receipts(ask: &Ask, taken: &[Taken]) -> Vec<(usize, Receipt)> {
    let charged = taken.iter().zip(&ask.items).enumerate();
    let charged = charged.filter_map(|(item, (taken, asked))| match taken {
        Ok((_, Some(receipt))) if asked.cost > 0 => Some((item, *receipt)),
        _ => None,
    });
    charged.collect()
}

async fn give_back(
    cluster: Arc<Cluster>,
    ask: Arc<Ask>,
    now_us: u64,
    receipts: Vec<(usize, Receipt)>,
) {
    let back = receipts.into_iter().map(|(item, receipt)| {
        let taking = Taking::one(ask.clone(), item, now_us, Kind::GiveBack(receipt));
        cluster.call(Call::take(taking, None))
    });
    for given in join_all(back).await {
        cluster.stats.gave_back(given.is_ok());
    }
}

impl Cluster {
    /// Whether every item's server is there and answers, as far as is known. If not, nothing is taken
    /// from the others only to be given back.
    fn can_answer(&self, ask: &Ask) -> bool {
        let map = self.map.load();
        ask.items.iter().all(|item| {
            let lane = map.lane(super::slot_of(item.key));
            lane.is_some_and(|lane| {
                lane.link.state() != State::Away && !lane.link.breaker.is_open()
            })
        })
    }
}
