//! What a request holds, whole, within bounds of size and time.

use super::reply::{Refusal, refusal};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Request, StatusCode};
use std::time::Duration;

/// The largest body in JSON: a thousand revocations of a jti and an iss as long as they may be.
pub(super) const JSON_BYTES_MAX: usize = 3 << 20;

/// The largest body with a token in it: 16 KiB, of which a form may write each byte as three.
pub(super) const TOKEN_BODY_BYTES_MAX: usize = 64 << 10;

/// From a request's head to the end of its body.
const BODY_MAX: Duration = Duration::from_secs(10);

/// How long what is still sent of a body is read and forgotten.
const FORGET_MAX: Duration = Duration::from_secs(10);

/// Reads a body.
///
/// # Errors
///
/// The answer to one that is too long, too slow, or broken off.
pub(super) async fn read(request: Request<Incoming>, bytes_max: usize) -> Result<Bytes, Refusal> {
    let too_long = |body| {
        tokio::spawn(forget(body));
        let what = format!("a body of more than {bytes_max} bytes");
        refusal(StatusCode::PAYLOAD_TOO_LARGE, &what)
    };
    let mut body = request.into_body();
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_long(body));
    }
    match tokio::time::timeout(BODY_MAX, Limited::new(&mut body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long(body)),
        Ok(Err(_)) => Err(refusal(StatusCode::BAD_REQUEST, "the body ends too early")),
        Err(_) => {
            let what = format!("the body was not there within {} s", BODY_MAX.as_secs());
            Err(refusal(StatusCode::REQUEST_TIMEOUT, &what))
        }
    }
}

/// Reads the rest of a body that nobody wants, for a while: who sends and does not look would
/// otherwise find the connection reset, and never see why.
pub(super) async fn forget(mut body: Incoming) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(FORGET_MAX, rest).await;
}

/// Whether a body is of this type, by what its head says.
///
/// # Errors
///
/// The answer to one that is not.
pub(super) fn expect_type(headers: &HeaderMap, wanted: &[&str]) -> Result<(), Refusal> {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = said.and_then(|said| said.split(';').next()).unwrap_or_default().trim();
    if wanted.iter().any(|wanted| kind.eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    let what = format!("content-type: wanted {}", wanted.join(" or "));
    Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, &what))
}
