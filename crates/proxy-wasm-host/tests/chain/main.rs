//! How parts of an exchange move through a chain: what each filter is shown, in which order,
//! and what comes out. The rules are Envoy's filter manager's.

mod guest;
mod harm;
mod world;

use bytes::Bytes;
use guest::{ANSWER, EDIT};
use proxy_wasm_host::http::HttpEvent;
use proxy_wasm_host::maps::HeaderMap;
use world::{Stage, World, shown};

const GO: [u8; 6] = [0; 6];

fn fields() -> HeaderMap {
    [(":method", "POST"), (":path", "/")].into_iter().collect()
}

fn status() -> HeaderMap {
    [(":status", "200")].into_iter().collect()
}

fn data(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// What came out, in short: a letter for the part, its size or status, `.` at the end.
fn out(stage: &Stage) -> String {
    let mut out = Vec::new();
    while let Some(event) = stage.stream.next_event() {
        let end = |is_end: bool| if is_end { "." } else { "" };
        out.push(match event {
            HttpEvent::RequestHeaders(_, is_end) => format!("H{}", end(is_end)),
            HttpEvent::RequestData(data, is_end) => format!("B{}{}", shown(&data), end(is_end)),
            HttpEvent::RequestTrailers(_) => "T".to_owned(),
            HttpEvent::ResponseHeaders(headers, is_end) => {
                let status = headers.get(b":status").map(shown).unwrap_or_default();
                format!("C{status}{}", end(is_end))
            }
            HttpEvent::ResponseData(data, is_end) => format!("D{}{}", shown(&data), end(is_end)),
            HttpEvent::ResponseTrailers(_) => "U".to_owned(),
            HttpEvent::Reset => "RESET".to_owned(),
        });
    }
    out.join(" ")
}

#[test]
fn parts_pass_the_filters_in_order_and_come_back_in_reverse() {
    let stage = World::new().chain(&[GO, GO]);
    stage.stream.on_request_headers(fields(), false);
    stage.stream.on_request_data(data("ab"), false);
    stage.stream.on_request_trailers(fields());
    assert_eq!(out(&stage), "H Bab T");
    stage.stream.on_response_headers(status(), false);
    stage.stream.on_response_data(data("abc"), true);
    assert_eq!(out(&stage), "C200 Dabc.");
    let said = "0:H20 1:H20 0:B20 1:B20 0:T21 1:T21 1:C10 0:C10 1:D31 0:D31";
    assert_eq!(stage.world.said(), said);
    assert_eq!(stage.end(), "0:L00 1:L00 0:Z00 1:Z00");
}

#[test]
fn no_filters_pass_everything() {
    let stage = World::new().chain(&[]);
    stage.stream.on_request_headers(fields(), true);
    stage.stream.on_response_headers(status(), false);
    stage.stream.on_response_data(data(""), true);
    assert_eq!(out(&stage), "H. C200 D.");
}

#[test]
fn a_pause_in_headers_hides_the_body_until_it_ends() {
    let stage = World::new().chain(&[[1, 0, 0, 0, 0, 0], GO]);
    stage.stream.on_request_headers(fields(), false);
    stage.stream.on_request_data(data("ab"), false);
    stage.stream.on_request_data(data("c"), true);
    assert_eq!(out(&stage), "");
    assert_eq!(stage.world.said(), "0:H20");
    stage.tick();
    assert_eq!(out(&stage), "H Babc.");
    assert_eq!(stage.world.said(), "1:H20 0:B31 1:B31");
}

#[test]
fn headers_alone_may_be_held() {
    let stage = World::new().headers_alone().chain(&[[1, 0, 0, 0, 0, 0]]);
    stage.stream.on_request_headers(fields(), false);
    assert_eq!(out(&stage), "");
    stage.stream.on_request_data(data("ab"), true);
    assert_eq!((out(&stage), stage.world.said()), ("H Bab.".into(), "0:H20 0:B21".into()));
}

#[test]
fn a_request_of_headers_alone_is_held_and_goes_on() {
    let stage = World::new().chain(&[[1, 0, 0, 0, 0, 0]]);
    stage.stream.on_request_headers(fields(), true);
    assert_eq!(out(&stage), "");
    stage.tick();
    assert_eq!((out(&stage), stage.world.said()), ("H.".into(), "0:H21".into()));
}

#[test]
fn a_buffered_body_is_shown_whole_and_goes_on_unseen() {
    let stage = World::new().chain(&[[0, 1, 0, 0, 0, 0], GO]);
    stage.stream.on_request_headers(fields(), false);
    stage.stream.on_request_data(data("ab"), false);
    stage.stream.on_request_data(data("c"), true);
    assert_eq!(out(&stage), "H");
    stage.tick();
    assert_eq!(out(&stage), "Babc.");
    assert_eq!(stage.world.said(), "0:H20 1:H20 0:B20 0:B31 1:B31");
}

#[test]
fn trailers_are_shown_while_a_body_is_held_and_take_it_along() {
    let stage = World::new().chain(&[[0, 1, 0, 0, 0, 0]]);
    stage.stream.on_request_headers(fields(), false);
    stage.stream.on_request_data(data("ab"), false);
    stage.stream.on_request_trailers(fields());
    assert_eq!((out(&stage), stage.world.said()), ("H Bab T".into(), "0:H20 0:B20 0:T21".into()));
}

#[test]
fn a_pause_in_trailers_holds_them_alone() {
    let stage = World::new().chain(&[[0, 0, 1, 0, 0, 1]]);
    stage.stream.on_request_headers(fields(), false);
    stage.stream.on_request_data(data("ab"), false);
    stage.stream.on_request_trailers(fields());
    stage.stream.on_response_headers(status(), false);
    stage.stream.on_response_trailers(status());
    assert_eq!(out(&stage), "H Bab C200");
    stage.tick();
    assert_eq!(out(&stage), "T U");
}

#[test]
fn a_body_may_be_replaced() {
    let stage = World::new().chain(&[[0, EDIT, 0, 0, EDIT, 0], GO]);
    stage.stream.on_request_headers(fields(), false);
    stage.stream.on_request_data(data("abcd"), true);
    stage.stream.on_response_headers(status(), false);
    stage.stream.on_response_data(data("abc"), true);
    assert_eq!(out(&stage), "H BXY. C200 DXY.");
    assert_eq!(stage.world.said(), "0:H20 1:H20 0:B41 1:B21 1:C10 0:C10 1:D31 0:D31");
}

#[test]
fn an_answer_wins_over_what_the_callback_returned() {
    let stage = World::new().chain(&[GO, [ANSWER, 0, 0, 0, 0, 0], GO]);
    stage.stream.on_request_headers(fields(), false);
    // It passes the filters that the request has passed.
    assert_eq!(
        (out(&stage), stage.world.said()),
        ("C429 Dno.".into(), "0:H20 1:H20 1:C30 0:C30 1:D21 0:D21".into())
    );
    let details = stage.stream.exchange().facts.response_code_details.clone();
    assert_eq!(details.as_deref(), Some("details_of_it"));
    // What comes afterwards goes nowhere.
    stage.stream.on_request_data(data("ab"), true);
    stage.stream.on_response_headers(status(), true);
    assert_eq!(out(&stage), "");
    // One that never saw it logs it all the same.
    assert_eq!(stage.end(), "0:L00 1:L00 2:L00 0:Z00 1:Z00 2:Z00");
}

#[test]
fn an_answer_in_place_of_a_response_is_not_seen_again() {
    let stage = World::new().chain(&[[0, 0, 0, ANSWER, 0, 0]]);
    stage.stream.on_request_headers(fields(), true);
    stage.stream.on_response_headers(status(), false);
    stage.stream.on_response_data(data("abc"), true);
    assert_eq!((out(&stage), stage.world.said()), ("H. C429 Dno.".into(), "0:H21 0:C10".into()));
}

#[test]
fn an_answer_after_the_headers_were_sent_cuts_off() {
    let stage = World::new().chain(&[[0, 0, 0, 0, ANSWER, 0]]);
    stage.stream.on_request_headers(fields(), true);
    stage.stream.on_response_headers(status(), false);
    stage.stream.on_response_data(data("abc"), false);
    assert_eq!(out(&stage), "RESET");
}

#[test]
fn the_proxys_own_answer_passes_the_filters() {
    let stage = World::new().chain(&[GO]);
    stage.stream.on_request_headers(fields(), true);
    stage.stream.reply(504, HeaderMap::new(), data("late"), "upstream_timeout");
    assert_eq!(
        (out(&stage), stage.world.said()),
        ("H. C504 Dlate.".into(), "0:H21 0:C30 0:D41".into())
    );
}

#[test]
fn more_than_may_be_buffered_ends_the_request() {
    let stage = World::new().buffer_bytes(4).chain(&[[0, 1, 0, 0, 0, 0]]);
    stage.stream.on_request_headers(fields(), false);
    stage.stream.on_request_data(data("abcd"), false);
    // Else neither the end would ever come nor too much.
    assert!(!stage.stream.is_request_full());
    stage.stream.on_request_data(data("e"), false);
    assert_eq!(out(&stage), "H C413 DPayload Too Large.");
}

#[test]
fn a_pause_makes_the_sender_wait_instead() {
    let stage = World::new().buffer_bytes(4).chain(&[[1, 0, 0, 0, 0, 0]]);
    stage.stream.on_request_headers(fields(), false);
    stage.stream.on_request_data(data("abcdef"), false);
    assert!(stage.stream.is_request_full());
    stage.tick();
    assert_eq!(out(&stage), "H Babcdef");
    assert!(!stage.stream.is_request_full());
}
