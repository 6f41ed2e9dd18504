//! How a worker comes to know what is revoked: by asking the host, or from another worker that
//! has asked.
//!
//! One worker of a process asks at a time, as long as it has the turn: it keeps one question for
//! news with the host, which answers when there are any, and fetches images piece by piece. The
//! others hear it from there (`sharing`). Whoever hears nothing for a while asks for itself, so
//! nothing hangs on one worker.

use super::question::{Answered, Asked, Purpose};
use super::revocations::Revocations;
use super::sharing::load_turn;
use super::{Gate, Ground};
use crate::ask::NoAnswer;
use crate::lease::HolderId;
use crate::revoke::Position;
use crate::revoke::images::Slot;
use crate::revoke::known::Heard;
use crate::revoke::message::{ChunkAsk, News};
use crate::time::{Instant, Span};
use crate::wire::revoke::{decode_chunk, decode_news};
use alloc::vec::Vec;

/// How long a question for news waits for its answer. The host keeps it a fifth less.
const NEWS_WAITS: Span = Span::from_millis(1_250);

/// How long a piece of an image may take.
const CHUNK_WAITS: Span = Span::from_secs(2);

/// News are asked for at most this often: what is revoked in between comes together.
const NEWS_PAUSE: Span = Span::from_millis(20);

/// After a failure, how long until the next try, at first and at most.
const RETRY: (Span, Span) = (Span::from_millis(100), Span::from_secs(1));

/// Who has heard nothing for so long asks for itself: whoever takes over a turn that was lost has
/// been heard of by then.
pub(super) const SILENCE: Span = Span::from_millis(2_500);

/// For so long, at most, images are not fetched because nobody has said how many workers there are.
const CENSUS: Span = Span::from_secs(1);

/// How it goes.
#[derive(Default)]
pub(super) struct Pulls {
    pub(super) me: u64,
    /// How many shared news were read.
    pub(super) read: u64,
    /// Whether there is a question for news with the host.
    is_polling: bool,
    is_fetching: bool,
    next_news: Instant,
    next_chunk: Instant,
    pause: Span,
    failed_chunks: u8,
    /// When anything was heard last.
    pub(super) heard: Instant,
    /// When all images were in place last, or one was heard of; and when they were asked for since.
    pub(super) content: Instant,
    asked_anew: Instant,
    /// Whose turn it was, last.
    pub(super) followed: u64,
    /// When it began.
    begun: Option<Instant>,
    /// What was shared of images, and when last.
    pub(super) filled: Vec<u8>,
    /// Places of shared images that are in use no more, and their pages.
    pub(super) left: Vec<(Slot, u32)>,
    pub(super) filled_at: Instant,
}

impl Pulls {
    pub(super) fn new(me: HolderId) -> Self {
        Self { me: me.0, pause: RETRY.0, ..Self::default() }
    }
}

impl Gate {
    /// Takes what other workers have heard, and asks for what there is to ask.
    pub(super) fn tend_revocations<G: Ground>(&mut self, ground: &mut G) {
        let Some(stale_after) = self.policy.revocation.as_ref().map(|it| it.stale_after) else {
            return;
        };
        let now = ground.now();
        let (turn, version) = load_turn(ground);
        let Some(revocations) = &mut self.revocations else { return };
        if turn.holder != revocations.pulls.me {
            revocations.read_shared(ground, &turn, now);
        }
        let has_turn = revocations.take_turn(ground, turn, version, now);
        if has_turn {
            revocations.known.choose_form(revocations.copies_bytes_max);
        }
        revocations.is_fresh = revocations.known.is_fresh(now, stale_after);
        if has_turn || revocations.is_left_alone(now) {
            self.pull(now, has_turn);
        }
        if let Some(revocations) = self.revocations.as_mut().filter(|_| has_turn) {
            revocations.clear_shared(ground, now);
        }
    }

    /// Asks for news and for a piece of an image, whichever is due.
    fn pull(&mut self, now: Instant, has_turn: bool) {
        let Some(revocations) = &mut self.revocations else { return };
        let Revocations { known, pulls, copies_bytes_max, .. } = revocations;
        let is_counting = now.since(*pulls.begun.get_or_insert(now)) < CENSUS;
        if is_counting && known.is_form_open(*copies_bytes_max) {
            // A question for news would be with the host in the wrong form for its whole time.
            return;
        }
        let news = (!pulls.is_polling && now >= pulls.next_news).then(|| known.news_ask());
        let is_chunk_due = !pulls.is_fetching && now >= pulls.next_chunk;
        // Two that fetch what is shared would be in each other's way.
        let may_fetch = is_chunk_due && (has_turn || !known.shares_images());
        let chunk = if may_fetch { known.chunk_ask() } else { None };
        pulls.is_polling |= news.is_some();
        pulls.is_fetching |= chunk.is_some();
        if let Some(ask) = news {
            self.put(Asked::News(ask), Purpose::News(ask.known, now), Some(NEWS_WAITS));
        }
        if let Some(ask) = chunk {
            self.put(Asked::Chunk(ask), Purpose::Chunk(ask), Some(CHUNK_WAITS));
        }
    }

