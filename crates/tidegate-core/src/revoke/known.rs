//! What one worker knows of all that is revoked, and what it must ask to know it all.
//!
//! Exact deltas lie over images that never miss an id. An id that neither has is not revoked, as
//! surely as the news are fresh; one that an image seems to hold is asked about, and the answer
//! kept.
//!
//! **Invariant.** The images that ids are looked up in are all images of one manifest, and the
//! deltas are all that came behind its cut. For an id may be in another generation at another cut,
//! or in that of another host, whose clock differs: what ends far ahead is in none of its own at
//! first. An image of one manifest beside one of another could each be right, and neither have
//! the id. So new images wait, whole, until the last of them has come; then all take their places
//! at once, and only then deltas are forgotten. Until that happens, be it never, a worker goes on
//! with the images that it has and all deltas since. At most two manifests' images are in memory:
//! those in use, and what of the newer ones is not the same.

use super::deltas::Deltas;
use super::id::IdKey;
use super::images::{Images, Part, ReadPage, SHARED_PAGE_BYTES, SharedPage, Slot};
use super::message::{
    CHUNK_BYTES, Checked, Chunk, ChunkAsk, Form, Image, Manifest, News, NewsAsk, generation,
};
use super::pages::PAGE_BYTES;
use super::sheet::Sheet;
use super::{Id, Position};
use crate::time::{Instant, Span};
use alloc::vec::Vec;

/// A process has so many workers at most, as a rule.
const WORKERS_LIKELY_MAX: u32 = 64;

/// Exact answers that are kept: the last to come to each place.
const ANSWERS: usize = 4_096;

/// What is known of one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is not revoked, as of the last news.
    Clear,
    /// Tokens issued at or before this second are revoked; 0: none is.
    Before(u64),
    /// It may be: ask.
    Perhaps,
}

/// What one worker knows.
#[derive(Default)]
pub struct Known {
    position: Position,
    /// When it knew all that there was, last.
    fresh: Option<Instant>,
    deltas: Deltas,
    /// They are all that came behind this entry.
    since: u64,
    /// Those in use, and behind them those that have come.
    images: Images,
    /// What those in use hold, if they are all there and the deltas follow on it: then it is `since`.
    cut: Option<u64>,
    span_secs: u32,
    id_keys: Vec<IdKey>,
    /// In which form those are, and in which they are wanted.
    cut_form: Form,
    form: Form,
    /// 0 as long as nobody has said: as good as 1.
    workers: u32,
    /// What a copy of all images takes, as of the last manifest.
    copy_bytes: u64,
    /// Images that are to be in use once all of them have come.
    coming: Option<Manifest>,
    part: Option<Part>,
    /// Those of them that lie where workers share them, and where those lie that are in use.
    laid: Sheet,
    in_use: Sheet,
    /// An id and what holds of it.
    answers: Vec<(Id, u64)>,
}

/// What came of a piece of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is not the piece that is wanted.
    Useless,
    /// It is kept.
    Kept,
    /// It goes where workers share it.
    Shared(Slot),
}

impl Known {
    /// What is known of an id that a token with this `exp` has; of what is no token's, `None`.
    pub fn look(&self, id: &Id, exp_secs: Option<u64>, read: &mut ReadPage<'_>) -> Found {
        if let Some(before_secs) = self.deltas.get(id) {
            return Found::Before(before_secs);
        }
        let own = exp_secs.map(|secs| generation(secs, self.span_secs));
        let mut seem_to_hold = |generation| self.images.seem_to_hold(generation, id, read);
        let seems_held = seem_to_hold(0) || own.is_some_and(seem_to_hold);
        if !seems_held {
            return Found::Clear;
        }
        let answer = self.answers.get(answer_place(id)).filter(|(known, _)| known == id);
        answer.map_or(Found::Perhaps, |(_, before_secs)| Found::Before(*before_secs))
    }

    /// Whether what it does not know of was not revoked this long ago.
    pub fn is_fresh(&self, now: Instant, at_most: Span) -> bool {
        self.cut.is_some() && self.fresh.is_some_and(|fresh| now.since(fresh) <= at_most)
    }

    /// When it knew all that there was, last; `None` while images are missing.
    pub fn fresh(&self) -> Option<Instant> {
        self.cut.and(self.fresh)
    }

