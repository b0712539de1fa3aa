//! What is to be sent, a lane for each integration: one that hangs, fails or is over its rate holds up nobody else.
//!
//! Pure: keys and time go in, and what may be sent now comes out.

use std::collections::{HashMap, HashSet, VecDeque};

use super::flood::{Bucket, Limit};
use super::health::Health;
use super::metrics;
use super::record::NotifyKey;
use super::retry::Tries;
use crate::io::Mono;
use crate::io::outgoing::sender::Failure;
use crate::model::Millis;

/// How many messages one integration is sent at once.
const IN_FLIGHT_MAX: usize = 8;
/// How many messages one digest stands for.
const DIGEST_MAX: usize = 1_000;

/// A receiver's integration: receiver, kind, number.
pub(super) type Lane = (String, String, usize);

/// Returns the lane of a message.
pub(super) fn lane_of(key: &NotifyKey) -> Lane {
    (key.receiver.clone(), key.kind.clone(), key.index)
}

/// Everything on its way out.
#[derive(Default)]
pub(super) struct Queue {
    lanes: HashMap<Lane, LaneState>,
    limits: HashMap<String, Limit>,
    in_flight: HashSet<NotifyKey>,
    tries: HashMap<NotifyKey, Tries>,
    /// When it was last looked for what to send: what was due then waits for room, not for the clock.
    looked_at: Mono,
}

#[derive(Default)]
struct LaneState {
    waiting: VecDeque<NotifyKey>,
    queued: HashSet<NotifyKey>,
    busy: usize,
    health: Health,
    bucket: Option<Bucket>,
}

impl LaneState {
    /// How many more messages may be sent at once.
    fn room(&self, now: Mono) -> usize {
        if !self.health.is_open() {
            return IN_FLIGHT_MAX.saturating_sub(self.busy);
        }
        usize::from(self.busy == 0 && self.health.probe_at() <= now)
    }
}

impl LaneState {
    /// Takes the first message and those that go with it: the rest of its digest, or as many others as make one.
    fn next(&mut self, count: usize, digest_of: impl Fn(&NotifyKey) -> Option<String>) -> Vec<NotifyKey> {
        let digest = self.waiting.front().and_then(&digest_of);
        if digest.is_none() && count == 1 {
            return self.waiting.pop_front().into_iter().collect();
        }
        let most = if digest.is_some() { usize::MAX } else { count };
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for key in self.waiting.drain(..) {
            if taken.len() < most && digest_of(&key) == digest {
                taken.push(key);
            } else {
                left.push_back(key);
            }
        }
        self.waiting = left;
        taken
    }
}

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// How many tries the message has had, this one included.
    pub(super) attempts: u32,
}

impl Queue {
    /// Sets which receivers are limited, and in what.
    pub(super) fn set_limits(&mut self, limits: HashMap<String, Limit>, now: Mono) {
        for ((receiver, ..), lane) in &mut self.lanes {
            let wanted = limits.get(receiver).copied();
            if lane.bucket.as_ref().map(Bucket::limit) != wanted {
                lane.bucket = wanted.map(|limit| Bucket::new(limit, now));
            }
        }
        self.limits = limits;
    }

    /// Puts a message into its lane, unless it is there, on its way, or to be tried later.
    pub(super) fn enqueue(&mut self, key: NotifyKey, now: Mono) {
        let later = self.tries.get(&key).is_some_and(|tries| tries.due > now);
        if later || self.in_flight.contains(&key) {
            return;
        }
        let limit = self.limits.get(&key.receiver);
        let lane = self.lanes.entry(lane_of(&key)).or_insert_with(|| LaneState {
            bucket: limit.map(|limit| Bucket::new(*limit, now)),
            ..LaneState::default()
        });
        if lane.queued.insert(key.clone()) {
            lane.waiting.push_back(key);
        }
    }

    /// Whether a message is being sent this very moment.
    pub(super) fn is_in_flight(&self, key: &NotifyKey) -> bool {
        self.in_flight.contains(key)
    }

    /// How often a message has been tried in vain.
    pub(super) fn attempts(&self, key: &NotifyKey) -> u32 {
        self.tries.get(key).map_or(0, |tries| tries.attempts)
    }

    /// Forgets the tries of messages that are no more.
    pub(super) fn retain(&mut self, lives: impl Fn(&NotifyKey) -> bool) {
        let in_flight = &self.in_flight;
        self.tries.retain(|key, _| lives(key) || in_flight.contains(key));
    }

