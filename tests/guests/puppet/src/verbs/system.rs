//! Log, time, ticks, memory.

use crate::abi;
use crate::actor::Part;
use crate::memory::{Mood, set_mood};
use crate::verbs::told;
use crate::words::Words;

/// 2020-01-01 in nanoseconds since 1970: a clock that says less is not set.
const THE_PAST_NS: u64 = 1_577_836_800_000_000_000;

/// `log LEVEL TEXT`, `time`, `time_at ADDRESS`, `set_tick MS`, `memory empty`, `memory astray`.
pub(crate) fn play(_: &mut Part<'_>, verb: &str, words: &Words<'_>) -> Option<String> {
    // SAFETY: the words live through the call; wrong addresses in them are what is tested.
    Some(unsafe {
        match verb {
            "log" => {
                let text = words.bytes(1);
                abi::proxy_log(words.num(0), text.at, text.len).to_string()
            }
            "time" => {
                let (status, now) = told::<u64>(|to| abi::proxy_get_current_time_nanoseconds(to));
                let is_set = if now > THE_PAST_NS { "plausible" } else { "wrong" };
                format!("{status} {is_set}")
            }
            "time_at" => abi::proxy_get_current_time_nanoseconds(words.num(0) as usize).to_string(),
            "set_tick" => abi::proxy_set_tick_period_milliseconds(words.num(0)).to_string(),
            "memory" => {
                set_mood(if words.word(0) == "empty" { Mood::Empty } else { Mood::Astray });
                String::new()
            }
            _ => return versioned(verb),
        }
    })
}

#[cfg(not(any(feature = "abi-0-1-0", feature = "abi-0-2-0")))]
fn versioned(verb: &str) -> Option<String> {
    if verb != "get_log_level" {
        return None;
    }
    // SAFETY: only addresses of our own.
    let (status, level) = told::<u32>(|to| unsafe { abi::proxy_get_log_level(to) });
    Some(format!("{status} {level}"))
}

#[cfg(feature = "abi-0-1-0")]
fn versioned(verb: &str) -> Option<String> {
    if verb != "get_configuration" {
        return None;
    }
    // SAFETY: only addresses of our own.
    Some(crate::verbs::shown(|to, to_len| unsafe { abi::proxy_get_configuration(to, to_len) }))
}

#[cfg(feature = "abi-0-2-0")]
fn versioned(_: &str) -> Option<String> {
    None
}