    /// Up to where it knows the log.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// The keys of secret ids, the one in use first.
    pub fn id_keys(&self) -> &[IdKey] {
        &self.id_keys
    }

    /// How many workers there are in the process, on which it depends in which form they have
    /// images.
    pub const fn set_workers(&mut self, workers: u32) {
        self.workers = workers;
    }

    /// In which form images are wanted.
    pub const fn form(&self) -> Form {
        self.form
    }

    /// Chooses in which form all workers of the process have images, for the one of them that asks
    /// for all; the others follow it. Own copies may take so many bytes in all of them together.
    pub fn choose_form(&mut self, copies_bytes_max: u64) {
        let copies = self.copy_bytes * u64::from(self.workers.max(1));
        let form = match self.form {
            Form::Fuse if copies > copies_bytes_max => Form::Pages,
            // Not to and fro at the bound.
            Form::Pages if copies < copies_bytes_max / 4 * 3 => Form::Fuse,
            same => same,
        };
        self.follow_form(form);
    }

    /// Wants images in this form. In the other form they are other images: the next news tell of
    /// those. What is in place stays until they are there.
    pub fn follow_form(&mut self, form: Form) {
        if form != self.form {
            (self.form, self.coming, self.part) = (form, None, None);
        }
    }

    /// Whether the choice of the form may depend on how many workers there are, and nobody has said
    /// that yet.
    pub fn is_form_open(&self, copies_bytes_max: u64) -> bool {
        self.workers == 0 && self.copy_bytes * u64::from(WORKERS_LIKELY_MAX) > copies_bytes_max
    }

    /// Whether images are missing, or those in place are of another form than is wanted.
    pub fn lacks_images(&self) -> bool {
        self.cut.is_none() || self.cut_form != self.form || self.coming.is_some()
    }

    /// Whether it looks ids up where this sheet says that images lie.
    pub fn is_on(&self, sheet: &Sheet) -> bool {
        self.cut == Some(sheet.cut) && self.cut_form == Form::Pages && self.in_use == *sheet
    }

    /// Bytes of this worker's own images, those on their way as well; and ids that came since.
    pub fn size(&self) -> (usize, usize) {
        let part = self.part.as_ref().map_or(0, Part::bytes);
        (self.images.own_bytes() + part, self.deltas.len())
    }

    /// What to ask for news.
    pub fn news_ask(&self) -> NewsAsk {
        let coming = self.coming.as_ref().map(|manifest| manifest.cut);
        let in_place = self.cut.filter(|_| self.cut_form == self.form);
        let cut = coming.or(in_place).unwrap_or(0);
        NewsAsk { known: self.position, cut, form: self.form, wants_keys: true }
    }

    /// The next piece of an image to ask for, if any is wanted.
    pub fn chunk_ask(&self) -> Option<ChunkAsk> {
        let image = self.missing()?.checksum;
        let part = self.part.as_ref().filter(|part| part.image.checksum == image);
        Some(ChunkAsk { image, offset: part.map_or(0, |part| part.come) })
    }

    /// Where workers that want the same images give each other this piece: all pieces have places
    /// that follow each other, and go round after 64 MiB.
    pub fn chunk_place(&self, ask: &ChunkAsk) -> u8 {
        let pieces = |bytes: u32| bytes.div_ceil(CHUNK_BYTES as u32);
        let images = self.coming.iter().flat_map(|manifest| &manifest.images);
        let before = images.take_while(|image| image.checksum != ask.image);
        let before: u32 = before.map(|image| pieces(image.bytes)).sum();
        (before + ask.offset / CHUNK_BYTES as u32) as u8
    }

    /// Whether images are wanted in a form that all workers share: then only one of them fetches.
    pub fn shares_images(&self) -> bool {
        self.form == Form::Pages
    }

