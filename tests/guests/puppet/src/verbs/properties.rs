//! Properties and foreign functions.

use crate::abi;
use crate::actor::Part;
use crate::show;
use crate::verbs::{received, shown};
use crate::words::{In, Words};

/// `get_property PATH`, `property_size PATH` (for values that differ each time),
/// `property_pairs PATH` (for maps, whose order is nobody's business),
/// `set_property PATH VALUE`, `foreign NAME ARGUMENTS`.
pub(crate) fn play(_: &mut Part<'_>, verb: &str, words: &Words<'_>) -> Option<String> {
    let path = words.path(0);
    // SAFETY: the words live through the call; wrong addresses in them are what is tested.
    Some(unsafe {
        match verb {
            "get_property" => {
                shown(|to, to_len| abi::proxy_get_property(path.at, path.len, to, to_len))
            }
            "property_size" => {
                let (status, value) =
                    received(|to, to_len| abi::proxy_get_property(path.at, path.len, to, to_len));
                if status == 0 { format!("0 {} bytes", value.len()) } else { status.to_string() }
            }
            "property_pairs" => {
                let (status, value) =
                    received(|to, to_len| abi::proxy_get_property(path.at, path.len, to, to_len));
                if status == 0 { format!("0 {}", show::sorted(&value)) } else { status.to_string() }
            }
            "property_at" => {
                let (to, to_len) = (words.num(1) as usize, words.num(2) as usize);
                abi::proxy_get_property(path.at, path.len, to, to_len).to_string()
            }
            "set_property" => {
                let value = words.bytes(1);
                abi::proxy_set_property(path.at, path.len, value.at, value.len).to_string()
            }
            "foreign" => {
                let (name, arguments) = (words.bytes(0), words.bytes(1));
                shown(|to, to_len| {
                    abi::proxy_call_foreign_function(
                        name.at,
                        name.len,
                        arguments.at,
                        arguments.len,
                        to,
                        to_len,
                    )
                })
            }
            _ => return None,
        }
    })
}

/// A property by its path, with the call's status.
pub(crate) fn value(path: &str) -> (u32, Vec<u8>) {
    let path: In = path.as_bytes().to_vec().into();
    // SAFETY: the path lives through the call.
    received(|to, to_len| unsafe { abi::proxy_get_property(path.at, path.len, to, to_len) })
}
