//! What workers of one process tell each other about revocations.
//!
//! One of them has the turn: it asks for all, and shares what it hears, as it came, in places
//! that all can read; the others read that at their ticks. A turn that is not renewed is anybody's.

use super::Ground;
use super::pulls::SILENCE;
use super::revocations::Revocations;
use crate::field;
use crate::revoke::Position;
use crate::revoke::images::{SharedPage, Slot};
use crate::revoke::known::{Heard, shared_pages};
use crate::revoke::message::{Chunk, Form, IMAGE_BYTES_MAX};
use crate::revoke::pages::PAGE_BYTES;
use crate::revoke::sheet::Sheet;
use crate::time::{Instant, Span};
use crate::wire::revoke::{decode_chunk, decode_news};
use alloc::vec::Vec;

/// How long a turn lasts that is not renewed: its worker does so at ticks.
const TURN: Span = Span::from_millis(1_500);

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
    /// A piece of an image.
    Chunk(u8),
    /// Where images lie of which each look-up reads a page.
    Sheet,
    /// A page of one of these.
    Page(SharedPage),
}

/// Bumped when the meaning of what lies there changes: workers of another layout leave ours alone.
const LAYOUT: u8 = 2;

impl Place {
    /// What it is called where shared values have names. No set of a table
    /// ([`Table::name_of`](crate::table::Table::name_of)) has such a name.
    pub const fn name(self) -> [u8; 9] {
        let (kind, number, page) = match self {
            Self::Turn => (b't', 0, 0),
            Self::News(number) => (b'n', number, 0),
            Self::Chunk(number) => (b'c', number, 0),
            Self::Sheet => (b's', 0, 0),
            Self::Page(page) => (b'p', page.slot, page.page),
        };
        let [a, b, c, d] = page.to_le_bytes();
        [b't', b'r', LAYOUT, kind, number, a, b, c, d]
    }
}

/// Who asks for all workers: 8 until (ns), 8 holder, 8 how many news were shared, 1 in which form
/// all have images (0 own copies, 1 pages), 1 whether it fetches any (0, 1).
#[derive(Clone, Copy, Default)]
pub(super) struct Turn {
    until: Instant,
    pub(super) holder: u64,
    shared: u64,
    form: Form,
    pub(super) is_fetching: bool,
}

const TURN_BYTES: usize = 26;

/// What goes before shared news: 8 their number, 8 when they were asked for (ns), 8 when they came
/// (ns), 24 the position that they go on from.
const SHARED_HEAD_BYTES: usize = 48;

