//! An upgraded connection (WebSocket): bytes both ways, through the filters.
//!
//! As in Envoy, where an upgraded stream goes through the filters of its listener: they see
//! the headers of the upgrade and of its answer, and then what either side sends as parts of
//! the request's and the response's body, which end when that side closes.

use super::Exchange;
use crate::proxy::side::Side;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use proxy_wasm_host::http::HttpEvent;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};

/// Carries bytes until a side is gone, nothing moves for too long, or a filter cuts it.
pub(super) async fn run(mut exchange: Exchange) {
    let (Some(client), Some(upstream)) = (exchange.upgrade.take(), exchange.upgraded.take()) else {
        return;
    };
    let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
    let mut client = Side::new(TokioIo::new(client));
    let mut upstream = Side::new(TokioIo::new(upstream));
    poll_fn(|cx| {
        let ended = poll(&mut exchange, &mut client, &mut upstream, cx);
        // Broken on either side: there is nobody left to tell.
        ended.map(|ended| ended.unwrap_or(()))
    })
    .await;
}

fn poll<C, U>(
    exchange: &mut Exchange,
    client: &mut Side<C>,
    upstream: &mut Side<U>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        while let Poll::Ready(event) = exchange.stream.poll_event(cx) {
            match event {
                HttpEvent::RequestData(data, is_end) => upstream.push(data, is_end),
                HttpEvent::RequestTrailers(_) => upstream.push(Bytes::new(), true),
                HttpEvent::ResponseData(data, is_end) => client.push(data, is_end),
                HttpEvent::ResponseTrailers(_) => client.push(Bytes::new(), true),
                HttpEvent::Reset => return Poll::Ready(Ok(())),
                // Both heads went their way before.
                HttpEvent::RequestHeaders(..) | HttpEvent::ResponseHeaders(..) => {}
            }
        }
        let mut has_moved = client.poll_write(cx)? | upstream.poll_write(cx)?;
        if client.is_shut() {
            // All of the response was sent: that is the exchange's end.
            exchange.is_response_done = true;
            return Poll::Ready(Ok(()));
        }
        let is_wanted = upstream.has_room() && !exchange.stream.is_request_full();
        if is_wanted && let Poll::Ready(data) = client.poll_read(cx) {
            exchange.stream.on_request_data(data?, client.has_ended());
            has_moved = true;
        }
        let is_wanted = client.has_room() && !exchange.stream.is_response_full();
        if is_wanted && let Poll::Ready(data) = upstream.poll_read(cx) {
            exchange.stream.on_response_data(data?, upstream.has_ended());
            has_moved = true;
        }
        if has_moved {
            exchange.clock.moved();
        } else if exchange.clock.poll(cx, false).is_ready() {
            return Poll::Ready(Ok(()));
        } else {
            return Poll::Pending;
        }
    }
}
