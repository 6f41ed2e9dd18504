//! The host calls of the request path, raw: every status comes back as a value.
//!
//! The SDK's own wrappers panic on statuses that they do not list and on header values
//! that are not UTF-8; off the request path, where neither can happen, they serve.
//!
//! A value that the host returns lies where this module's [`memory`] told it
//! to, and is ours from then on.

pub(crate) mod memory;

use core::ptr::null_mut;
use memory::Bytes;

/// Statuses of the ABI that we tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// 1: no such key, property or body.
    NotFound,
    /// 8: somebody else changed the value meanwhile.
    CasMismatch,
    /// Any other.
    Other(u32),
}

/// Which header map.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Map {
    Request = 0,
    #[cfg(feature = "standing")]
    Response = 2,
    CalloutResponse = 6,
}

/// `grpc_status` of a local reply that leaves it to the proxy.
const REQUEST_STREAM: u32 = 0;

/// The first value of a header.
pub(crate) fn header(map: Map, name: &str) -> Option<Bytes> {
    owned(|value, len| unsafe {
        proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), value, len)
    })
    .ok()
}

/// A whole header map in the ABI's encoding; read it with [`pairs`].
pub(crate) fn headers(map: Map) -> Bytes {
    owned(|value, len| unsafe { proxy_get_header_map_pairs(map as u32, value, len) })
        .unwrap_or_default()
}

/// Sets a header to one value.
#[cfg(feature = "standing")]
pub(crate) fn set_header(map: Map, name: &str, value: &str) -> Result<(), Failure> {
    let (name_len, value_len) = (name.len(), value.len());
    check(unsafe {
        let (name, value) = (name.as_ptr(), value.as_ptr());
        proxy_replace_header_map_value(map as u32, name, name_len, value, value_len)
    })
}

/// A property by its path, the parts joined by NUL.
pub(crate) fn property(path: &[u8]) -> Option<Bytes> {
    owned(|value, len| unsafe { proxy_get_property(path.as_ptr(), path.len(), value, len) }).ok()
}

/// A value that all workers share, and its version.
pub(crate) fn shared(key: &[u8]) -> Result<(Bytes, u32), Failure> {
    let mut version = 0;
    let value = owned(|value, len| unsafe {
        proxy_get_shared_data(key.as_ptr(), key.len(), value, len, &mut version)
    })?;
    Ok((value, version))
}

/// Stores a shared value if it still has this version. `None`: if it does not exist yet.
pub(crate) fn set_shared(key: &[u8], value: &[u8], version: Option<u32>) -> Result<(), Failure> {
    // Zero would overwrite unconditionally, and a key that does not exist ignores the
    // version: so a version that no value has means "only if it is not there".
    let version = version.filter(|version| *version != 0).unwrap_or(u32::MAX);
    let (key_len, value_len) = (key.len(), value.len());
    check(unsafe {
        proxy_set_shared_data(key.as_ptr(), key_len, value.as_ptr(), value_len, version)
    })
}

/// Stores a shared value, whatever is there.
pub(crate) fn put_shared(key: &[u8], value: &[u8]) -> Result<(), Failure> {
    let (key_len, value_len) = (key.len(), value.len());
    check(unsafe { proxy_set_shared_data(key.as_ptr(), key_len, value.as_ptr(), value_len, 0) })
}

/// Ends the current request with a response of ours. HTTP clients see `status`, gRPC
/// clients `grpc_status`. Never continue the stream afterwards: that would let it through.
pub(crate) fn reply(
    status: u16,
    details: &str,
    body: &str,
    fields: &[(&str, &str)],
    grpc_status: u32,
) -> Result<(), Failure> {
    let fields = encode_pairs(fields);
    check(unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            fields.as_ptr(),
            fields.len(),
            grpc_status,
        )
    })
}

/// Lets the current request go on.
pub(crate) fn resume() -> Result<(), Failure> {
    check(unsafe { proxy_continue_stream(REQUEST_STREAM) })
}

/// Makes a stream the one that the next calls are about; an error if it is gone.
pub(crate) fn enter(stream: u32) -> Result<(), Failure> {
    check(unsafe { proxy_set_effective_context(stream) })
}

