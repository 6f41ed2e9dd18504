//! How a worker comes to know what is revoked: by asking the host, or from another worker that
//! has asked.
//!
//! One worker of a process asks at a time, as long as it has the turn: it keeps one question for
//! news with the host, which answers when there are any, and fetches images piece by piece. What
//! it hears it shares as it came; the others read that at their ticks. Whoever hears nothing for
//! a while asks for itself, so nothing hangs on one worker.

use super::question::{Answered, Asked, Purpose};
use super::revocations::Revocations;
use super::{Gate, Ground};
use crate::ask::NoAnswer;
use crate::field;
use crate::lease::HolderId;
use crate::revoke::Position;
use crate::revoke::images::{SharedPage, Slot};
use crate::revoke::known::{Heard, shared_pages};
use crate::revoke::message::{CHUNK_BYTES, Chunk, ChunkAsk, News};
use crate::revoke::sheet::Sheet;
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

/// How long a turn lasts that is not renewed: its worker does so at ticks.
const TURN: Span = Span::from_millis(1_500);

/// Who has heard nothing for so long asks for itself: whoever takes over a turn that was lost has
/// been heard of by then.
const SILENCE: Span = Span::from_millis(2_500);

/// How many news are shared before the first of them is overwritten.
const SHARED_NEWS: u64 = 64;

/// How many pieces of images a worker takes from others in one tick: about a millisecond's work.
const CHUNKS_A_TICK: usize = 8;

/// How long pieces of images stay shared after the last of them.
const SHARED_FOR: Span = Span::from_secs(10);

/// A place for a value that all workers of a process share. There is a fixed number of them, but
/// for pages: of these there are as many as all images have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Who asks for all.
    Turn,
    /// News that one has heard, by their number.
    News(u8),
    /// A piece of an image, by what is left of its name.
    Chunk(u8),
    /// Where images lie of which each look-up reads a page.
    Sheet,
    /// A page of one of these.
    Page(SharedPage),
}

/// How it goes.
pub(super) struct Pulls {
    me: u64,
    /// How many shared news were read.
    read: u64,
    /// Whether there is a question for news with the host.
    is_polling: bool,
    is_fetching: bool,
    next_news: Instant,
    next_chunk: Instant,
    pause: Span,
    failed_chunks: u8,
    /// When anything was heard last.
    heard: Instant,
    /// What was shared of images, and when last.
    filled: Vec<u8>,
    /// Places of shared images that are in use no more, and their pages.
    left: Vec<(Slot, u32)>,
    filled_at: Instant,
}

/// Who asks for all workers: 8 until (ns), 8 holder, 8 how many news were shared.
#[derive(Clone, Copy, Default)]
struct Turn {
    until: Instant,
    holder: u64,
    shared: u64,
}

const TURN_BYTES: usize = 24;

/// What goes before shared news: 8 their number, 8 when they were asked for (ns), 8 when they came
/// (ns), 24 the position that they go on from.
const SHARED_HEAD_BYTES: usize = 48;

impl Pulls {
    pub(super) fn new(me: HolderId) -> Self {
        let never = Instant(0);
        Self {
            me: me.0,
            read: 0,
            is_polling: false,
            is_fetching: false,
            next_news: never,
            next_chunk: never,
            pause: RETRY.0,
            failed_chunks: 0,
            heard: never,
            filled: Vec::new(),
            left: Vec::new(),
            filled_at: never,
        }
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
        revocations.is_fresh = revocations.known.is_fresh(now, stale_after);
        let is_left_alone = now.since(revocations.pulls.heard) > SILENCE;
        if has_turn || is_left_alone {
            self.pull(now, has_turn);
        }
        if let Some(revocations) = self.revocations.as_mut().filter(|_| has_turn) {
            revocations.clear_shared(ground, now);
        }
    }

