//! Lists of networks: one `10.0.0.0/8` or address a line.

use std::net::IpAddr;

/// Networks, looked up by binary search.
#[derive(Debug, Default)]
pub(in crate::events) struct Networks {
    /// Ends by their starts, sorted, apart from each other. IPv4 lies where IPv6 maps it.
    ranges: Vec<(u128, u128)>,
}

impl Networks {
    /// Reads a list; `#` begins a comment.
    ///
    /// # Errors
    /// The line that is no network.
    pub(in crate::events) fn parse(text: &str) -> Result<Networks, String> {
        let mut ranges = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let range = range(line).ok_or_else(|| {
                format!(
                    "networks_file: line {}: {line:?} is no network like 10.0.0.0/8",
                    number + 1
                )
            })?;
            ranges.push(range);
        }
        ranges.sort_unstable();
        let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match joined.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => joined.push((start, end)),
            }
        }
        Ok(Networks { ranges: joined })
    }

    /// Whether the networks have all of a network, none of it (`Some`), or a part (`None`: nobody can say).
    pub(in crate::events) fn cover(&self, network: &str) -> Option<bool> {
        let (start, end) = range(network)?;
        let after = self.ranges.partition_point(|(begin, _)| *begin <= end);
        let Some((begin, until)) = after.checked_sub(1).map(|place| self.ranges[place]) else {
            return Some(false);
        };
        match (begin <= start && end <= until, until < start) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// Whether one of the networks has the address.
    pub(in crate::events) fn contain(&self, ip: IpAddr) -> bool {
        let number = number(ip);
        let after = self.ranges.partition_point(|(start, _)| *start <= number);
        after > 0 && number <= self.ranges[after - 1].1
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn range(text: &str) -> Option<(u128, u128)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let ip: IpAddr = address.parse().ok()?;
    let (bits, above) = if ip.is_ipv4() { (32, 96) } else { (128, 0) };
    let length = length.unwrap_or(bits);
    if length > bits {
        return None;
    }
    let host = u128::MAX.checked_shr(length + above).unwrap_or(0);
    let start = number(ip) & !host;
    Some((start, start | host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_their_networks() {
        let list = "10.0.0.0/8 # private\n\n192.0.2.7\n2001:db8::/32\n10.1.0.0/16\n::1/128\n203.0.113.0/24";
        let networks = Networks::parse(list).unwrap();
        for inside in [
            "10.0.0.0",
            "10.255.255.255",
            "192.0.2.7",
            "2001:db8:ffff::1",
            "::1",
            "::ffff:10.2.3.4",
        ] {
            assert!(networks.contain(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "11.0.0.0",
            "9.255.255.255",
            "192.0.2.8",
            "2001:db9::",
            "::2",
            "203.0.114.0",
        ] {
            assert!(!networks.contain(outside.parse().unwrap()), "{outside}");
        }
        assert!(!Networks::default().contain("::".parse().unwrap()));
        assert!(
            Networks::parse("0.0.0.0/0")
                .unwrap()
                .contain("8.8.8.8".parse().unwrap())
        );
    }

    #[test]
    fn a_network_is_inside_outside_or_in_between() {
        let networks = Networks::parse("10.0.0.0/8\n192.0.2.128/25\n2001:db8::/32").unwrap();
        for (network, expected) in [
            ("10.1.2.0/24", Some(true)),
            ("11.0.0.0/24", Some(false)),
            ("1.0.0.0/24", Some(false)),
            ("192.0.2.0/24", None),
            ("2001:db8:7::/48", Some(true)),
            ("nonsense", None),
        ] {
            assert_eq!(networks.cover(network), expected, "{network}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in ["10.0.0.0/33", "10.0.0/8", "x", "::/129", "10.0.0.0/"] {
            let error = Networks::parse(&format!("10.0.0.0/8\n{bad}")).unwrap_err();
            assert!(error.contains("line 2"), "{error}");
        }
    }
}
