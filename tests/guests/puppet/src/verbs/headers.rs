//! Header maps: 0 request, 1 its trailers, 2 response, 3 its trailers, 4 and 5 a gRPC call's
//! first and last metadata, 6 and 7 an HTTP call's fields and trailers.

use crate::abi;
use crate::actor::Part;
use crate::show;
use crate::verbs::{received, shown, told};
use crate::words::{In, Words};

pub(crate) fn play(_: &mut Part<'_>, verb: &str, words: &Words<'_>) -> Option<String> {
    let map = words.num(0);
    let (name, value) = (words.bytes(1), words.bytes(2));
    // SAFETY: the words live through the call; wrong addresses in them are what is tested.
    Some(unsafe {
        match verb {
            "get_header" => shown(|to, to_len| {
                abi::proxy_get_header_map_value(map, name.at, name.len, to, to_len)
            }),
            "get_header_at" => {
                let (to, to_len) = (words.num(2) as usize, words.num(3) as usize);
                abi::proxy_get_header_map_value(map, name.at, name.len, to, to_len).to_string()
            }
            "add_header" => {
                abi::proxy_add_header_map_value(map, name.at, name.len, value.at, value.len)
                    .to_string()
            }
            "replace_header" => {
                abi::proxy_replace_header_map_value(map, name.at, name.len, value.at, value.len)
                    .to_string()
            }
            "remove_header" => {
                abi::proxy_remove_header_map_value(map, name.at, name.len).to_string()
            }
            "get_headers" => pairs(map),
            "get_headers_at" => {
                let (to, to_len) = (words.num(1) as usize, words.num(2) as usize);
                abi::proxy_get_header_map_pairs(map, to, to_len).to_string()
            }
            "set_headers" => {
                let pairs = words.map(1);
                abi::proxy_set_header_map_pairs(map, pairs.at, pairs.len).to_string()
            }
            "set_headers_raw" => {
                abi::proxy_set_header_map_pairs(map, name.at, name.len).to_string()
            }
            "headers_size" => {
                let (status, size) = told::<u32>(|to| abi::proxy_get_header_map_size(map, to));
                format!("{status} {size}")
            }
            "headers_size_at" => {
                abi::proxy_get_header_map_size(map, words.num(1) as usize).to_string()
            }
            _ => return None,
        }
    })
}

/// The first value of a name, with the call's status.
pub(crate) fn value(map: u32, name: &str) -> (u32, Vec<u8>) {
    let name: In = name.as_bytes().to_vec().into();
    // SAFETY: the name lives through the call.
    received(|to, to_len| unsafe {
        abi::proxy_get_header_map_value(map, name.at, name.len, to, to_len)
    })
}

fn pairs(map: u32) -> String {
    // SAFETY: only addresses of `received`'s own.
    let (status, value) =
        received(|to, to_len| unsafe { abi::proxy_get_header_map_pairs(map, to, to_len) });
    match (status, value.as_slice()) {
        (0, []) => "0 nothing".to_owned(),
        (0, value) => format!("0 {}", show::pairs(value)),
        (status, _) => status.to_string(),
    }
}
