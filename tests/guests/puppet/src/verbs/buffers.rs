//! Buffers: 0 request body, 1 response body, 2 downstream data, 3 upstream data, 4 an HTTP
//! call's body, 5 a gRPC message, 6 and 7 the configurations of VM and plugin, 8 a foreign
//! function's arguments.

use crate::abi;
use crate::actor::Part;
use crate::verbs::{received, shown, told};
use crate::words::Words;

pub(crate) fn play(_: &mut Part<'_>, verb: &str, words: &Words<'_>) -> Option<String> {
    let (buffer, start, len) = (words.num(0), words.num(1), words.num(2));
    // SAFETY: the words live through the call; wrong addresses in them are what is tested.
    Some(unsafe {
        match verb {
            "get_buffer" => {
                shown(|to, to_len| abi::proxy_get_buffer_bytes(buffer, start, len, to, to_len))
            }
            "get_buffer_at" => {
                let (to, to_len) = (words.num(3) as usize, words.num(4) as usize);
                abi::proxy_get_buffer_bytes(buffer, start, len, to, to_len).to_string()
            }
            "set_buffer" => {
                let value = words.bytes(3);
                abi::proxy_set_buffer_bytes(buffer, start, len, value.at, value.len).to_string()
            }
            "buffer_status" => {
                let mut flags = 0u32;
                let flags_at = (&raw mut flags) as usize;
                let (status, size) =
                    told::<u32>(|to| abi::proxy_get_buffer_status(buffer, to, flags_at));
                format!("{status} {size} {flags}")
            }
            _ => return None,
        }
    })
}

/// All that a buffer holds.
pub(crate) fn whole(buffer: u32) -> Vec<u8> {
    // SAFETY: only addresses of `received`'s own.
    let (_, value) = received(|to, to_len| unsafe {
        abi::proxy_get_buffer_bytes(buffer, 0, u32::MAX, to, to_len)
    });
    value
}
