//! The upstream's side of an exchange: asked, awaited, read to its end, or given up.

use super::{Exchange, Up};
use crate::proxy::headers::{self, back};
use crate::proxy::lane::Target;
use crate::proxy::pipe::pipe;
use crate::proxy::time::nanos;
use crate::proxy::upstream::{Answer, Failure, RequestBody};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::Version;
use hyper::body::{Body, Frame};
use proxy_wasm_host::maps::HeaderMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

impl Exchange {
    /// Sends the request on, or answers it if it goes nowhere.
    pub(super) fn ask(&mut self, headers: &HeaderMap, is_end: bool) {
        let route = Rc::clone(&self.route);
        let cluster = match &route.target {
            Target::Respond { status, headers, body } => {
                let (headers, body) = (headers.clone(), body.clone());
                return self.stream.reply(*status, headers, body, "direct_response");
            }
            Target::Cluster(cluster) => cluster,
        };
        if self.upgrade.is_some() && cluster.is_http2() {
            return self.reply(403, Bytes::new(), "upgrade_failed");
        }
        let head = back::request(headers, cluster.is_http2(), cluster.is_tls(), is_end);
        let head = match head {
            Ok(head) => head,
            Err(back::NoRequest::Nowhere) => {
                return self.reply(404, Bytes::new(), "route_not_found");
            }
            Err(back::NoRequest::Malformed(why)) => {
                let details = format!("filter_removed_required_request_headers{{{why}}}");
                return self.reply(503, why.into(), &details);
            }
        };
        let body = if is_end || self.upgrade.is_some() {
            RequestBody::Empty
        } else {
            let (feed, body) = pipe();
            self.feed = Some(feed);
            RequestBody::Pipe(body)
        };
        let answer = Rc::clone(cluster).send(head.map(|()| body));
        self.upstream = Up::Asked(Box::pin(answer), Instant::now());
        if is_end || self.upgrade.is_some() {
            self.end_request(None);
        }
    }

    pub(super) fn end_request(&mut self, trailers: Option<&HeaderMap>) {
        if let Some(feed) = self.feed.take() {
            match trailers {
                Some(trailers) => feed.trailers(back::trailers(trailers)),
                None => feed.end(),
            }
        }
        self.is_request_sent = true;
        self.clock.request_sent();
    }

    /// Whether something came from upstream.
    pub(super) fn poll_upstream(&mut self, cx: &mut Context<'_>, is_wanted: bool) -> bool {
        match &mut self.upstream {
            Up::Asked(answer, since) => {
                let since = *since;
                let Poll::Ready(answer) = answer.as_mut().poll(cx) else { return false };
                match answer {
                    Ok(answer) => self.answered(answer, since),
                    Err(failure) => self.failed(&failure),
                }
                true
            }
            Up::Answers { body, is_http2, .. } => {
                if !is_wanted || !self.parts.is_empty() || self.stream.is_response_full() {
                    return false;
                }
                let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else { return false };
                let (is_http2, is_last) = (*is_http2, body.is_end_stream());
                self.response_frame(frame, is_last, is_http2);
                true
            }
            Up::Idle | Up::Over => false,
        }
    }

    fn answered(&mut self, answer: Answer, since: Instant) {
        let Answer { mut response, facts, lease } = answer;
        self.clock.response_began();
        self.stream.exchange().facts.upstream = Some(facts);
        let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if is_upgrade {
            if self.upgrade.is_none() {
                return self.failed(&Failure::Protocol);
            }
            self.upgraded = Some(hyper::upgrade::on(&mut response));
        }
        let (head, body) = response.into_parts();
        let is_http2 = head.version == Version::HTTP_2;
        // Whatever an origin sends behind an answer to HEAD is nobody's.
        let is_end = (body.is_end_stream() || self.is_head) && !is_upgrade;
        let headers = headers::response(&head);
        self.upstream = Up::Answers { body, is_http2, lease, since };
        if is_end {
            self.upstream_ended();
        } else if is_upgrade {
            // Its body is what comes over the connection from now on.
            self.upstream = Up::Idle;
        }
        self.stream.on_response_headers(headers, is_end);
    }

    /// As Envoy's codecs tell it: HTTP/2's last part is the end, while HTTP/1's end comes
    /// behind the last part, also where its length told that it is the last.
    fn response_frame(
        &mut self,
        frame: Option<Result<Frame<Bytes>, hyper::Error>>,
        is_last: bool,
        is_http2: bool,
    ) {
        let Some(frame) = frame else {
            self.upstream_ended();
            return self.stream.on_response_data(Bytes::new(), true);
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(_) => return self.failed(&Failure::Terminated),
        };
        match frame.into_data() {
            Ok(data) => {
                if is_last {
                    self.upstream_ended();
                }
                self.stream.on_response_data(data, is_last && is_http2);
                if is_last && !is_http2 {
                    self.stream.on_response_data(Bytes::new(), true);
                }
            }
            Err(frame) => {
                self.upstream_ended();
                let trailers = frame.trailers_ref().map(headers::trailers);
                self.stream.on_response_trailers(trailers.unwrap_or_default());
            }
        }
    }

    /// The whole response has come. Its connection is another's, if the request is all sent.
    fn upstream_ended(&mut self) {
        if let Up::Answers { lease, since, .. } = std::mem::replace(&mut self.upstream, Up::Over) {
            self.stream.exchange().facts.backend_latency_ns = Some(nanos(since.elapsed()));
            if self.is_request_sent {
                lease.give_back();
            }
        }
    }

    /// No response, or none to its end.
    fn failed(&mut self, failure: &Failure) {
        self.upstream = Up::Over;
        let (status, flag) = failure.status_and_flag();
        let (name, details) = match self.has_response_begun {
            true => ("cut_off", "upstream_reset_after_response_started".to_owned()),
            false => (failure.name(), failure.details()),
        };
        self.lane.counts.upstream_failed(name);
        {
            let mut exchange = self.stream.exchange();
            exchange.facts.response_flags |= flag;
            exchange.facts.response_code_details = Some(details.clone());
        }
        let body = format!(
            "upstream connect error or disconnect/reset before headers. reset reason: {}",
            failure.reason()
        );
        self.reply(status, body.into(), &details);
    }

    pub(super) fn leave_upstream(&mut self) {
        self.upstream = Up::Over;
        self.feed = None;
    }
}
