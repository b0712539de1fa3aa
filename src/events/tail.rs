//! The live tail: events as they become durable, for whoever looks on.
//!
//! Onlookers never slow counting down: one that is too slow misses events and is told how many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value as Json};
use tokio::sync::broadcast;

use super::{Event, Field};

/// Events that wait for the slowest onlooker.
const WAITING_MAX: usize = 1024;
/// Fields that an onlooker does not see: they speak of one person.
const HIDDEN: [Field; 4] = [Field::Ip, Field::UserId, Field::UserAgent, Field::Props];

/// Hands durable events to onlookers.
pub struct Tail {
    sender: broadcast::Sender<Arc<str>>,
    open: Arc<AtomicUsize>,
}

impl Default for Tail {
    fn default() -> Tail {
        Tail {
            sender: broadcast::Sender::new(WAITING_MAX),
            open: Arc::default(),
        }
    }
}

/// One onlooker.
pub struct Onlooker {
    receiver: broadcast::Receiver<Arc<str>>,
    open: Arc<AtomicUsize>,
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an onlooker sees next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An event, as JSON.
    Event(Arc<str>),
    /// So many events were missed.
    Missed(u64),
}

impl Tail {
    /// Shows events; costs nothing when nobody looks.
    pub fn show(&self, events: &[Event]) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        for event in events {
            // Nobody is left to look: that is no error.
            let _ = self.sender.send(view(event).to_string().into());
        }
    }

    /// Starts to look, `None` when `max` do already.
    pub fn look(&self, max: usize) -> Option<Onlooker> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Onlooker {
            receiver: self.sender.subscribe(),
            open: Arc::clone(&self.open),
        })
    }
}

impl Onlooker {
    /// Waits for the next event; `None` when there will be none.
    pub async fn next(&mut self) -> Option<Seen> {
        match self.receiver.recv().await {
            Ok(event) => Some(Seen::Event(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Seen::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Returns an event as an onlooker sees it.
fn view(event: &Event) -> Json {
    let mut all = Map::new();
    all.insert("type".to_owned(), event.kind.name().into());
    all.insert("ts".to_owned(), event.at.0.into());
    all.insert("received_at".to_owned(), event.received.0.into());
    let reasons: Vec<&str> = event.reasons.iter().map(super::Reason::name).collect();
    all.insert("net".to_owned(), event.is_net().into());
    all.insert("reasons".to_owned(), reasons.into());
    if event.price.0 != 0 {
        all.insert("price".to_owned(), event.price.as_units().into());
    }
    if event.revenue.0 != 0 {
        all.insert("revenue".to_owned(), event.revenue.as_units().into());
    }
    for (field, text) in event.texts.iter().filter(|(field, _)| !HIDDEN.contains(field)) {
        all.insert(field.name().to_owned(), text.into());
    }
    Json::Object(all)
}

#[cfg(test)]
mod tests {
    use super::super::draft::{Person, tests::draft};
    use super::*;

    #[tokio::test]
    async fn onlookers_see_events_and_how_many_they_missed() {
        let tail = Tail::default();
        let event = draft().seal(Person::default(), 1).unwrap();
        tail.show(std::slice::from_ref(&event));
        let mut onlooker = tail.look(1).unwrap();
        assert!(tail.look(1).is_none(), "one at a time");
        tail.show(std::slice::from_ref(&event));
        let Some(Seen::Event(text)) = onlooker.next().await else {
            panic!("nothing was shown");
        };
        let seen: Json = serde_json::from_str(&text).unwrap();
        assert_eq!((seen["ad_id"].as_str(), seen["net"].as_bool()), (Some("a"), Some(true)));
        (0..WAITING_MAX + 7).for_each(|_| tail.show(std::slice::from_ref(&event)));
        assert_eq!(onlooker.next().await, Some(Seen::Missed(7)));
        drop(onlooker);
        assert!(tail.look(1).is_some());
    }
}