    /// Asks for news and for a piece of an image, whichever is due.
    fn pull(&mut self, now: Instant, has_turn: bool) {
        let Some(Revocations { known, pulls, .. }) = &mut self.revocations else { return };
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
        let more = news.more;
        if !revocations.hear(news, from, asked, now, now) {
            return revocations.pulls.fail(now);
        }
        revocations.pulls.pause = RETRY.0;
        revocations.pulls.next_news = if more { now } else { asked.after(NEWS_PAUSE) };
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
            revocations.share_chunk(ground, ask, &chunk, (heard, &bytes), now);
        }
        self.pull(now, true);
    }
}

impl Revocations {
    /// Learns news; returns whether they were of use.
    fn hear(
        &mut self,
        news: News,
        from: &Position,
        asked: Instant,
        came: Instant,
        now: Instant,
    ) -> bool {
        const LAGS_MAX: usize = 4_096;
        let ages: Vec<u32> = if news.anew {
            Vec::new()
        } else {
            news.deltas.iter().map(|delta| delta.age_ms).take(LAGS_MAX).collect()
        };
        if !self.known.hear(news, from, asked) {
            return false;
        }
        self.pulls.heard = now;
        let waited = now.since(came);
        let lag = |age: u32| Span(Span::from_millis(age.into()).0.saturating_add(waited.0));
        self.lags.extend(ages.into_iter().map(lag).take(LAGS_MAX - self.lags.len().min(LAGS_MAX)));
        true
    }

    /// Reads what others have heard since.
    fn read_shared<G: Ground>(&mut self, ground: &mut G, turn: &Turn, now: Instant) {
        let first = turn.shared.saturating_sub(SHARED_NEWS).max(self.pulls.read);
        for number in first + 1..=turn.shared {
            let mut shared = Vec::new();
            ground.shared(Place::News((number % SHARED_NEWS) as u8), &mut |bytes| {
                shared.extend_from_slice(bytes);
            });
            let word = |at: usize| u64::from_le_bytes(field::get(&shared, at));
            let (asked, came) = (Instant(word(8)), Instant(word(16)));
            let from = Position { log: word(24), number: word(32), chain: word(40) };
            let news = shared.get(SHARED_HEAD_BYTES..).map(decode_news);
            if let Some(Ok(news)) = news.filter(|_| word(0) == number) {
                self.hear(news, &from, asked, came, now);
            }
        }
        self.pulls.read = self.pulls.read.max(turn.shared);
        if self.known.shares_images() {
            let sheet = load_sheet(ground);
            self.known.hear_sheet(&sheet);
            return;
        }
        for _ in 0..CHUNKS_A_TICK {
            let Some(ask) = self.known.chunk_ask() else { return };
            let mut is_it = false;
            ground.shared(Place::Chunk(chunk_place(&ask)), &mut |bytes| {
                let heard = decode_chunk(bytes).map(|chunk| self.known.hear_chunk(&chunk));
                is_it = heard == Ok(Heard::Kept);
            });
            if !is_it {
                return;
            }
            self.pulls.heard = now;
        }
    }

    /// Whether this worker asks for all, now.
    fn take_turn<G: Ground>(
        &mut self,
        ground: &mut G,
        turn: Turn,
        version: u32,
        now: Instant,
    ) -> bool {
        let me = self.pulls.me;
        if turn.holder != me && now < turn.until {
            return false;
        }
        if turn.holder == me && turn.until.since(now) > Span(TURN.0 / 2) {
            return true;
        }
        let mine = Turn { until: now.after(TURN), holder: me, shared: turn.shared };
        if turn.holder != me {
            self.pulls.read = turn.shared;
            self.known.note_sheet(load_sheet(ground));
        }
        ground.share(Place::Turn, &mine.to_bytes(), Some(version)).is_ok()
    }

