//! What proxies are told: news, pieces of images, and what is known of some ids exactly.

use super::images::Set;
use super::tail::Place;
use super::{Fault, Now, Revocations, Shared};
use std::time::{Duration, Instant};
use tidegate_core::revoke::Position;
use tidegate_core::revoke::deltas::{HELD_MAX, UNNUMBERED};
use tidegate_core::revoke::message::{
    CHUNK_BYTES, Check, Checked, Chunk, ChunkAsk, DELTAS_MAX, Delta, Manifest, News, NewsAsk,
};
use tokio::time::timeout_at;

/// A proxy that has images is told of newer ones when so many deltas of its own are in them, or
/// when it has missed a cut. Less is no reason to fetch: where hosts cut at different entries
/// each proxy would fetch all from each of them.
const WORTH_RECORDS: usize = 256;

/// Records that wait for the shared log have no place in it by which a proxy could say that it
/// knows them. So as long as there are any each answer tells all of them, and comes after this
/// time at most.
const HELD_EVERY: Duration = Duration::from_millis(250);

/// Who knows more of the log than a host that knew everything so long after it was asked knows
/// what was lost.
const AHEAD_MARGIN: Duration = Duration::from_millis(100);

/// There are no images yet that a proxy could begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unready;

/// What there is to say.
enum Look {
    /// This, at once.
    New(News),
    /// This, unless there is something new in time.
    Old(News),
    /// Nothing, before there are images.
    Unready,
}

impl Revocations {
    /// Tells a proxy what is new, as soon as there is something, or after `patience`.
    ///
    /// # Errors
    ///
    /// [`Unready`] if it must fetch images and there are none after `patience`.
    pub async fn news(&self, ask: &NewsAsk, patience: Duration) -> Result<News, Unready> {
        let told = self.wait_for_news(ask, patience).await;
        told.inspect(|news| self.shared.meters.told(news))
    }

    async fn wait_for_news(&self, ask: &NewsAsk, patience: Duration) -> Result<News, Unready> {
        self.hands.look();
        let began = Instant::now();
        let mut changed = self.shared.changed.subscribe();
        let keys = self.id_keys();
        let (holds, has_held) = {
            let mut now = self.shared.now();
            now.shelf.want(ask.form, began);
            (now.holds, !now.held.is_empty())
        };
        let end = began + if has_held { patience.min(HELD_EVERY) } else { patience };
        loop {
            changed.mark_unchanged();
            let is_over = Instant::now() >= end;
            let is_held_anew = self.shared.now().holds != holds;
            let is_other = is_held_anew || self.id_keys() != keys;
            let held_ms = if patience.is_zero() { 0 } else { millis(began.elapsed()) };
            match self.shared.look(ask, began) {
                Look::New(news) => return Ok(self.with_keys(ask, News { held_ms, ..news })),
                Look::Old(news) if is_over || is_other => {
                    return Ok(self.with_keys(ask, News { held_ms, ..news }));
                }
                Look::Unready if is_over => return Err(Unready),
                Look::Old(_) | Look::Unready => {}
            }
            let _waits = self.shared.meters.waits();
            // Whichever comes first is a reason to look again.
            let _ = timeout_at(end.into(), changed.changed()).await;
        }
    }

    /// With the keys of secret ids, as they are by now: no id of this news was made under newer ones.
    fn with_keys(&self, ask: &NewsAsk, news: News) -> News {
        News { id_keys: ask.wants_keys.then(|| self.id_keys()), ..news }
    }

    /// A piece of an image; `None` if that is not here, any more or yet, or has no such piece.
    pub fn chunk(&self, ask: &ChunkAsk) -> Option<Chunk> {
        let made = self.shared.now().shelf.image(ask.image)?.clone();
        let rest = made.bytes.get(ask.offset as usize..).filter(|rest| !rest.is_empty())?;
        let bytes = rest[..rest.len().min(CHUNK_BYTES)].to_vec();
        Some(Chunk { image: ask.image, offset: ask.offset, bytes })
    }

    /// What is known of these ids.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the file cannot be read.
    pub fn check(&self, check: &Check) -> Result<Checked, Fault> {
        self.checked(&check.ids)
    }
}

