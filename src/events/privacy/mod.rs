//! What stands for a person: keyed hashes whose keys are destroyed, and networks instead of addresses.

mod keys;

use std::net::IpAddr;

pub use keys::{KeyError, PeopleKeys};

/// Returns an address's network: /24 of IPv4, /48 of IPv6.
pub(super) fn network(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[3..].fill(0);
            format!("{}/48", std::net::Ipv6Addr::from(segments))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_address_is_cut_off() {
        for (ip, expected) in [
            ("198.51.100.7", "198.51.100.0/24"),
            ("::ffff:198.51.100.7", "198.51.100.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ] {
            assert_eq!(network(ip.parse().unwrap()), expected);
        }
    }
}
