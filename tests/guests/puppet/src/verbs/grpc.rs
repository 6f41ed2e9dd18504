//! gRPC calls and streams. A script gives each a name, as the host's token is any number.

use crate::abi;
use crate::actor::{Part, Protocol};
use crate::memory::taken;
use crate::show;
use crate::verbs::calls::started;
use crate::verbs::told;
use crate::words::Words;

/// `grpc_call NAME CLUSTER SERVICE METHOD METADATA MESSAGE TIMEOUT_MS`,
/// `grpc_stream NAME CLUSTER SERVICE METHOD METADATA`, and of either by its name
/// `grpc_send NAME MESSAGE IS_END`, `grpc_close NAME`, `grpc_cancel NAME`.
pub(crate) fn play(part: &mut Part<'_>, verb: &str, words: &Words<'_>) -> Option<String> {
    let status = match verb {
        "grpc_call" => call(part, words),
        "grpc_stream" => stream(part, words),
        "grpc_send" => {
            let message = words.bytes(1);
            // SAFETY: the words live through the call; wrong addresses are what is tested.
            unsafe {
                abi::proxy_grpc_send(token(part, words), message.at, message.len, words.num(2))
            }
        }
        // SAFETY: no addresses.
        "grpc_close" => unsafe { abi::proxy_grpc_close(token(part, words)) },
        "grpc_cancel" => unsafe { abi::proxy_grpc_cancel(token(part, words)) },
        "get_status" => return Some(get_status()),
        _ => return None,
    };
    Some(status.to_string())
}

/// The call that was last started under that name; else a number.
fn token(part: &Part<'_>, words: &Words<'_>) -> u32 {
    let named = part.stage.numbers.get(words.word(0)).copied();
    named.unwrap_or_else(|| words.num(0))
}

fn call(part: &mut Part<'_>, words: &Words<'_>) -> u32 {
    let (cluster, service, method) = (words.bytes(1), words.bytes(2), words.bytes(3));
    let (metadata, message, timeout) = (words.map(4), words.bytes(5), words.num(6));
    // SAFETY: the words live through the call; wrong addresses in them are what is tested.
    let (status, token) = told::<u32>(|to| unsafe {
        abi::proxy_grpc_call(
            cluster.at,
            cluster.len,
            service.at,
            service.len,
            method.at,
            method.len,
            metadata.at,
            metadata.len,
            message.at,
            message.len,
            timeout,
            to,
        )
    });
    started(part, Protocol::Grpc, words.word(0), status, token);
    status
}

fn stream(part: &mut Part<'_>, words: &Words<'_>) -> u32 {
    let (cluster, service, method) = (words.bytes(1), words.bytes(2), words.bytes(3));
    let metadata = words.map(4);
    // SAFETY: the words live through the call; wrong addresses in them are what is tested.
    let (status, token) = told::<u32>(|to| unsafe {
        abi::proxy_grpc_stream(
            cluster.at,
            cluster.len,
            service.at,
            service.len,
            method.at,
            method.len,
            metadata.at,
            metadata.len,
            to,
        )
    });
    started(part, Protocol::Grpc, words.word(0), status, token);
    status
}

fn get_status() -> String {
    let (mut code, mut at, mut len) = (0u32, 0usize, 0usize);
    // SAFETY: only addresses of our own.
    let status = unsafe {
        abi::proxy_get_status(
            (&raw mut code) as usize,
            (&raw mut at) as usize,
            (&raw mut len) as usize,
        )
    };
    match status {
        0 => format!("0 {code} {}", show::bytes(&taken(at, len))),
        status => status.to_string(),
    }
}