    /// Learns news that were asked for at `asked`. Returns whether they go on from what is known;
    /// news that do not change nothing.
    pub fn hear(&mut self, news: &News, from: &Position, asked: Instant) -> bool {
        if !news.anew && *from != self.position {
            return false;
        }
        if let Some(keys) = &news.id_keys {
            // With all news: who knows what was revoked knows by which keys.
            self.id_keys.clone_from(keys);
        }
        if news.anew {
            // Of another past, or too long ago: what the images hold is still worth its bytes, for
            // the new ones may be the same, but nothing is taken for known until all are there.
            (self.deltas, self.cut, self.fresh) = (Deltas::default(), None, None);
            let cut = news.manifest.as_ref().map(|manifest| manifest.cut);
            self.since = cut.unwrap_or(news.position.number);
            self.coming = None;
            self.answers.clear();
        }
        for delta in &news.deltas {
            if self.deltas.put(delta.id, delta.number, delta.before_secs).is_err() {
                // What was noted is true, but the position stays: these news are asked for again.
                return false;
            }
            self.correct(&delta.id, delta.before_secs);
        }
        self.position = news.position;
        if !news.more {
            let answered = asked.after(Span::from_millis(news.held_ms.into()));
            let fresh = answered.before(Span::from_millis(news.age_ms.into()));
            self.fresh = self.fresh.max(Some(fresh));
        }
        // What images hold must be known to have been in this log's past: should that be lost, the
        // position is, and they with it. The others are told of again.
        let is_past = |manifest: &Manifest| manifest.cut <= self.position.number;
        if let Some(manifest) = news.manifest.as_ref().filter(|it| is_past(it)) {
            self.expect(manifest.clone());
        }
        true
    }

    /// Learns a piece of an image.
    pub fn hear_chunk(&mut self, chunk: &Chunk) -> Heard {
        let Some(image) = self.missing() else { return Heard::Useless };
        if self.part.as_ref().is_none_or(|part| part.image != image) {
            let slot = self.shares_images().then(|| self.in_use.free_slot(&self.laid));
            self.part = Part::begin(image, slot);
        }
        let Some(part) = self.part.as_mut().filter(|part| part.image == image) else {
            return Heard::Useless;
        };
        if !part.add(chunk) {
            return Heard::Useless;
        }
        let slot = part.slot;
        if part.is_whole()
            && let Some(part) = self.part.take()
        {
            // One that is not sound is fetched again from its beginning; what is in place stays.
            match part.slot {
                None => {
                    self.images.put_own(part);
                }
                Some(slot) if part.is_sound() => self.laid.rows.push((image.checksum, slot)),
                Some(_) => {}
            }
            self.settle();
        }
        slot.map_or(Heard::Kept, Heard::Shared)
    }

    /// Where the images lie that this worker has laid for all, if all of them do by now.
    pub fn take_sheet(&mut self) -> Option<Sheet> {
        let manifest = self.coming.as_ref().filter(|_| self.shares_images())?;
        let is_there = |image: &Image| {
            let slot = self.laid.slot(image).or_else(|| self.in_use.slot(image));
            slot.map(|slot| (image.checksum, slot))
        };
        let rows = manifest.images.iter().map(is_there).collect::<Option<_>>()?;
        Some(Sheet { cut: manifest.cut, rows })
    }

    /// Learns where the images lie that workers share, if these are the ones that are wanted.
    /// Returns the places that are in use no more, with their pages.
    pub fn hear_sheet(&mut self, sheet: &Sheet) -> Option<Vec<(Slot, u32)>> {
        let is_it = |manifest: &mut Manifest| manifest.form == Form::Pages && sheet.holds(manifest);
        let manifest = self.coming.take_if(is_it)?;
        let mut left = self.images.shared();
        for image in &manifest.images {
            if let Some(slot) = sheet.slot(image) {
                self.images.put_shared(*image, slot);
            }
        }
        left.retain(|(slot, _)| !sheet.rows.iter().any(|row| row.1 == *slot));
        (self.in_use, self.laid, self.part) = (sheet.clone(), Sheet::default(), None);
        self.end(&manifest);
        Some(left)
    }

    /// Begins to lay images for all. Others look ids up where this sheet says: nothing else may be
    /// laid there. What it laid before may be gone, and those who wait for images must be told
    /// which.
    pub fn begin_to_lay(&mut self, sheet: Sheet) {
        (self.in_use, self.laid) = (sheet, Sheet::default());
        if self.shares_images() {
            (self.coming, self.part) = (None, None);
        }
    }

    /// Where images still lie that workers shared, if each has its own copies by now.
    pub fn take_left(&mut self) -> Option<Sheet> {
        let is_over = !self.shares_images() && !self.lacks_images() && !self.in_use.rows.is_empty();
        is_over.then(|| core::mem::take(&mut self.in_use))
    }

    /// Gives up the images that are on their way: they cannot be had. The next news tell of others.
    pub fn give_up_images(&mut self) {
        self.coming = None;
    }

