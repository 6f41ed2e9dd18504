//! What a script's line does: a file for each family of host calls.

pub(crate) mod buffers;
mod calls;
mod flow;
mod grpc;
pub(crate) mod headers;
pub(crate) mod properties;
mod shared;
mod system;
mod wasi;

use crate::abi;
use crate::actor::Part;
use crate::memory::taken;
use crate::show;
use crate::words::{In, Words};
use std::ptr::from_mut;

/// Level of what is logged here.
const INFO: u32 = 2;

/// Logs a line of a case.
pub(crate) fn say(case: &str, text: &str) {
    let line: In = format!("{case}> {text}").into_bytes().into();
    // SAFETY: the line lives through the call.
    unsafe { abi::proxy_log(INFO, line.at, line.len) };
}

/// Does one line, and logs it with its result.
pub(crate) fn play(part: &mut Part<'_>, line: &str) {
    let (verb, words) = Words::of(line);
    let families = [
        headers::play,
        buffers::play,
        flow::play,
        calls::play,
        grpc::play,
        shared::play,
        properties::play,
        system::play,
        wasi::play,
    ];
    let result = families.iter().find_map(|family| family(part, verb, &words));
    let result = result.unwrap_or_else(|| "no such verb".to_owned());
    say(&part.case, &format!("  {line} -> {result}"));
}

/// A host call that hands bytes over: its status, and the bytes if it is 0.
fn received(call: impl FnOnce(abi::At, abi::At) -> u32) -> (u32, Vec<u8>) {
    let (mut at, mut len) = (0usize, 0usize);
    let status = call(from_mut(&mut at) as abi::At, from_mut(&mut len) as abi::At);
    (status, if status == 0 { taken(at, len) } else { Vec::new() })
}

/// As [`received`], as a log shows it.
fn shown(call: impl FnOnce(abi::At, abi::At) -> u32) -> String {
    let (status, value) = received(call);
    if status == 0 { format!("0 {}", show::bytes(&value)) } else { status.to_string() }
}

/// A host call that tells a number.
fn told<T: Default>(call: impl FnOnce(abi::At) -> u32) -> (u32, T) {
    let mut number = T::default();
    let status = call(from_mut(&mut number) as abi::At);
    (status, number)
}
