//! Images: whatever is revoked at a cut is in them, in the generation where it is looked for.

use crate::made_up::{lifted, token};
use crate::opened::{SPAN_SECS, START_SECS, accept, in_memory, open, told};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegate::revocations::Revocations;
use tidegate_core::revoke::fuse::Head;
use tidegate_core::revoke::message::{ChunkAsk, Form, Image, Manifest, NewsAsk, generation};
use tidegate_core::revoke::pages::{PAGE_BYTES, Place};
use tidegate_core::revoke::{EVER, Id, Kind, Position, Record};
use tidegate_core::wire::revoke::checksum;

/// Fetches an image piece by piece.
fn fetched(host: &Revocations, image: &Image) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < image.bytes as usize {
        let ask = ChunkAsk { image: image.checksum, offset: bytes.len() as u32 };
        bytes.extend(host.chunk(&ask).expect("a piece").bytes);
    }
    assert_eq!((bytes.len(), checksum(&bytes)), (image.bytes as usize, image.checksum));
    bytes
}

/// The generations in which a fuse image has this id.
fn found_in(host: &Revocations, manifest: &Manifest, id: Id) -> Vec<u32> {
    let holds = |image: &&Image| {
        let bytes = fetched(host, image);
        Head::read(&bytes).expect("a filter").holds(&bytes, id.short())
    };
    manifest.images.iter().filter(holds).map(|image| image.generation).collect()
}

async fn manifest(host: &Revocations, form: Form) -> Manifest {
    let ask = NewsAsk { known: Position::default(), cut: 0, form, wants_keys: true };
    host.news(&ask, Duration::from_secs(20)).await.unwrap().manifest.unwrap()
}

fn ending(number: u64, until_secs: u64) -> Record {
    Record { until_secs, ..token(number) }
}

/// The time goes on to the next cut.
fn next_cut(nanos: &AtomicU64) {
    nanos.fetch_add(31_000_000_000, Ordering::Relaxed);
}

#[tokio::test]
async fn each_record_is_where_it_is_looked_for() {
    let nanos = Arc::new(AtomicU64::new(0));
    let host = in_memory(&nanos);
    let soon = ending(1, START_SECS + 100);
    let later = ending(2, START_SECS + 100 + u64::from(SPAN_SECS));
    let far = ending(3, START_SECS + 121 * u64::from(SPAN_SECS));
    let subject = Record {
        kind: Kind::Subject,
        by_exp: false,
        before_secs: START_SECS,
        ..ending(4, START_SECS + 500)
    };
    // Nobody who shows it shows its end, which whoever revoked it may have told.
    let opaque = Record { kind: Kind::Opaque, by_exp: true, ..ending(7, START_SECS + 100) };
    let lifted = lifted(ending(5, START_SECS + 100));
    let over = ending(6, START_SECS - 2 * u64::from(SPAN_SECS));
    accept(&host, vec![soon, later, far, subject, opaque, lifted, over]).await;
    next_cut(&nanos);
    let manifest = manifest(&host, Form::Fuse).await;
    assert_eq!((manifest.cut, manifest.span_secs), (1, SPAN_SECS));
    let own = generation(START_SECS, SPAN_SECS);
    for (record, wanted) in [(soon, own), (later, own + 1), (far, 0), (subject, 0), (opaque, 0)] {
        assert!(found_in(&host, &manifest, record.id).contains(&wanted), "{record:?}");
    }
    let generations: Vec<u32> = manifest.images.iter().map(|image| image.generation).collect();
    assert_eq!(generations, [0, own, own + 1], "none for what is lifted or over");
}

