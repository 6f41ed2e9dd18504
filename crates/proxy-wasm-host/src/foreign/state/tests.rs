use super::*;
use crate::exchange::Exchange;
use crate::foreign::Memory;
use crate::foreign::tests::{call, call_in};
use crate::properties;
use crate::protobuf::{put_bytes, put_true};

fn declaration(name: &str, is_read_only: bool, is_text: bool) -> Vec<u8> {
    let mut arguments = Vec::new();
    put_bytes(1, name.as_bytes(), &mut arguments);
    if is_read_only {
        put_true(2, &mut arguments);
    }
    if is_text {
        put_true(3, &mut arguments);
    }
    arguments
}

fn assignment(path: &str, value: &str) -> Vec<u8> {
    let mut arguments = Vec::new();
    put_bytes(1, path.as_bytes(), &mut arguments);
    put_bytes(2, value.as_bytes(), &mut arguments);
    arguments
}

#[test]
fn a_root_context_declares_how_its_streams_keep_properties() {
    let (mut memory, mut exchange) = (Memory::default(), Exchange::default());
    let mut declare = |arguments: &[u8]| call_in("declare_property", arguments, None, &mut memory);
    assert_eq!(declare(&declaration("once", true, true)), Ok(Vec::new()));
    assert_eq!(declare(&declaration("once", false, false)), Err(Status::BadArgument));
    assert_eq!(declare(&[0xff]), Err(Status::BadArgument));
    let mut set = |path: &[u8], value: &[u8]| properties::set(&mut exchange, &memory, path, value);
    assert_eq!(set(b"once", b"1"), Status::Ok);
    assert_eq!(set(b"once", b"2"), Status::BadArgument);
    assert_eq!(set(b"often", b"1"), Status::Ok);
    assert_eq!(set(b"often", b"2"), Status::Ok);
    let kept = |name: &[u8]| exchange.filter_state.get(name).unwrap();
    assert_eq!((&*kept(b"wasm.once").value, kept(b"wasm.once").is_text), (&b"1"[..], true));
    assert_eq!((&*kept(b"wasm.often").value, kept(b"wasm.often").is_text), (&b"2"[..], false));
}

#[test]
fn what_a_stream_declares_changes_nothing() {
    let (mut memory, mut exchange) = (Memory::default(), Exchange::default());
    let arguments = declaration("once", true, false);
    assert_eq!(
        call_in("declare_property", &arguments, Some(&mut exchange), &mut memory),
        Ok(Vec::new())
    );
    for value in [b"1", b"2"] {
        assert_eq!(properties::set(&mut exchange, &memory, b"once", value), Status::Ok);
    }
}

#[test]
fn declarations_are_bounded() {
    let mut memory = Memory::default();
    let mut declare = |name: &str| {
        call_in("declare_property", &declaration(name, false, false), None, &mut memory)
    };
    assert_eq!(declare(&"x".repeat(NAME_BYTES_MAX + 1)), Err(Status::InternalFailure));
    for number in 0..DECLARED_MAX {
        declare(&number.to_string()).unwrap();
    }
    assert_eq!(declare("more"), Err(Status::InternalFailure));
}

#[test]
fn envoys_own_values_are_set_by_their_names() {
    let (mut memory, mut exchange) = (Memory::default(), Exchange::default());
    let mut set = |path: &str, value: &str| {
        let arguments = assignment(path, value);
        call_in("set_envoy_filter_state", &arguments, Some(&mut exchange), &mut memory)
    };
    assert_eq!(set("envoy.string", "bar"), Ok(Vec::new()));
    assert_eq!(set("envoy.network.application_protocols", "h2"), Ok(Vec::new()));
    assert_eq!(set("envoy.upstream.dynamic_port", "80"), Ok(Vec::new()));
    assert_eq!(set("envoy.upstream.dynamic_port", "65536"), Err(Status::BadArgument));
    assert_eq!(set("envoy.upstream.dynamic_port", "bar"), Err(Status::BadArgument));
    assert_eq!(set("foo", "bar"), Err(Status::NotFound));
    assert_eq!(exchange.filter_state.value("envoy.string"), Some(&b"bar"[..]));
    assert_eq!(exchange.filter_state.value("envoy.upstream.dynamic_port"), Some(&b"80"[..]));
    assert_eq!(exchange.filter_state.value("envoy.network.application_protocols"), None);
}

#[test]
fn a_root_context_has_no_exchange_to_set_anything_in() {
    let set = |path| call("set_envoy_filter_state", &assignment(path, "bar"));
    assert_eq!(set("envoy.string"), Err(Status::NotFound));
    assert_eq!(set("envoy.upstream.dynamic_port"), Err(Status::BadArgument));
    assert_eq!(call("set_envoy_filter_state", &[0xff]), Err(Status::BadArgument));
    assert_eq!(
        call("set_envoy_filter_state", &assignment("envoy.string", "")),
        Err(Status::NotFound)
    );
}

#[test]
fn routes_are_not_remembered() {
    assert_eq!(call("clear_route_cache", b""), Ok(Vec::new()));
}
