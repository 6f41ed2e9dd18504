//! What becomes of a stream: going on, ending, answering; and whose turn it is.

use crate::abi;
use crate::actor::Part;
use crate::words::Words;

pub(crate) fn play(part: &mut Part<'_>, verb: &str, words: &Words<'_>) -> Option<String> {
    Some(match verb {
        "return" => {
            part.returns = words.num(0);
            String::new()
        }
        "trap" => std::process::abort(),
        "spin" => loop {
            core::hint::spin_loop();
        },
        "enter" => enter(part, words).to_string(),
        "reply" => reply(words).to_string(),
        // SAFETY: no addresses.
        "done" => unsafe { abi::proxy_done() }.to_string(),
        _ => return versioned(verb, words),
    })
}

/// Context by number, or `root`'s, or that of the case itself (no word) or of another.
fn enter(part: &Part<'_>, words: &Words<'_>) -> u32 {
    let id = match words.word(0) {
        "" => Some(&part.actor),
        case => part.stage.places.get(case),
    };
    let id = id.copied().unwrap_or_else(|| words.num(0));
    // SAFETY: no addresses.
    unsafe { abi::proxy_set_effective_context(id) }
}

/// `reply STATUS DETAILS BODY FIELDS [GRPC_STATUS]`: -1 is none.
fn reply(words: &Words<'_>) -> u32 {
    let (details, body, fields) = (words.bytes(1), words.bytes(2), words.map(3));
    let grpc_status = if words.word(4).is_empty() { u32::MAX } else { words.num(4) };
    // SAFETY: the words live through the call; wrong addresses in them are what is tested.
    unsafe {
        abi::proxy_send_local_response(
            words.num(0),
            details.at,
            details.len,
            body.at,
            body.len,
            fields.at,
            fields.len,
            grpc_status,
        )
    }
}

/// `continue STREAM` and `close STREAM`: 0 request, 1 response, 2 downstream, 3 upstream.
#[cfg(not(feature = "abi-0-1-0"))]
fn versioned(verb: &str, words: &Words<'_>) -> Option<String> {
    let stream = words.num(0);
    // SAFETY: no addresses.
    let status = match verb {
        "continue" => unsafe { abi::proxy_continue_stream(stream) },
        "close" => unsafe { abi::proxy_close_stream(stream) },
        _ => return None,
    };
    Some(status.to_string())
}

/// `continue STREAM` for 0 and 1.
#[cfg(feature = "abi-0-1-0")]
fn versioned(verb: &str, words: &Words<'_>) -> Option<String> {
    // SAFETY: no addresses.
    let status = match (verb, words.num(0)) {
        ("continue", 0) => unsafe { abi::proxy_continue_request() },
        ("continue", 1) => unsafe { abi::proxy_continue_response() },
        ("clear_route_cache", _) => unsafe { abi::proxy_clear_route_cache() },
        _ => return None,
    };
    Some(status.to_string())
}
