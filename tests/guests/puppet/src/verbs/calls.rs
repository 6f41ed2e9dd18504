//! HTTP calls. A script gives each a name, as the host's token is any number.

use crate::abi;
use crate::actor::{Call, Part, Protocol};
use crate::verbs::told;
use crate::words::Words;

/// `http_call NAME CLUSTER FIELDS BODY TRAILERS TIMEOUT_MS`
pub(crate) fn play(part: &mut Part<'_>, verb: &str, words: &Words<'_>) -> Option<String> {
    if verb != "http_call" {
        return None;
    }
    let (cluster, fields, body) = (words.bytes(1), words.map(2), words.bytes(3));
    let (trailers, timeout) = (words.map(4), words.num(5));
    // SAFETY: the words live through the call; wrong addresses in them are what is tested.
    let (status, token) = told::<u32>(|to| unsafe {
        abi::proxy_http_call(
            cluster.at,
            cluster.len,
            fields.at,
            fields.len,
            body.at,
            body.len,
            trailers.at,
            trailers.len,
            timeout,
            to,
        )
    });
    started(part, Protocol::Http, words.word(0), status, token);
    Some(status.to_string())
}

/// Notes a call that was started under its name.
pub(super) fn started(
    part: &mut Part<'_>,
    protocol: Protocol,
    name: &str,
    status: u32,
    token: u32,
) {
    if status == 0 {
        let call = Call { name: name.to_owned(), actor: part.actor };
        part.stage.calls.insert((protocol, token), call);
        part.stage.numbers.insert(name.to_owned(), token);
    }
}