    /// Makes everything due now: a new configuration is worth a new try.
    pub(super) fn try_again(&mut self, now: Mono) {
        self.tries.values_mut().for_each(|tries| tries.due = now);
        self.lanes.values_mut().for_each(|lane| lane.health = Health::default());
    }

    /// Takes what may be sent now. Several keys in one item are to be sent as one digest. `find` returns a message that still
    /// waits, and names the digest as part of which it was to go out before.
    pub(super) fn take_due(
        &mut self,
        now: Mono,
        find: impl Fn(&NotifyKey) -> Option<Option<String>>,
    ) -> Vec<Vec<NotifyKey>> {
        self.looked_at = now;
        let again: Vec<NotifyKey> = self
            .tries
            .iter()
            .filter(|(key, tries)| tries.due <= now && !self.in_flight.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in again {
            self.enqueue(key, now);
        }
        let mut starting = Vec::new();
        for lane in self.lanes.values_mut() {
            lane.waiting.retain(|key| {
                let lives = find(key).is_some();
                if !lives {
                    lane.queued.remove(key);
                }
                lives
            });
            while lane.room(now) > 0 && !lane.waiting.is_empty() {
                let count = match lane.bucket.as_mut().map(|bucket| bucket.tokens(now)) {
                    Some(0) => break,
                    Some(1) => DIGEST_MAX,
                    Some(_) | None => 1,
                };
                if let Some(bucket) = &mut lane.bucket {
                    bucket.take(now);
                }
                let digest_of = |key: &NotifyKey| find(key).flatten();
                let keys = lane.next(count, digest_of);
                for key in &keys {
                    lane.queued.remove(key);
                    self.in_flight.insert(key.clone());
                    self.tries.entry(key.clone()).or_default();
                }
                lane.busy += 1;
                starting.push(keys);
            }
        }
        starting
    }

    /// Takes the end of a try in. Returns, for each of its messages, how many tries there were.
    pub(super) fn ended(
        &mut self,
        keys: &[NotifyKey],
        failure: Option<&Failure>,
        now: Mono,
        wall: Millis,
    ) -> Vec<Ended> {
        let Some(first) = keys.first() else { return Vec::new() };
        let lane_key = lane_of(first);
        let lane = self.lanes.entry(lane_key.clone()).or_default();
        lane.busy = lane.busy.saturating_sub(1);
        let reopened = match failure {
            None => lane.health.succeeded(wall),
            Some(Failure::Permanent(reason)) => lane.health.refused(reason),
            Some(Failure::Transient { reason, .. }) => {
                lane.health.failed(reason, now, wall);
                false
            }
        };
        if failure.is_some()
            && let Some(bucket) = &mut lane.bucket
        {
            bucket.give_back();
        }
        let open = if lane.health.is_open() { 1.0 } else { 0.0 };
        metrics::RECEIVER_OPEN.set(&[first.kind.as_str(), first.receiver.as_str()], open);
        let mut ended = Vec::with_capacity(keys.len());
        for key in keys {
            self.in_flight.remove(key);
            let tries = self.tries.entry(key.clone()).or_default();
            match failure {
                Some(failure) => tries.failed(failure, now),
                None => tries.attempts += 1,
            }
            ended.push(Ended {
                attempts: tries.attempts,
            });
            if failure.is_none() {
                self.tries.remove(key);
            }
        }
        if reopened {
            // The receiver answers again: whoever waited for that waits no longer.
            for (key, tries) in &mut self.tries {
                if lane_of(key) == lane_key {
                    tries.due = now;
                }
            }
        }
        ended
    }

    /// Forgets a message's tries: it was given up.
    pub(super) fn forget(&mut self, key: &NotifyKey) {
        self.tries.remove(key);
    }

    /// When it is worth looking again.
    pub(super) fn next_wake(&mut self, latest: Mono) -> Mono {
        let mut wake = latest;
        for (key, tries) in &self.tries {
            if tries.due > self.looked_at && !self.in_flight.contains(key) {
                wake = wake.min(tries.due);
            }
        }
        for lane in self.lanes.values_mut().filter(|lane| !lane.waiting.is_empty()) {
            if lane.health.is_open() && lane.busy == 0 {
                wake = wake.min(lane.health.probe_at());
            }
            if lane.room(self.looked_at) > 0
                && let Some(next) = lane.bucket.as_mut().and_then(|bucket| bucket.next(self.looked_at))
            {
                wake = wake.min(next);
            }
        }
        wake
    }

    /// Returns every lane's health and how many messages wait in it.
    pub(super) fn health(&self) -> Vec<(Lane, Health, usize)> {
        let mut all: Vec<_> = self
            .lanes
            .iter()
            .map(|(lane, state)| {
                // What is under way or to be tried again has tries; the rest waits in the lane.
                let tried = self.tries.keys().filter(|key| lane_of(key) == *lane);
                let tried = tried.filter(|key| !state.queued.contains(*key)).count();
                (lane.clone(), state.health.clone(), state.queued.len() + tried)
            })
            .collect();
        all.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Interval;

    fn key(receiver: &str, n: usize) -> NotifyKey {
        NotifyKey {
            group_key: format!("{n:03}"),
            receiver: receiver.to_owned(),
            kind: "webhook".to_owned(),
            index: 0,
        }
    }

    fn fill(queue: &mut Queue, receiver: &str, count: usize, now: Mono) {
        for n in 0..count {
            queue.enqueue(key(receiver, n), now);
        }
    }

    fn at(millis: i64) -> Mono {
        Mono(0).after(Interval(millis))
    }

    #[test]
    fn a_lane_has_eight_messages_under_way_and_others_do_not_notice() {
        let mut queue = Queue::default();
        fill(&mut queue, "slow", 20, at(1));
        fill(&mut queue, "quick", 1, at(1));
        let started = queue.take_due(at(1), |_| Some(None));
        assert_eq!(started.len(), 9);
        assert!(queue.take_due(at(1), |_| Some(None)).is_empty());
        queue.ended(&[key("slow", 0)], None, at(2), Millis(2));
        assert_eq!(queue.take_due(at(2), |_| Some(None)), [[key("slow", 8)]]);
    }

    #[test]
    fn while_a_receiver_is_down_one_message_asks_and_its_success_frees_all() {
        let mut queue = Queue::default();
        fill(&mut queue, "page", 10, at(1));
        let down = Failure::transient("down");
        let started = queue.take_due(at(1), |_| Some(None));
        for keys in &started {
            queue.ended(keys, Some(&down), at(1), Millis(1));
        }
        assert_eq!(queue.health()[0].1.as_str(), "open");
        assert!(
            queue.take_due(at(1), |_| Some(None)).is_empty(),
            "before it is asked again"
        );
        let wake = queue.next_wake(at(60_000));
        assert_eq!(wake, at(501));
        let probe = queue.take_due(wake, |_| Some(None));
        assert_eq!(probe.len(), 1);
        queue.ended(&probe[0], None, wake, Millis(501));
        assert_eq!(queue.take_due(wake, |_| Some(None)).len(), 8);
    }

    #[test]
    fn what_is_over_the_rate_comes_as_one_digest_and_nothing_is_dropped() {
        let mut queue = Queue::default();
        let limit = Limit {
            rate: "6/m".parse().unwrap(),
            burst: 3,
        };
        queue.set_limits([("page".to_owned(), limit)].into(), at(0));
        fill(&mut queue, "page", 20, at(0));
        let first = queue.take_due(at(0), |_| Some(None));
        assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 18]);
        for keys in &first {
            queue.ended(keys, None, at(0), Millis(0));
        }
        fill(&mut queue, "page", 5, at(1));
        assert!(queue.take_due(at(1), |_| Some(None)).is_empty());
        let wake = queue.next_wake(at(60_000));
        assert_eq!(wake, at(10_000));
        assert_eq!(
            queue
                .take_due(wake, |_| Some(None))
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>(),
            [5]
        );
    }

    #[test]
    fn a_message_that_is_no_more_is_not_sent() {
        let mut queue = Queue::default();
        fill(&mut queue, "page", 3, at(0));
        assert_eq!(
            queue
                .take_due(at(0), |key| (key.group_key != "001").then_some(None))
                .len(),
            2
        );
    }

    #[test]
    fn a_digest_that_did_not_arrive_is_sent_again_as_it_was() {
        let mut queue = Queue::default();
        fill(&mut queue, "page", 6, at(0));
        let digest_of = |key: &NotifyKey| Some((*key.group_key < *"003").then(|| "d".to_owned()));
        let sizes: Vec<usize> = queue.take_due(at(0), digest_of).iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 1, 1, 1]);
    }
}
