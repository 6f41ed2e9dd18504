//! All records, one a line, as an import takes them.
//!
//! They are read page by page while they are sent, so that neither memory nor the file's readers
//! feel it. Whatever was in force all the while is among them. If the file fails the answer
//! breaks off, and so is not taken for whole.

use super::Api;
use super::audit::Call;
use super::reply::{Body, Reply, Shown, later, lines};
use crate::revocations::{Fault, Revocations};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::StatusCode;
use hyper::body::Frame;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tidegate_core::revoke::{Id, Record};
use tokio::sync::OwnedSemaphorePermit;

/// Exports at once; more are refused.
pub(super) const EXPORTS_MAX: usize = 2;

/// Records of one piece.
const PIECE: usize = 1_024;

/// How far an export has got.
struct State {
    revocations: Arc<Revocations>,
    call: Call,
    /// `None`: to the end.
    after: Option<Option<Id>>,
    /// What ends before this second is over.
    over_secs: u64,
    count: u64,
    _permit: OwnedSemaphorePermit,
}

/// Sends all of them.
pub(super) fn start(api: &Api, call: &Call) -> Reply {
    let Ok(permit) = api.exports.clone().try_acquire_owned() else {
        let what = format!("{EXPORTS_MAX} exports are under way");
        return later(StatusCode::SERVICE_UNAVAILABLE, &what, Duration::from_secs(5));
    };
    let terms = api.terms();
    let state = State {
        revocations: api.revocations.clone(),
        call: call.clone(),
        after: Some(None),
        over_secs: terms.now_secs().saturating_sub(terms.leeway_secs),
        count: 0,
        _permit: permit,
    };
    call.many("export", "begun", 0);
    let pieces = stream::try_unfold(state, piece);
    lines(BodyExt::boxed_unsync(StreamBody::new(pieces)) as Body)
}

/// The next piece, read where reading may block.
async fn piece(mut state: State) -> io::Result<Option<(Frame<Bytes>, State)>> {
    while let Some(after) = state.after {
        let revocations = state.revocations.clone();
        let read = move || revocations.page(None, after, PIECE);
        let page = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?;
        let page = page.map_err(|fault: Fault| io::Error::other(fault.to_string()))?;
        state.after = page.next.map(Some);
        let live = page.records.iter().filter(|record| record.until_secs > state.over_secs);
        let (text, count) = written(live);
        state.count += count;
        if count > 0 {
            return Ok(Some((Frame::data(text), state)));
        }
    }
    state.call.many("export", "done", state.count);
    Ok(None)
}

fn written<'a>(records: impl Iterator<Item = &'a Record>) -> (Bytes, u64) {
    let (mut text, mut count) = (Vec::with_capacity(128 * PIECE), 0);
    for record in records {
        // Text and numbers into memory: that cannot fail.
        if serde_json::to_writer(&mut text, &Shown::of(record)).is_ok() {
            text.push(b'\n');
            count += 1;
        }
    }
    (text.into(), count)
}