#[tokio::test]
async fn two_hosts_make_the_same_of_the_same() {
    let nanos = Arc::new(AtomicU64::new(0));
    let hosts = [in_memory(&nanos), in_memory(&nanos)];
    let records: Vec<Record> = (0..900).map(|n| ending(n, START_SECS + n * 10)).collect();
    accept(&hosts[0], records.clone()).await;
    for record in records.iter().rev() {
        accept(&hosts[1], vec![*record]).await;
    }
    next_cut(&nanos);
    let one = manifest(&hosts[0], Form::Fuse).await;
    let other = manifest(&hosts[1], Form::Fuse).await;
    assert_eq!(one.images, other.images);
    assert!(one.images.len() > 25);
}

#[tokio::test]
async fn what_did_not_change_is_not_made_again_and_what_is_over_goes() {
    let nanos = Arc::new(AtomicU64::new(0));
    let host = in_memory(&nanos);
    let records = [ending(1, START_SECS + 10), ending(2, START_SECS + 10 + u64::from(SPAN_SECS))];
    accept(&host, records.to_vec()).await;
    next_cut(&nanos);
    let first = manifest(&host, Form::Fuse).await;
    accept(&host, vec![ending(3, START_SECS + 20 + u64::from(SPAN_SECS))]).await;
    next_cut(&nanos);
    let second = manifest(&host, Form::Fuse).await;
    assert_eq!((second.cut, second.images[0]), (2, first.images[0]));
    assert_ne!(second.images[1], first.images[1]);
    fetched(&host, &first.images[1]);

    // Its end, the leeway, and the next change.
    nanos.fetch_add(u64::from(SPAN_SECS + 60) * 1_000_000_000, Ordering::Relaxed);
    accept(&host, vec![ending(4, START_SECS + 3_000)]).await;
    next_cut(&nanos);
    let third = manifest(&host, Form::Fuse).await;
    assert_eq!(third.images[0], second.images[1]);
    assert_eq!(host.get(records[0].id), Ok(None), "it is forgotten");
    assert_eq!(host.get(records[1].id), Ok(Some(records[1])));
    assert_eq!(host.stats().records[0], 3);
}

#[tokio::test]
async fn pages_are_made_when_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let host = open(folder.path());
    let records: Vec<Record> = (0..1_000)
        .map(|number| Record { by_exp: false, until_secs: EVER, ..token(number) })
        .collect();
    accept(&host, records.clone()).await;
    let manifest = manifest(&host, Form::Pages).await;
    let image = fetched(&host, &manifest.images[0]);
    let pages = (image.len() / PAGE_BYTES) as u32;
    for record in &records {
        let place = Place::of(record.id.short(), pages);
        let page = &image[place.page as usize * PAGE_BYTES..][..PAGE_BYTES];
        assert!(place.is_in(page));
    }
}

#[tokio::test]
async fn a_proxy_is_told_of_newer_images_when_that_is_worth_it() {
    let nanos = Arc::new(AtomicU64::new(0));
    let host = in_memory(&nanos);
    accept(&host, vec![ending(0, START_SECS + 100)]).await;
    next_cut(&nanos);
    manifest(&host, Form::Fuse).await;
    let at = host.position();
    accept(&host, vec![ending(1, START_SECS + 100)]).await;
    next_cut(&nanos);
    let little = told(&host, at, 1).await.unwrap();
    assert!(little.manifest.is_none() && little.deltas.len() == 1);
    assert!(told(&host, at, 0).await.unwrap().manifest.is_none(), "what leads there goes before");
    let missed = told(&host, host.position(), 0).await.unwrap();
    assert_eq!(missed.manifest.unwrap().cut, 2);
    accept(&host, (2..300).map(|n| ending(n, START_SECS + 100)).collect()).await;
    next_cut(&nanos);
    let much = told(&host, host.position(), 2).await.unwrap();
    assert_eq!((much.manifest.unwrap().cut, much.anew), (3, false));
}

#[tokio::test]
async fn an_image_that_is_not_here_has_no_pieces() {
    let host = in_memory(&Arc::new(AtomicU64::new(0)));
    assert_eq!(host.chunk(&ChunkAsk { image: 7, offset: 0 }), None);
}