impl Shared {
    fn look(&self, ask: &NewsAsk, began: Instant) -> Look {
        let now = self.now();
        match now.tail.place(&ask.known) {
            Place::Before(index) => self.goes_on(&now, ask, index),
            // Others may be further on, and a proxy does not forget because of us.
            Place::Ahead if !self.knows_better(&now, began) => {
                let age_ms = u32::MAX;
                Look::Old(News { age_ms, ..self.news(&now, ask.known, now.tail.end()) })
            }
            Place::Ahead | Place::Elsewhere => self.begins_anew(&now, ask),
        }
    }

    /// Whether what is not known here is not so.
    fn knows_better(&self, now: &Now, began: Instant) -> bool {
        !self.is_shared || now.fresh.is_some_and(|fresh| fresh > began + AHEAD_MARGIN)
    }

    /// For a proxy that knows the log up to before the line of this index.
    fn goes_on(&self, now: &Now, ask: &NewsAsk, index: usize) -> Look {
        let newer = now.shelf.set(ask.form).filter(|set| now.is_worth(ask.cut, set));
        match newer {
            Some(set) if set.cut.number <= ask.known.number => {
                // By itself: who has no room for what came since makes some with these.
                let more = index < now.tail.end();
                let news = self.news(now, ask.known, now.tail.end());
                return Look::New(News { manifest: Some(self.manifest(set)), more, ..news });
            }
            // A proxy takes images of what it knows and of nothing else: what leads there goes
            // before, if it has room for that.
            Some(set) if now.is_too_far(ask, set) => return self.begins_anew(now, ask),
            _ => {}
        }
        let news = self.news(now, ask.known, index);
        if news.position != ask.known {
            return Look::New(news);
        }
        Look::Old(news)
    }

    fn begins_anew(&self, now: &Now, ask: &NewsAsk) -> Look {
        let Some(set) = now.shelf.set(ask.form) else { return Look::Unready };
        let Place::Before(index) = now.tail.place(&set.cut) else { return Look::Unready };
        let manifest = Some(self.manifest(set));
        Look::New(News { anew: true, manifest, ..self.news(now, set.cut, index) })
    }

    /// What came after `known`, which is before the line of this index: as much as one answer
    /// has room for.
    fn news(&self, now: &Now, known: Position, index: usize) -> News {
        let now_ms = self.wall.now_ms();
        let age_ms = |then_ms| u32::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(u32::MAX);
        let room = DELTAS_MAX - now.held.len();
        let (mut position, mut deltas, mut more) = (known, Vec::new(), false);
        for line in now.tail.from(index) {
            more = deltas.len() + line.told.len() > room;
            if more {
                break;
            }
            position = line.position;
            let (number, age_ms) = (position.number, age_ms(line.accepted_ms));
            let told = line.told.iter();
            deltas.extend(told.map(|&(id, before_secs)| Delta { number, id, before_secs, age_ms }));
        }
        deltas.extend(now.held.iter().map(|held| Delta {
            number: UNNUMBERED,
            id: held.record.id,
            before_secs: held.before_secs,
            age_ms: age_ms(held.record.at_ms),
        }));
        News {
            position,
            age_ms: now.age_ms(self.is_shared),
            more,
            manifest: None,
            anew: false,
            held_ms: 0,
            id_keys: None,
            deltas,
        }
    }

    fn manifest(&self, set: &Set) -> Manifest {
        Manifest {
            cut: set.cut.number,
            form: set.form,
            span_secs: set.span_secs,
            images: set.images.iter().map(|made| made.image).collect(),
            id_keys: self.id_keys.all(),
        }
    }
}

impl Now {
    /// Whether a proxy that has the images of `cut` should fetch these.
    fn is_worth(&self, cut: u64, set: &Set) -> bool {
        let records = || self.tail.records_between(cut, set.cut.number);
        let has_none = cut == 0;
        cut < set.cut.number && (has_none || cut < set.last_cut || records() >= WORTH_RECORDS)
    }

    /// Whether there is more between what a proxy has images of and these than it can hold.
    fn is_too_far(&self, ask: &NewsAsk, set: &Set) -> bool {
        let from = if ask.cut == 0 { ask.known.number } else { ask.cut };
        self.tail.records_between(from, set.cut.number) > HELD_MAX
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
