//! Whose address counts as the client's.
//!
//! As Envoy's `use_remote_address` with `xff_num_trusted_hops`: without trusted hops it is
//! the peer's own; with `n` of them it is the `n`th from the right of `x-forwarded-for` as it
//! came. What does not hold an address there is not believed: then it is the peer's.

use std::net::{IpAddr, SocketAddr};

/// The longest `x-forwarded-for` that is looked at: more hops than anybody has.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// The client's address. `forwarded` are the values of `x-forwarded-for` in order.
pub(super) fn client_address<'a>(
    peer: SocketAddr,
    trusted_hops: usize,
    forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
) -> SocketAddr {
    if trusted_hops == 0 {
        return peer;
    }
    let hops = forwarded.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    let mut looked_at = 0;
    let mut hops = hops.take_while(|hop| {
        looked_at += hop.len() + 1;
        looked_at <= VALUE_BYTES_MAX
    });
    hops.nth(trusted_hops - 1).and_then(address).unwrap_or(peer)
}

/// An address, perhaps with a port, as hops write it; without one its port is 0.
fn address(hop: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, 0));
    }
    let in_brackets = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match in_brackets {
        Some(ip) => Some(SocketAddr::new(ip.parse().ok()?, 0)),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hops: usize, values: &[&str]) -> String {
        let peer = "10.0.0.9:5".parse().unwrap();
        client_address(peer, hops, values.iter().map(|value| value.as_bytes())).to_string()
    }

    #[test]
    fn without_trusted_hops_the_header_is_not_believed() {
        assert_eq!(of(0, &["1.1.1.1"]), "10.0.0.9:5");
    }

    #[test]
    fn hops_count_from_the_right_over_all_values() {
        let values = ["1.1.1.1, 2.2.2.2", "3.3.3.3"];
        assert_eq!(of(1, &values), "3.3.3.3:0");
        assert_eq!(of(2, &values), "2.2.2.2:0");
        assert_eq!(of(3, &values), "1.1.1.1:0");
    }

    #[test]
    fn too_few_hops_are_the_peer() {
        assert_eq!(of(2, &["1.1.1.1"]), "10.0.0.9:5");
        assert_eq!(of(1, &[]), "10.0.0.9:5");
    }

    #[test]
    fn what_is_no_address_is_the_peer() {
        for value in ["unknown", "", "1.1.1", "1.1.1.1 x", "[1.1.1.1", "\u{e9}"] {
            assert_eq!(of(1, &[value]), "10.0.0.9:5", "{value:?}");
        }
    }

    #[test]
    fn ports_and_brackets_are_read() {
        assert_eq!(of(1, &["1.1.1.1:80"]), "1.1.1.1:80");
        assert_eq!(of(1, &["2001:db8::1"]), "[2001:db8::1]:0");
        assert_eq!(of(1, &["[2001:db8::1]"]), "[2001:db8::1]:0");
        assert_eq!(of(1, &["[2001:db8::1]:80"]), "[2001:db8::1]:80");
    }

    #[test]
    fn a_flood_of_hops_is_not_walked() {
        let many = "1.1.1.1,".repeat(10_000);
        assert_eq!(of(9_000, &[&many]), "10.0.0.9:5");
    }
}
