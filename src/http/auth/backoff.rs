//! How often an address guessed wrong: after too many guesses a minute it is told to wait.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;

use crate::io::Mono;
use crate::model::Interval;

/// Wrong guesses that an address has in a [`WINDOW`].
const GUESSES: u32 = 20;
/// The time over which guesses are counted.
const WINDOW: Interval = Interval::mins(1);
/// Addresses remembered; beyond, the one whose window began first is forgotten.
const ADDRESSES_MAX: usize = 4096;

/// Wrong guesses by address; IPv6 addresses count by their /64, which one host may have whole.
#[derive(Default)]
pub(super) struct Backoff(Mutex<HashMap<IpAddr, Guesses>>);

struct Guesses {
    since: Mono,
    wrong: u32,
}

impl Backoff {
    /// Counts a wrong guess; returns whether the address guessed too often.
    pub(super) fn wrong(&self, peer: IpAddr, now: Mono) -> bool {
        let peer = network(peer);
        let mut addresses = self.0.lock();
        if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(&peer) {
            let oldest = addresses
                .iter()
                .min_by_key(|(_, guesses)| guesses.since)
                .map(|(peer, _)| *peer);
            oldest.map(|oldest| addresses.remove(&oldest));
        }
        let guesses = addresses.entry(peer).or_insert(Guesses { since: now, wrong: 0 });
        if now >= guesses.since.after(WINDOW) {
            *guesses = Guesses { since: now, wrong: 0 };
        }
        guesses.wrong = guesses.wrong.saturating_add(1);
        guesses.wrong > GUESSES
    }
}

fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Mono {
        Mono(0).after(Interval::secs(seconds))
    }

    #[test]
    fn the_twenty_first_wrong_guess_of_a_minute_is_one_too_many() {
        let backoff = Backoff::default();
        let peer: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        for _ in 0..10 {
            assert!(!backoff.wrong(peer, at(1)));
            assert!(!backoff.wrong(neighbour, at(1)));
        }
        assert!(backoff.wrong(peer, at(2)), "one network is one guesser");
        assert!(!backoff.wrong("127.0.0.1".parse().unwrap(), at(2)));
        assert!(!backoff.wrong(peer, at(61)), "a minute later it may try again");
    }

    #[test]
    fn the_table_is_bounded() {
        let backoff = Backoff::default();
        for n in 0..10_000_u32 {
            backoff.wrong(IpAddr::from(n.to_be_bytes()), at(i64::from(n)));
        }
        assert_eq!(backoff.0.lock().len(), ADDRESSES_MAX);
    }
}