    /// Lets other workers hear what came; returns whether it has the turn.
    fn share_news<G: Ground>(
        &mut self,
        ground: &mut G,
        bytes: &[u8],
        from: &Position,
        asked: Instant,
        came: Instant,
    ) -> bool {
        let (turn, version) = load_turn(ground);
        if turn.holder != self.pulls.me {
            return false;
        }
        let number = turn.shared + 1;
        let head = [number, asked.0, came.0, from.log, from.number, from.chain];
        let mut shared: Vec<u8> = head.into_iter().flat_map(u64::to_le_bytes).collect();
        shared.extend_from_slice(bytes);
        if ground.share(Place::News((number % SHARED_NEWS) as u8), &shared, None).is_ok() {
            let turn = Turn { shared: number, until: came.after(TURN), ..turn };
            if ground.share(Place::Turn, &turn.to_bytes(), Some(version)).is_ok() {
                self.pulls.read = number;
            }
        }
        true
    }

    /// Lets other workers have a piece of an image that came: the piece, if each of them has its
    /// own copy, or else its pages, where all look ids up.
    fn share_chunk<G: Ground>(
        &mut self,
        ground: &mut G,
        ask: &ChunkAsk,
        chunk: &Chunk,
        (heard, bytes): (Heard, &[u8]),
        now: Instant,
    ) {
        match heard {
            Heard::Useless => {}
            Heard::Kept => {
                let place = chunk_place(ask);
                if ground.share(Place::Chunk(place), bytes, None).is_ok() {
                    self.pulls.filled.push(place);
                    self.pulls.filled_at = now;
                }
            }
            Heard::Shared(slot) => {
                shared_pages(chunk, slot, |page, bytes| {
                    // A page that is not there is asked about.
                    let _ = ground.share(Place::Page(page), bytes, None);
                });
                self.lay_sheet(ground, now);
            }
        }
    }

    /// If all shared images lie in their places: tells all workers where.
    fn lay_sheet<G: Ground>(&mut self, ground: &mut G, now: Instant) {
        let Some(sheet) = self.known.take_sheet() else { return };
        if ground.share(Place::Sheet, &sheet.to_bytes(), None).is_ok()
            && let Some(left) = self.known.hear_sheet(&sheet)
        {
            self.pulls.left = left;
            self.pulls.filled_at = now;
        }
    }

    /// Frees the memory of images that all workers have had time to take.
    fn clear_shared<G: Ground>(&mut self, ground: &mut G, now: Instant) {
        let pulls = &mut self.pulls;
        if now.since(pulls.filled_at) > SHARED_FOR {
            for (slot, pages) in core::mem::take(&mut pulls.left) {
                for page in 0..pages {
                    let _ = ground.share(Place::Page(SharedPage { slot, page }), &[], None);
                }
            }
            for place in core::mem::take(&mut pulls.filled) {
                let _ = ground.share(Place::Chunk(place), &[], None);
            }
        }
    }
}

impl Pulls {
    fn fail(&mut self, now: Instant) {
        self.next_news = now.after(self.pause);
        self.pause = Span((self.pause.0 * 2).min(RETRY.1.0));
    }
}

impl Turn {
    fn to_bytes(self) -> [u8; TURN_BYTES] {
        let mut bytes = [0; TURN_BYTES];
        field::set(&mut bytes, 0, self.until.0.to_le_bytes());
        field::set(&mut bytes, 8, self.holder.to_le_bytes());
        field::set(&mut bytes, 16, self.shared.to_le_bytes());
        bytes
    }
}

fn load_turn<G: Ground>(ground: &mut G) -> (Turn, u32) {
    let mut turn = Turn::default();
    let version = ground.shared(Place::Turn, &mut |bytes| {
        let word = |at| u64::from_le_bytes(field::get(bytes, at));
        turn = Turn { until: Instant(word(0)), holder: word(8), shared: word(16) };
    });
    (turn, version)
}

fn load_sheet<G: Ground>(ground: &mut G) -> Sheet {
    let mut sheet = Sheet::default();
    ground.shared(Place::Sheet, &mut |bytes| sheet = Sheet::from_bytes(bytes));
    sheet
}

/// Pieces of one image that follow each other have places that do: 64 MB of them fit.
fn chunk_place(ask: &ChunkAsk) -> u8 {
    (ask.image as u8).wrapping_add((ask.offset / CHUNK_BYTES as u32) as u8)
}