impl Revocations {
    /// Reads what others have heard since.
    pub(super) fn read_shared<G: Ground>(&mut self, ground: &mut G, turn: &Turn, now: Instant) {
        if turn.holder != self.pulls.followed {
            (self.pulls.followed, self.pulls.content) = (turn.holder, now);
        }
        self.known.follow_form(turn.form);
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
                self.hear(&news, &from, asked, came, now);
            }
        }
        self.pulls.read = self.pulls.read.max(turn.shared);
        if self.known.shares_images() {
            let sheet = load_sheet(ground);
            self.known.hear_sheet(&sheet);
            if self.known.is_on(&sheet) {
                self.pulls.content = now;
            }
            return;
        }
        if !self.known.lacks_images() {
            self.pulls.content = now;
        }
        for _ in 0..CHUNKS_A_TICK {
            let Some(ask) = self.known.chunk_ask() else { return };
            let mut is_it = false;
            ground.shared(Place::Chunk(self.known.chunk_place(&ask)), &mut |bytes| {
                let heard = decode_chunk(bytes).map(|chunk| self.known.hear_chunk(&chunk));
                is_it = heard == Ok(Heard::Kept);
            });
            if !is_it {
                return;
            }
            (self.pulls.heard, self.pulls.content) = (now, now);
        }
    }

    /// Whether this worker asks for all, now.
    pub(super) fn take_turn<G: Ground>(
        &mut self,
        ground: &mut G,
        turn: Turn,
        version: u32,
        now: Instant,
    ) -> bool {
        let me = self.pulls.me;
        if turn.holder != me && now < turn.until && !self.is_left_without(&turn, now) {
            return false;
        }
        if turn.holder == me && turn.until.since(now) > Span(TURN.0 / 2) {
            return true;
        }
        if turn.holder != me {
            (self.pulls.read, self.pulls.content) = (turn.shared, now);
            self.known.begin_to_lay(load_sheet(ground));
        }
        let mine = Turn { until: now.after(TURN), holder: me, ..self.turn(&turn) };
        ground.share(Place::Turn, &mine.to_bytes(), Some(version)).is_ok()
    }

    /// Whether the images that this worker waits for are not laid by whoever has the turn: it knows
    /// of older ones, and was not told of these.
    fn is_left_without(&self, turn: &Turn, now: Instant) -> bool {
        let waits = now.since(self.pulls.content) > Span(SILENCE.0 * 2);
        self.known.shares_images() && waits && !turn.is_fetching
    }

    /// A turn, with what this worker has to say in it.
    fn turn(&self, turn: &Turn) -> Turn {
        Turn { form: self.known.form(), is_fetching: self.known.lacks_images(), ..*turn }
    }

    /// Lets other workers hear what came; returns whether it has the turn.
    pub(super) fn share_news<G: Ground>(
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
        self.known.choose_form(self.copies_bytes_max);
        let number = turn.shared + 1;
        let head = [number, asked.0, came.0, from.log, from.number, from.chain];
        let mut shared: Vec<u8> = head.into_iter().flat_map(u64::to_le_bytes).collect();
        shared.extend_from_slice(bytes);
        if ground.share(Place::News((number % SHARED_NEWS) as u8), &shared, None).is_ok() {
            let turn = Turn { shared: number, until: came.after(TURN), ..self.turn(&turn) };
            if ground.share(Place::Turn, &turn.to_bytes(), Some(version)).is_ok() {
                self.pulls.read = number;
            }
        }
        true
    }

    /// Lets other workers have a piece of an image that came: the piece, if each of them has its
    /// own copy, or else its pages, where all look ids up.
    pub(super) fn share_chunk<G: Ground>(
        &mut self,
        ground: &mut G,
        place: u8,
        chunk: &Chunk,
        (heard, bytes): (Heard, &[u8]),
        now: Instant,
    ) {
        match heard {
            Heard::Useless => {}
            Heard::Kept => {
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
    pub(super) fn lay_sheet<G: Ground>(&mut self, ground: &mut G, now: Instant) {
        let Some(sheet) = self.known.take_sheet() else { return };
        if ground.share(Place::Sheet, &sheet.to_bytes(), None).is_ok()
            && let Some(left) = self.known.hear_sheet(&sheet)
        {
            self.pulls.left.extend(left);
            self.pulls.filled_at = now;
        }
    }

    /// Frees the memory of images that all workers have had time to take.
    pub(super) fn clear_shared<G: Ground>(&mut self, ground: &mut G, now: Instant) {
        if let Some(left) = self.known.take_left() {
            let slots = left.rows.iter().map(|(_, slot)| (*slot, pages_in(ground, *slot)));
            self.pulls.left.extend(slots);
            self.pulls.filled_at = now;
            let _ = ground.share(Place::Sheet, &[], None);
        }
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

impl Turn {
    fn to_bytes(self) -> [u8; TURN_BYTES] {
        let mut bytes = [0; TURN_BYTES];
        field::set(&mut bytes, 0, self.until.0.to_le_bytes());
        field::set(&mut bytes, 8, self.holder.to_le_bytes());
        field::set(&mut bytes, 16, self.shared.to_le_bytes());
        field::set(&mut bytes, 24, [u8::from(self.form == Form::Pages)]);
        field::set(&mut bytes, 25, [u8::from(self.is_fetching)]);
        bytes
    }
}

pub(super) fn load_turn<G: Ground>(ground: &mut G) -> (Turn, u32) {
    let mut turn = Turn::default();
    let version = ground.shared(Place::Turn, &mut |bytes| {
        let word = |at| u64::from_le_bytes(field::get(bytes, at));
        let flag = |at| field::get::<1>(bytes, at) == [1];
        turn = Turn {
            until: Instant(word(0)),
            holder: word(8),
            shared: word(16),
            form: if flag(24) { Form::Pages } else { Form::Fuse },
            is_fetching: flag(25),
        };
    });
    (turn, version)
}

fn load_sheet<G: Ground>(ground: &mut G) -> Sheet {
    let mut sheet = Sheet::default();
    ground.shared(Place::Sheet, &mut |bytes| sheet = Sheet::from_bytes(bytes));
    sheet
}

/// How many pages lie in a place.
fn pages_in<G: Ground>(ground: &mut G, slot: Slot) -> u32 {
    let mut is_there = |page: u32| {
        let mut bytes = 0;
        ground.shared(Place::Page(SharedPage { slot, page }), &mut |page| bytes = page.len());
        bytes > 0
    };
    (0..IMAGE_BYTES_MAX / PAGE_BYTES as u32).find(|page| !is_there(*page)).unwrap_or_default()
}