/// Sends an HTTP request to a cluster; returns the token that its answer will carry.
pub(crate) fn call(
    cluster: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    timeout_ms: u32,
) -> Result<u32, Failure> {
    let headers = encode_pairs(headers);
    let trailers = encode_pairs(&[]);
    let mut token = 0;
    check(unsafe {
        proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout_ms,
            &mut token,
        )
    })?;
    Ok(token)
}

/// Nanoseconds on the machine's monotone clock.
pub(crate) fn monotonic_nanos() -> u64 {
    const MONOTONIC: u32 = 1;
    let mut time = 0;
    // It can only fail for a clock that the host does not have; then time stands still,
    // and nothing refills.
    let _ = unsafe { clock_time_get(MONOTONIC, 1, &mut time) };
    time
}

/// Fills a buffer with randomness; `false` if the host has none.
pub(crate) fn random(to: &mut [u8]) -> bool {
    unsafe { random_get(to.as_mut_ptr(), to.len()) == 0 }
}

/// Reads the ABI's encoding of a header map: a count, the lengths, then each name and
/// value with a NUL behind it. Stops at the first thing that does not fit.
pub(crate) fn pairs(encoded: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    const LENGTHS_BYTES: usize = 8;
    let word = |at: usize| {
        let bytes = encoded.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    let count = word(0).unwrap_or(0).min(encoded.len() / LENGTHS_BYTES);
    let mut at = 4 + count * LENGTHS_BYTES;
    (0..count).map_while(move |place| {
        let lengths = 4 + place * LENGTHS_BYTES;
        let (name_len, value_len) = (word(lengths)?, word(lengths + 4)?);
        let name = encoded.get(at..)?.get(..name_len)?;
        let value_at = at + name_len + 1;
        let value = encoded.get(value_at..)?.get(..value_len)?;
        at = value_at + value_len + 1;
        Some((name, value))
    })
}

fn encode_pairs(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut to = Vec::with_capacity(256);
    to.extend_from_slice(&(pairs.len() as u32).to_le_bytes());
    for (name, value) in pairs {
        to.extend_from_slice(&(name.len() as u32).to_le_bytes());
        to.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for (name, value) in pairs {
        for text in [name, value] {
            to.extend_from_slice(text.as_bytes());
            to.push(0);
        }
    }
    to
}

fn owned(get: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Bytes, Failure> {
    let (mut value, mut len) = (null_mut::<u8>(), 0);
    check(get(&mut value, &mut len))?;
    if value.is_null() || len == 0 {
        return Ok(Bytes::default());
    }
    // The host asked our `malloc` for exactly `len` bytes, filled them and handed them over.
    Ok(unsafe { Bytes::from_host(value, len) })
}

fn check(status: u32) -> Result<(), Failure> {
    match status {
        0 => Ok(()),
        1 => Err(Failure::NotFound),
        8 => Err(Failure::CasMismatch),
        other => Err(Failure::Other(other)),
    }
}

/// Bytes that the host reads.
type In = *const u8;
/// Where the host writes the address of bytes that it hands over, and their number.
type Out = *mut *mut u8;
type OutLen = *mut usize;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_value(map: u32, key: In, len: usize, to: Out, to_len: OutLen) -> u32;
    fn proxy_get_header_map_pairs(map: u32, to: Out, to_len: OutLen) -> u32;
    #[cfg(feature = "standing")]
    fn proxy_replace_header_map_value(map: u32, key: In, len: usize, to: In, to_len: usize) -> u32;
    fn proxy_get_property(path: In, len: usize, to: Out, to_len: OutLen) -> u32;
    fn proxy_get_shared_data(key: In, len: usize, to: Out, to_len: OutLen, cas: *mut u32) -> u32;
    fn proxy_set_shared_data(key: In, len: usize, value: In, value_len: usize, cas: u32) -> u32;
    #[rustfmt::skip]
    fn proxy_send_local_response(
        status: u32,
        details: In,
        details_len: usize,
        body: In,
        body_len: usize,
        headers: In,
        headers_len: usize,
        grpc_status: u32,
    ) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    #[rustfmt::skip]
    fn proxy_http_call(
        cluster: In,
        cluster_len: usize,
        headers: In,
        headers_len: usize,
        body: In,
        body_len: usize,
        trailers: In,
        trailers_len: usize,
        timeout_ms: u32,
        token: *mut u32,
    ) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
    fn random_get(to: *mut u8, len: usize) -> u32;
}
