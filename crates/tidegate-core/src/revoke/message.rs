//! What proxies ask of a host about revocations, and what it tells them.
//!
//! A proxy says how far it knows the log and is told what came after (a [`News`]), at once or
//! when there is something. One that knows nothing, or too little, is told where the images
//! are that hold the rest (a [`Manifest`]), and fetches these piece by piece ([`Chunk`]). What an
//! image says is revoked may be a false positive: so it asks exactly ([`Check`]).

use super::id::IdKey;
use super::{Id, Position};
use alloc::vec::Vec;

/// The most deltas of one [`News`]; if there are more, it says so.
pub const DELTAS_MAX: usize = 2_048;

/// The most images of one [`Manifest`].
pub const IMAGES_MAX: usize = 128;

/// The most bytes of an image in one [`Chunk`]; all but the last have as many.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// The largest image: 200 million ids.
pub const IMAGE_BYTES_MAX: u32 = 256 << 20;

/// The most ids of one [`Check`].
pub const CHECKED_MAX: usize = 16;

/// The most keys of secret ids that hold at once: one, and one that replaces it.
pub const ID_KEYS_MAX: usize = 2;

/// How an image holds ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A [`fuse`](super::fuse) filter: 9 bits for each id. Each worker has a copy.
    #[default]
    Fuse,
    /// Bloom filters of 4 KiB each, of which a look-up reads one: 12 bits for each id. All workers
    /// of a process share one copy.
    Pages,
}

/// What is new?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewsAsk {
    /// What the proxy knows; of no log, if nothing.
    pub known: Position,
    /// The images that it has: their [`Manifest::cut`]; 0 if none.
    pub cut: u64,
    /// In which form it wants images.
    pub form: Form,
    /// Whether it wants the keys of secret ids, too. One of a release that did not ask for them has
    /// them from manifests alone.
    pub wants_keys: bool,
}

/// What is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What the proxy knows, having read this.
    pub position: Position,
    /// How long the host kept the question until it had news, or had waited enough, in
    /// milliseconds.
    pub held_ms: u32,
    /// How long before it answered the host itself last knew that it knew everything, in
    /// milliseconds.
    pub age_ms: u32,
    /// Whether there is more already: ask again at once.
    pub more: bool,
    /// Newer images than the proxy has; always, if it must begin anew, because the host cannot
    /// tell it what came after what it knew. Then the deltas follow on its cut.
    pub manifest: Option<Manifest>,
    /// Whether it must begin anew: what it knew counts for nothing.
    pub anew: bool,
    /// The keys of secret ids, the one in use first, at most [`ID_KEYS_MAX`]; if they were asked for.
    pub id_keys: Option<Vec<IdKey>>,
    /// What came after, in the log's order: at most [`DELTAS_MAX`].
    pub deltas: Vec<Delta>,
}

/// One record of the log, as far as it matters to proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The entry of the log that it stands in, or [`UNNUMBERED`](super::deltas::UNNUMBERED) if a host holds it until the log
    /// can be written to.
    pub number: u64,
    /// Of what.
    pub id: Id,
    /// What holds of it behind that entry, with all records of it up to there together: tokens
    /// issued at or before this second are revoked; 0: none is any more.
    pub before_secs: u64,
    /// How long ago it was accepted, in milliseconds; at most `u32::MAX`.
    pub age_ms: u32,
}

/// The images of one cut through the log: they hold all that was in force there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// They hold what is in entries up to this one.
    pub cut: u64,
    /// In which form: the one that was asked for.
    pub form: Form,
    /// How long a generation is: a token's is its `exp` divided by this, plus 1.
    pub span_secs: u32,
    /// One for each generation that has any id; in the order of their numbers.
    pub images: Vec<Image>,
    /// The keys of secret ids, for who does not ask for them with news.
    pub id_keys: Vec<IdKey>,
}

/// An image, by which it can be fetched and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Which generation's: 0 holds what belongs to none, and is looked at for each request.
    pub generation: u32,
    /// XXH64 (seed 0) of all its bytes: two of the same are the same image.
    pub checksum: u64,
    /// Its size.
    pub bytes: u32,
}

/// The generation of a token that ends at this second.
pub const fn generation(exp_secs: u64, span_secs: u32) -> u32 {
    if span_secs == 0 {
        return 0;
    }
    let number = exp_secs / span_secs as u64 + 1;
    if number > u32::MAX as u64 { u32::MAX } else { number as u32 }
}

/// A piece of an image, please.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkAsk {
    /// [`Image::checksum`]
    pub image: u64,
    /// From which byte on: a multiple of [`CHUNK_BYTES`].
    pub offset: u32,
}

/// A piece of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// [`Image::checksum`]
    pub image: u64,
    /// From which byte on.
    pub offset: u32,
    /// The bytes. On the wire XXH64 (seed 0) of them goes before them.
    pub bytes: Vec<u8>,
}

/// Is any of these revoked?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// One to [`CHECKED_MAX`].
    pub ids: Vec<Id>,
}

/// What is known of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// As of which entry of the log.
    pub position: Position,
    /// How long ago the host itself last knew that it knew everything, in milliseconds.
    pub age_ms: u32,
    /// For each id: tokens issued at or before this second are revoked; 0: none.
    pub before_secs: Vec<u64>,
}
