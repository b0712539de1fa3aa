//! Alerts as they travel from rules (or foreign Prometheus servers) to the alert manager.

use std::fmt;

use super::{Labels, Millis};

/// The identity of a label set for alerts: FNV-1a 64 over sorted `name 0xff value 0xff`, as Alertmanager computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Returns the fingerprint of a label set.
    pub fn of(labels: &Labels) -> Fingerprint {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let mut hash = OFFSET;
        let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        for (name, value) in labels.iter() {
            name.bytes().for_each(&mut add);
            add(0xff);
            value.bytes().for_each(&mut add);
            add(0xff);
        }
        Fingerprint(hash)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An alert, firing or resolved, as one sender last described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Identity: which alert it is.
    pub labels: Labels,
    /// What to tell people; no part of the identity.
    pub annotations: Labels,
    /// When it began to fire.
    pub starts_at: Millis,
    /// When it was resolved, or will count as resolved unless sent again; `None` = until the receiver's `resolve_timeout`.
    pub ends_at: Option<Millis>,
    /// A link to what raised it.
    pub generator_url: String,
    /// When the newest sample came behind the evaluation by which it began to fire; `None` when that is not known.
    pub sample_at: Option<Millis>,
}

impl Alert {
    /// Returns the alert's identity.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.labels)
    }

    /// Whether the alert is over at `now`.
    pub fn is_resolved(&self, now: Millis) -> bool {
        self.ends_at.is_some_and(|ends_at| ends_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_alertmanagers() {
        // The empty set is the offset basis of FNV-1a itself; the other is computed over the joined bytes.
        assert_eq!(Fingerprint::of(&Labels::empty()).to_string(), "cbf29ce484222325");
        let labels = Labels::from_pairs([("alertname", "HighLoad"), ("severity", "page")]);
        let mut reference: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in b"alertname\xffHighLoad\xffseverity\xffpage\xff" {
            reference = (reference ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        assert_eq!(Fingerprint::of(&labels), Fingerprint(reference));
    }
}