    /// Learns what came of a question for news.
    pub(super) fn hear_news<G: Ground>(
        &mut self,
        ground: &mut G,
        from: &Position,
        asked: Instant,
        reply: Result<Answered, NoAnswer>,
    ) {
        let Some(revocations) = &mut self.revocations else { return };
        let now = ground.now();
        revocations.pulls.is_polling = false;
        let bytes = match reply {
            Ok(Answered::News(bytes)) => bytes,
            Ok(_) | Err(_) => return revocations.pulls.fail(now),
        };
        let Ok(news) = decode_news(&bytes) else { return revocations.pulls.fail(now) };
        if !revocations.hear(&news, from, asked, now, now) {
            return revocations.pulls.fail(now);
        }
        revocations.pulls.pause = RETRY.0;
        revocations.pulls.next_news = if news.more { now } else { asked.after(NEWS_PAUSE) };
        let has_turn = revocations.share_news(ground, &bytes, from, asked, now);
        revocations.lay_sheet(ground, now);
        self.pull(now, has_turn);
    }

    /// Learns what came of a question for a piece of an image.
    pub(super) fn hear_chunk<G: Ground>(
        &mut self,
        ground: &mut G,
        ask: &ChunkAsk,
        reply: Result<Answered, NoAnswer>,
    ) {
        let Some(revocations) = &mut self.revocations else { return };
        let Revocations { known, pulls, .. } = revocations;
        pulls.is_fetching = false;
        let now = ground.now();
        let bytes = match reply {
            Ok(Answered::Chunk(bytes)) => bytes,
            Ok(_) | Err(_) => Vec::new(),
        };
        let place = known.chunk_place(ask);
        let chunk = decode_chunk(&bytes).ok();
        let heard = chunk.as_ref().map_or(Heard::Useless, |chunk| known.hear_chunk(chunk));
        if heard == Heard::Useless && known.chunk_ask() == Some(*ask) {
            pulls.next_chunk = now.after(RETRY.0);
            pulls.failed_chunks += 1;
            if pulls.failed_chunks > 3 {
                pulls.failed_chunks = 0;
                known.give_up_images();
            }
            return;
        }
        pulls.failed_chunks = 0;
        if let Some(chunk) = chunk {
            revocations.share_chunk(ground, place, &chunk, (heard, &bytes), now);
        }
        self.pull(now, true);
    }
}

impl Revocations {
    /// Whether this worker must ask for itself: it hears nothing, or has missed which images are
    /// wanted. It asks for these from their beginning, now and then.
    fn is_left_alone(&mut self, now: Instant) -> bool {
        let Self { known, pulls, .. } = self;
        let is_due = |then: Instant| now.since(then) > SILENCE;
        if is_due(pulls.content) && is_due(pulls.asked_anew) {
            pulls.asked_anew = now;
            known.give_up_images();
            return true;
        }
        is_due(pulls.heard)
    }

    /// Learns news; returns whether they were of use.
    pub(super) fn hear(
        &mut self,
        news: &News,
        from: &Position,
        asked: Instant,
        came: Instant,
        now: Instant,
    ) -> bool {
        const LAGS_MAX: usize = 4_096;
        let is_heard = self.known.hear(news, from, asked);
        // Who must begin anew knows that now, and not only at the next tick.
        self.is_fresh &= self.known.fresh().is_some();
        if !is_heard {
            return false;
        }
        self.pulls.heard = now;
        if !news.anew {
            let waited = now.since(came);
            let room = LAGS_MAX.saturating_sub(self.lags.len());
            let lag = |age_ms: u32| Span(Span::from_millis(age_ms.into()).0 + waited.0);
            self.lags.extend(news.deltas.iter().take(room).map(|delta| lag(delta.age_ms)));
        }
        true
    }
}

impl Pulls {
    fn fail(&mut self, now: Instant) {
        self.next_news = now.after(self.pause);
        self.pause = Span((self.pause.0 * 2).min(RETRY.1.0));
    }
}
