//! Whom a gRPC call is for: a cluster's name, or a message of type
//! `envoy.config.core.v3.GrpcService` that names one.
//!
//! Envoy tries the message first; of it, only the cluster is used here.

use crate::protobuf::{Fields, Malformed, Wire};

/// Whom a call is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Not a message: a name.
    Plain(String),
    /// What a message names: `envoy_grpc.cluster_name`.
    Cluster(String),
    /// A message that names no cluster.
    Other,
}

/// The field `envoy_grpc` of a service, and `cluster_name` of that.
const ENVOY_GRPC: u64 = 1;
const CLUSTER_NAME: u64 = 1;

pub(super) fn target(bytes: &[u8]) -> Target {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let name = last_bytes(bytes, ENVOY_GRPC)
        .and_then(|service| service.map_or(Ok(None), |service| last_bytes(service, CLUSTER_NAME)));
    match name {
        Err(Malformed) => Target::Plain(text(bytes)),
        Ok(Some(name)) => Target::Cluster(text(name)),
        Ok(None) => Target::Other,
    }
}

/// The last field of that number, if there is one that has bytes.
fn last_bytes(message: &[u8], wanted: u64) -> Result<Option<&[u8]>, Malformed> {
    let mut found = None;
    for field in Fields::new(message) {
        if let (number, Wire::Bytes(bytes)) = field?
            && number == wanted
        {
            found = Some(bytes);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_a_name() {
        assert_eq!(target(b"grpc_backend"), Target::Plain("grpc_backend".into()));
        assert_eq!(target(b"outbound|443||auth"), Target::Plain("outbound|443||auth".into()));
    }

    #[test]
    fn a_message_names_its_cluster() {
        let message = [b"\x0a\x06\x0a\x04auth".as_slice(), b"\x1a\x02\x08\x05"].concat();
        assert_eq!(target(&message), Target::Cluster("auth".into()));
    }

    #[test]
    fn a_message_without_a_cluster_names_nobody() {
        assert_eq!(target(b""), Target::Other);
        assert_eq!(target(b"\x0a\x00"), Target::Other);
        assert_eq!(target(b"\x12\x02\x0a\x00"), Target::Other, "google_grpc");
    }
}
