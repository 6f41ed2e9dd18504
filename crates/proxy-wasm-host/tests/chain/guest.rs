//! A filter that returns from each callback what its configuration says, and logs each.
//!
//! The configuration has a byte for each of the six HTTP callbacks, in the order of [`PHASES`]:
//! what to return, or [`ANSWER`] or [`EDIT`]. Its log lines have three letters: the phase,
//! how many bytes or fields it was told of, and whether that was the end. On a tick it lets
//! go of all streams there are.

/// Letters of the callbacks: request headers, body, trailers; response headers, body, trailers.
pub(crate) const PHASES: &[u8; 6] = b"HBTCDU";

/// Send a local response of status 429 and body "no", and return Continue.
pub(crate) const ANSWER: u8 = 9;

/// Replace the body by "XY", and return Continue.
pub(crate) const EDIT: u8 = 8;

/// The guest, as text.
#[must_use]
pub(crate) fn text() -> String {
    let phase = |place: usize, name: &str, params: &str, count: &str, end: &str, body: u8| {
        format!(
            r#"(func (export "proxy_on_{name}") (param {params}) (result i32)
              (call $say (i32.const {letter}) {count} {end})
              (call $act (i32.load8_u (i32.const {at})) {count} (i32.const {body})))
            "#,
            letter = PHASES[place],
            at = 1024 + place,
        )
    };
    let (three, two) = ("i32 i32 i32", "i32 i32");
    let (count, end) = ("(local.get 1)", "(local.get 2)");
    let is_end = "(i32.const 1)";
    let phases = [
        phase(0, "request_headers", three, count, end, 0),
        phase(1, "request_body", three, count, end, 0),
        phase(2, "request_trailers", two, count, is_end, 0),
        phase(3, "response_headers", three, count, end, 1),
        phase(4, "response_body", three, count, end, 1),
        phase(5, "response_trailers", two, count, is_end, 1),
    ]
    .concat();
    format!(
        r#"(module
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (import "env" "proxy_get_buffer_bytes"
          (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_set_buffer_bytes"
          (func $edit (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_send_local_response"
          (func $answer (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_set_tick_period_milliseconds" (func $period (param i32) (result i32)))
        (import "env" "proxy_set_effective_context" (func $enter (param i32) (result i32)))
        (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 64) "noXYdetails of it")
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 1024))
        (func $say (param $phase i32) (param $count i32) (param $end i32)
          (i32.store8 (i32.const 0) (local.get $phase))
          (i32.store8 (i32.const 1) (i32.add (i32.const 48) (local.get $count)))
          (i32.store8 (i32.const 2) (i32.add (i32.const 48) (local.get $end)))
          (drop (call $log (i32.const 2) (i32.const 0) (i32.const 3))))
        (func $act (param $what i32) (param $count i32) (param $body i32) (result i32)
          (if (i32.eq (local.get $what) (i32.const {ANSWER})) (then
            (drop (call $answer (i32.const 429) (i32.const 68) (i32.const 13)
              (i32.const 64) (i32.const 2) (i32.const 0) (i32.const 0) (i32.const -1)))
            (return (i32.const 0))))
          (if (i32.eq (local.get $what) (i32.const {EDIT})) (then
            (drop (call $edit (local.get $body) (i32.const 0) (local.get $count)
              (i32.const 66) (i32.const 2)))
            (return (i32.const 0))))
          (local.get $what))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $period (i32.const 1000)))
          (drop (call $buffer (i32.const 7) (i32.const 0) (local.get 1) (i32.const 8) (i32.const 12)))
          (i32.const 1))
        (func (export "proxy_on_tick") (param i32) (local $id i32)
          (loop $next
            (local.set $id (i32.add (local.get $id) (i32.const 1)))
            (if (i32.eqz (call $enter (local.get $id))) (then
              (drop (call $continue (i32.const 0)))
              (drop (call $continue (i32.const 1)))))
            (br_if $next (i32.lt_u (local.get $id) (i32.const 20)))))
        (func (export "proxy_on_done") (param i32) (result i32)
          (call $say (i32.const 90) (i32.const 0) (i32.const 0)) (i32.const 1))
        (func (export "proxy_on_log") (param i32)
          (call $say (i32.const 76) (i32.const 0) (i32.const 0)))
        {phases})"#
    )
}
