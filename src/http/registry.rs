//! All open connections, and which of them to close when there are too many: the one that is idle the longest.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Limits;
use super::metrics::{CONNECTIONS, REFUSED};
use crate::io::Mono;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests.
    Idle = 0,
    /// The first bytes of a request are here.
    Header = 1,
    /// A request is being answered.
    Serving = 2,
}

/// One open connection, as its task and the registry see it.
pub(super) struct Seen {
    peer: IpAddr,
    phase: AtomicU8,
    since: AtomicU64,
    /// When the client last stopped taking bytes; 0 = it takes them.
    stuck_since: AtomicU64,
    /// Told when the connection must make room for another.
    pub(super) evicted: Notify,
}

impl Seen {
    /// Returns what the connection is doing, and since when.
    pub(super) fn phase(&self) -> (Phase, Mono) {
        let phase = match self.phase.load(Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Header,
            _ => Phase::Serving,
        };
        (phase, Mono(self.since.load(Relaxed)))
    }

    pub(super) fn enter(&self, phase: Phase, now: Mono) {
        self.since.store(now.0, Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    /// Notes whether the client takes bytes.
    pub(super) fn set_stuck(&self, stuck: bool, now: impl FnOnce() -> Mono) {
        let before = self.stuck_since.load(Relaxed);
        if stuck && before == 0 {
            self.stuck_since.store(now().0.max(1), Relaxed);
        } else if !stuck && before != 0 {
            self.stuck_since.store(0, Relaxed);
        }
    }

    /// Returns since when the client has taken nothing that was ready for it.
    pub(super) fn stuck_since(&self) -> Option<Mono> {
        Some(self.stuck_since.load(Relaxed))
            .filter(|&since| since != 0)
            .map(Mono)
    }
}

/// The open connections.
#[derive(Default)]
pub(super) struct Registry {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Arc<Seen>>,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place in the registry, given back when dropped.
pub(super) struct Place {
    id: u64,
    registry: Arc<Registry>,
    pub(super) seen: Arc<Seen>,
}

impl Registry {
    /// Takes a place for a new connection. Over a limit, the oldest idle connection (of that address) makes room; when
    /// none is idle the new one gets no place.
    pub(super) fn enter(self: &Arc<Registry>, peer: IpAddr, now: Mono, limits: &Limits) -> Option<Place> {
        let mut open = self.open.lock();
        let of_peer = open.by_address.get(&peer).copied().unwrap_or(0);
        if of_peer >= limits.http_connections_per_address {
            REFUSED.inc(&["http_connections_per_address"]);
            open.evict(Some(peer))?;
        }
        if open.all.len() >= limits.http_connections {
            REFUSED.inc(&["http_connections"]);
            open.evict(None)?;
        }
        let id = open.next;
        open.next += 1;
        let seen = Arc::new(Seen {
            peer,
            phase: AtomicU8::new(Phase::Idle as u8),
            since: AtomicU64::new(now.0),
            stuck_since: AtomicU64::new(0),
            evicted: Notify::new(),
        });
        open.all.insert(id, Arc::clone(&seen));
        *open.by_address.entry(peer).or_insert(0) += 1;
        CONNECTIONS.add(1.0);
        Some(Place {
            id,
            registry: Arc::clone(self),
            seen,
        })
    }

    /// Closes the oldest idle connection, when the process has no more file descriptors.
    pub(super) fn make_room(&self) {
        REFUSED.inc(&["open_files"]);
        self.open.lock().evict(None);
    }
}

impl Open {
    fn evict(&mut self, of: Option<IpAddr>) -> Option<()> {
        let candidates = self
            .all
            .iter()
            .filter(|(_, seen)| of.is_none_or(|peer| seen.peer == peer));
        let (id, _) = candidates
            .map(|(id, seen)| (*id, seen.phase()))
            .filter(|(_, (phase, _))| *phase == Phase::Idle)
            .min_by_key(|(_, (_, since))| *since)?;
        self.remove(id).evicted.notify_one();
        Some(())
    }

    fn remove(&mut self, id: u64) -> Arc<Seen> {
        let seen = self.all.remove(&id).expect("the caller has just seen it");
        if let Some(count) = self.by_address.get_mut(&seen.peer) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&seen.peer);
            }
        }
        CONNECTIONS.add(-1.0);
        seen
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.registry.open.lock();
        if open.all.contains_key(&self.id) {
            open.remove(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

    fn limits() -> Limits {
        Limits {
            http_connections: 3,
            http_connections_per_address: 2,
            ..Limits::default()
        }
    }

    #[test]
    fn the_oldest_idle_connection_of_the_address_makes_room() {
        let registry = Arc::new(Registry::default());
        let busy = registry.enter(PEER, Mono(1), &limits()).unwrap();
        busy.seen.enter(Phase::Serving, Mono(2));
        let idle = registry.enter(PEER, Mono(3), &limits()).unwrap();
        let third = registry.enter(PEER, Mono(4), &limits()).unwrap();
        assert!(!registry.open.lock().all.contains_key(&idle.id));
        drop(idle);
        let other = registry.enter(OTHER, Mono(5), &limits()).unwrap();
        let another = registry.enter(OTHER, Mono(6), &limits()).unwrap();
        assert!(
            !registry.open.lock().all.contains_key(&third.id),
            "over all, the third was idle the longest"
        );
        drop((busy, other, another, third));
        assert!(registry.open.lock().by_address.is_empty());
    }

    #[test]
    fn when_nobody_is_idle_the_new_one_is_turned_away() {
        let registry = Arc::new(Registry::default());
        let busy: Vec<Place> = (0..2)
            .filter_map(|i| registry.enter(PEER, Mono(i), &limits()))
            .collect();
        busy.iter().for_each(|place| place.seen.enter(Phase::Serving, Mono(9)));
        assert!(registry.enter(PEER, Mono(10), &limits()).is_none());
        assert!(registry.enter(OTHER, Mono(10), &limits()).is_some());
    }
}
