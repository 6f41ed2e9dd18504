//! Where tokens are revoked: an HTTP listener of its own, for issuers and operators.
//!
//! - [`door`]: the listener, its connections and their bounds
//! - [`callers`]: who may come in; [`attempts`]: and how often they may try, and ask
//! - [`routes`]: which request is for whom; [`reply`]: how it is answered
//! - [`body`]: what a request holds, within bounds
//! - [`fields`], [`asked`]: one revocation as JSON, and what it means
//! - [`form`], [`token`]: a token, as RFC 7009 hands it over, and what of it is revoked
//! - [`change`]: to revoke and to lift; [`look`]: to list, check and count
//! - [`import`], [`export`]: all of them, line by line
//! - [`audit`]: who did what, without any secret
//!
//! What can be asked here is described in `host/deploy/REVOCATION.md`.