    /// Learns what a host knows of these ids; `None` if it knows less than is known here, or
    /// nothing that is fresh.
    pub fn hear_checked(&mut self, ids: &[Id], checked: &Checked, stale_after: Span) -> Option<()> {
        let is_fresh = Span::from_millis(checked.age_ms.into()) <= stale_after;
        let of_all = ids.len() == checked.before_secs.len();
        if !is_fresh || !of_all {
            return None;
        }
        if self.cut.is_none() {
            // Nothing is known here that it could be held against, or that would mend the answer
            // once it is outdated: it holds for the request that asked.
            return Some(());
        }
        let (theirs, ours) = (&checked.position, &self.position);
        if theirs.log != ours.log || theirs.number < ours.number {
            return None;
        }
        self.answers.resize(ANSWERS, (Id([0; 16]), 0));
        for (id, before_secs) in ids.iter().zip(&checked.before_secs) {
            if let Some(place) = self.answers.get_mut(answer_place(id)) {
                *place = (*id, *before_secs);
            }
        }
        Some(())
    }

    /// An answer that was kept may be outdated: it would hold again once the delta is forgotten.
    fn correct(&mut self, id: &Id, before_secs: u64) {
        if let Some(place) = self.answers.get_mut(answer_place(id))
            && place.0 == *id
        {
            place.1 = before_secs;
        }
    }

    fn expect(&mut self, manifest: Manifest) {
        let all: u64 = manifest.images.iter().map(|image| u64::from(image.bytes)).sum();
        // Pages are a third larger than filters.
        self.copy_bytes = if manifest.form == Form::Pages { all / 4 * 3 } else { all };
        if manifest.form != self.form {
            return;
        }
        let is_usable = self.cut.is_some() && self.cut_form == manifest.form;
        if is_usable && manifest.cut <= self.since {
            if manifest.cut == self.since {
                self.coming = None;
            }
            return;
        }
        if manifest.cut < self.since {
            // Of a host that cut earlier. What came between is neither in its images nor among the
            // deltas: the next news begin anew.
            (self.position, self.cut, self.fresh) = (Position::default(), None, None);
            self.coming = None;
            return;
        }
        let is_wanted = |checksum: u64| manifest.images.iter().any(|it| it.checksum == checksum);
        self.laid.rows.retain(|(checksum, _)| is_wanted(*checksum));
        self.part.take_if(|part| !is_wanted(part.image.checksum));
        self.images.keep(&manifest, true);
        self.coming = Some(manifest);
        self.settle();
    }

    /// The first image that is wanted and not there.
    fn missing(&self) -> Option<Image> {
        let manifest = self.coming.as_ref()?;
        let is_here = |image: &&Image| match self.form {
            Form::Fuse => self.images.has(image, Form::Fuse),
            Form::Pages => self.laid.slot(image).or_else(|| self.in_use.slot(image)).is_some(),
        };
        manifest.images.iter().find(|image| !is_here(image)).copied()
    }

    /// If the last image is there: all take their places.
    fn settle(&mut self) {
        if self.shares_images() || self.missing().is_some() {
            return;
        }
        if let Some(manifest) = self.coming.take() {
            self.end(&manifest);
        }
    }

    /// Looks ids up in these images from now on, and forgets what they hold.
    fn end(&mut self, manifest: &Manifest) {
        self.images.replace(manifest);
        self.deltas.forget(manifest.cut);
        (self.cut, self.since) = (Some(manifest.cut), manifest.cut);
        (self.cut_form, self.span_secs) = (manifest.form, manifest.span_secs);
    }
}

/// The pages of a piece of an image, as workers share them.
pub fn shared_pages(chunk: &Chunk, slot: Slot, mut put: impl FnMut(SharedPage, &[u8])) {
    let first = chunk.offset / PAGE_BYTES as u32;
    let mut shared = Vec::with_capacity(SHARED_PAGE_BYTES);
    for (page, bytes) in (first..).zip(chunk.bytes.chunks(PAGE_BYTES)) {
        shared.clear();
        shared.extend(chunk.image.to_le_bytes());
        shared.extend_from_slice(bytes);
        put(SharedPage { slot, page }, &shared);
    }
}

fn answer_place(id: &Id) -> usize {
    // Other bytes than filters and deltas go by.
    usize::from(u16::from_le_bytes(crate::field::get(&id.0, 8))) % ANSWERS
}
