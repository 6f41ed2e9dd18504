//! What machines share: data with versions, queues, metrics. A script names the numbers
//! that the host gives for them.

use crate::abi;
use crate::actor::Part;
use crate::show;
use crate::verbs::{received, shown, told};
use crate::words::{Words, long};

/// `get_shared KEY`, `set_shared KEY VALUE [VERSION]`,
/// `register_queue AS NAME`, `resolve_queue AS VM NAME`, `enqueue QUEUE VALUE`, `dequeue QUEUE`,
/// `define_metric AS KIND NAME`, `increment METRIC BY`, `record METRIC VALUE`, `get_metric METRIC`.
///
/// VERSION is a number, `last` for the one that was last read, or `stale` for another.
pub(crate) fn play(part: &mut Part<'_>, verb: &str, words: &Words<'_>) -> Option<String> {
    let named = number(part, words.word(0));
    // SAFETY: the words live through the call; wrong addresses in them are what is tested.
    Some(unsafe {
        match verb {
            "get_shared" => get(part, words),
            "set_shared" => set(part, words),
            "register_queue" => {
                let name = words.bytes(1);
                let (status, token) =
                    told(|to| abi::proxy_register_shared_queue(name.at, name.len, to));
                noted(part, words, status, token)
            }
            "resolve_queue" => {
                let (vm, name) = (words.bytes(1), words.bytes(2));
                let (status, token) = told(|to| {
                    abi::proxy_resolve_shared_queue(vm.at, vm.len, name.at, name.len, to)
                });
                noted(part, words, status, token)
            }
            "enqueue" => {
                let value = words.bytes(1);
                abi::proxy_enqueue_shared_queue(named, value.at, value.len).to_string()
            }
            "dequeue" => shown(|to, to_len| abi::proxy_dequeue_shared_queue(named, to, to_len)),
            "define_metric" => {
                let name = words.bytes(2);
                let (status, id) =
                    told(|to| abi::proxy_define_metric(words.num(1), name.at, name.len, to));
                noted(part, words, status, id)
            }
            "increment" => abi::proxy_increment_metric(named, words.long(1)).to_string(),
            "record" => abi::proxy_record_metric(named, words.long(1) as u64).to_string(),
            "get_metric" => {
                let (status, value) = told::<u64>(|to| abi::proxy_get_metric(named, to));
                format!("{status} {value}")
            }
            _ => return None,
        }
    })
}

fn number(part: &Part<'_>, word: &str) -> u32 {
    part.stage.numbers.get(word).copied().unwrap_or_else(|| long(word) as u32)
}

/// The low two bits of a metric's number are its kind; the rest is the host's own business.
fn noted(part: &mut Part<'_>, words: &Words<'_>, status: u32, number: u32) -> String {
    if status == 0 {
        part.stage.numbers.insert(words.word(0).to_owned(), number);
    }
    status.to_string()
}

fn get(part: &mut Part<'_>, words: &Words<'_>) -> String {
    let (key, mut version) = (words.bytes(0), 0u32);
    let version_at = (&raw mut version) as usize;
    // SAFETY: as above.
    let (status, value) = received(|to, to_len| unsafe {
        abi::proxy_get_shared_data(key.at, key.len, to, to_len, version_at)
    });
    let before = part.stage.numbers.insert("last".to_owned(), version);
    let is_new = if before == Some(version) { "the same version" } else { "a new version" };
    match status {
        0 => format!("0 {} {is_new}", show::bytes(&value)),
        status => status.to_string(),
    }
}

fn set(part: &Part<'_>, words: &Words<'_>) -> String {
    let (key, value) = (words.bytes(0), words.bytes(1));
    let version = match words.word(2) {
        "stale" => number(part, "last") + 1_000_000,
        word => number(part, word),
    };
    // SAFETY: as above.
    let status =
        unsafe { abi::proxy_set_shared_data(key.at, key.len, value.at, value.len, version) };
    status.to_string()
}
