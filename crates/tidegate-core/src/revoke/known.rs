//! What one worker knows of all that is revoked, and what it must ask to know it all.
//!
//! Exact deltas lie over images that never miss an id. An id that neither has is not revoked, as
//! surely as the news are fresh; one that an image seems to hold is asked about, and the answer
//! kept. New images come piece by piece and take their places one by one, so no more than one is
//! there twice; deltas are kept until the last of them is in place.

use super::deltas::Deltas;
use super::fuse::Head;
use super::id::IdKey;
use super::message::{Checked, Chunk, ChunkAsk, Form, Image, Manifest, News, NewsAsk, generation};
use super::{Id, Position};
use crate::time::{Instant, Span};
use alloc::vec::Vec;
use core::hash::Hasher as _;
use xxhash_rust::xxh64::Xxh64;

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
    /// By generation.
    images: Vec<Loaded>,
    /// What the images hold, if they are all there.
    cut: Option<u64>,
    span_secs: u32,
    id_keys: Vec<IdKey>,
    /// Images that are not all in place yet.
    coming: Option<Manifest>,
    part: Option<Part>,
    /// An id and what holds of it.
    answers: Vec<(Id, u64)>,
}

struct Loaded {
    image: Image,
    head: Head,
    bytes: Vec<u8>,
}

/// An image of which not all has come.
struct Part {
    image: Image,
    bytes: Vec<u8>,
    checksum: Xxh64,
}

impl Known {
    /// What is known of an id that a token with this `exp` has; of what is no token's, `None`.
    pub fn look(&self, id: &Id, exp_secs: Option<u64>) -> Found {
        if let Some(before_secs) = self.deltas.get(id) {
            return Found::Before(before_secs);
        }
        let own = exp_secs.map(|secs| generation(secs, self.span_secs));
        let seems_held = self.seems_held(0, id) || own.is_some_and(|own| self.seems_held(own, id));
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

    /// Bytes of images, those on their way as well; and ids that came since.
    pub fn size(&self) -> (usize, usize) {
        let images = self.images.iter().map(|loaded| loaded.bytes.len()).sum::<usize>();
        (images + self.part.as_ref().map_or(0, |part| part.bytes.capacity()), self.deltas.len())
    }

    /// What to ask for news.
    pub fn news_ask(&self) -> NewsAsk {
        let coming = self.coming.as_ref().map(|manifest| manifest.cut);
        let cut = coming.or(self.cut).unwrap_or(0);
        NewsAsk { known: self.position, cut, form: Form::Fuse }
    }

    /// The next piece of an image to ask for, if any is wanted.
    pub fn chunk_ask(&self) -> Option<ChunkAsk> {
        let image = self.missing()?.checksum;
        let part = self.part.as_ref().filter(|part| part.image.checksum == image);
        Some(ChunkAsk { image, offset: part.map_or(0, |part| part.bytes.len() as u32) })
    }

    /// Learns news that were asked for at `asked`. Returns whether they go on from what is known;
    /// news that do not change nothing.
    pub fn hear(&mut self, news: News, from: &Position, asked: Instant) -> bool {
        if !news.anew && *from != self.position {
            return false;
        }
        if news.anew {
            // Of another past, or too long ago: what the images hold is still worth its bytes, for
            // the new ones may be the same, but nothing is taken for known until all are there.
            (self.deltas, self.cut, self.fresh) = (Deltas::default(), None, None);
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
        if let Some(manifest) = news.manifest {
            self.expect(manifest);
        }
        true
    }

    /// Learns a piece of an image; returns whether it was the one that is wanted.
    pub fn hear_chunk(&mut self, chunk: &Chunk) -> bool {
        let Some(image) = self.missing() else { return false };
        if chunk.image != image.checksum {
            return false;
        }
        if self.part.as_ref().is_none_or(|part| part.image.checksum != image.checksum) {
            let mut bytes = Vec::new();
            if bytes.try_reserve_exact(image.bytes as usize).is_err() {
                return false;
            }
            self.part = Some(Part { image, bytes, checksum: Xxh64::new(0) });
        }
        let Some(part) = &mut self.part else { return false };
        let whole = image.bytes as usize;
        if part.bytes.len() != chunk.offset as usize || part.bytes.len() + chunk.bytes.len() > whole
        {
            return false;
        }
        part.checksum.write(&chunk.bytes);
        part.bytes.extend_from_slice(&chunk.bytes);
        if part.bytes.len() == whole {
            self.place();
        }
        true
    }

    /// Gives up the images that are on their way: they cannot be had. The next news tell of others.
    pub fn give_up_images(&mut self) {
        (self.coming, self.part) = (None, None);
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

    /// Whether the image of a generation holds an id, or one that looks like it.
    fn seems_held(&self, generation: u32, id: &Id) -> bool {
        let found = self.images.binary_search_by_key(&generation, |it| it.image.generation);
        let loaded = found.ok().and_then(|at| self.images.get(at));
        loaded.is_some_and(|it| it.head.holds(&it.bytes, id.short()))
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
        if self.cut == Some(manifest.cut) {
            return;
        }
        if self.span_secs != manifest.span_secs {
            // Generations of another length have other numbers.
            (self.cut, self.span_secs) = (None, manifest.span_secs);
        }
        self.id_keys.clone_from(&manifest.id_keys);
        self.coming = Some(manifest);
        let wanted = self.missing().map(|image| image.checksum);
        self.part.take_if(|part| Some(part.image.checksum) != wanted);
        self.settle();
    }

    /// The first image that is wanted and not in place.
    fn missing(&self) -> Option<Image> {
        let manifest = self.coming.as_ref()?;
        let is_here = |image: &&Image| self.images.iter().any(|loaded| loaded.image == **image);
        manifest.images.iter().find(|image| !is_here(image)).copied()
    }

    /// Puts an image that is whole in its place.
    fn place(&mut self) {
        let Some(Part { image, bytes, checksum }) = self.part.take() else { return };
        let head = Head::read(&bytes).filter(|_| checksum.finish() == image.checksum);
        let Some(head) = head else {
            // It is fetched again from its beginning; what is in place stays.
            return;
        };
        let loaded = Loaded { image, head, bytes };
        match self.images.binary_search_by_key(&image.generation, |it| it.image.generation) {
            Ok(at) => {
                if let Some(place) = self.images.get_mut(at) {
                    *place = loaded;
                }
            }
            Err(at) => self.images.insert(at, loaded),
        }
        self.settle();
    }

    /// If the last image is in place: forgets what they hold, and generations that are over.
    fn settle(&mut self) {
        if self.missing().is_some() {
            return;
        }
        let Some(manifest) = self.coming.take() else { return };
        self.images.retain(|loaded| manifest.images.contains(&loaded.image));
        self.deltas.forget(manifest.cut);
        self.cut = Some(manifest.cut);
    }
}

fn answer_place(id: &Id) -> usize {
    // Other bytes than filters and deltas go by.
    usize::from(u16::from_le_bytes(crate::field::get(&id.0, 8))) % ANSWERS
}
