//! Passwords of `basic_auth_users`: bcrypt is slow on purpose, so it runs apart, few at a time, and right answers are kept.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::sync::Semaphore;

use crate::io::Random;

/// Passwords checked at the same time; others wait.
const AT_ONCE: usize = 1;
/// Right answers kept; beyond, all are forgotten and found again.
const KEPT_MAX: usize = 256;
/// What is compared for a user that does not exist, so that the answer takes as long: the hash of a random password.
const NOBODY: &str = "$2b$10$7EqJtq98hPqEX7fNZaFWoOhi5BWX4Z1Z9vVZ9dPzVb8Z9Y0g9bqhO";

/// Checks passwords.
///
/// Right answers are kept under a keyed hash of user, bcrypt hash and password: what is kept is of no use elsewhere, and a
/// changed password is not in it (exporter-toolkit's cache could be poisoned, CVE-2022-46146).
pub(super) struct Passwords {
    key: [u8; 32],
    right: Mutex<HashSet<[u8; 32]>>,
    turns: Arc<Semaphore>,
}

impl Passwords {
    pub(super) fn new(random: &dyn Random) -> Passwords {
        let mut key = [0; 32];
        random.fill(&mut key);
        Passwords {
            key,
            right: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Returns whether the user has this password.
    pub(super) async fn check(&self, users: &BTreeMap<String, String>, user: &str, password: &str) -> bool {
        let known = users.get(user);
        let hash = known.map_or(NOBODY, String::as_str);
        let kept = self.kept_as(user, hash, password);
        if known.is_some() && self.right.lock().contains(&kept) {
            return true;
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let (hash, password) = (hash.to_owned(), password.to_owned());
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        let right = checked.await.unwrap_or(false) && known.is_some();
        if right {
            let mut all = self.right.lock();
            if all.len() >= KEPT_MAX {
                all.clear();
            }
            all.insert(kept);
        }
        right
    }

    fn kept_as(&self, user: &str, hash: &str, password: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        for part in [user, hash, password] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SeededRandom;

    #[tokio::test]
    async fn a_password_is_right_for_its_user_only_and_until_it_changes() {
        let hash = bcrypt::hash("open sesame", 4).unwrap();
        let mut users = BTreeMap::from([
            ("ali".to_owned(), hash.clone()),
            ("baba".to_owned(), "no hash".to_owned()),
        ]);
        let passwords = Passwords::new(&SeededRandom::new(1));
        for _ in 0..2 {
            assert!(passwords.check(&users, "ali", "open sesame").await);
        }
        assert_eq!(passwords.right.lock().len(), 1);
        assert!(!passwords.check(&users, "ali", "open barley").await);
        assert!(!passwords.check(&users, "baba", "open sesame").await);
        assert!(!passwords.check(&users, "cassim", "open sesame").await);
        users.insert("ali".to_owned(), bcrypt::hash("other", 4).unwrap());
        assert!(
            !passwords.check(&users, "ali", "open sesame").await,
            "the old password was changed"
        );
    }

    #[test]
    fn the_hash_for_nobody_is_a_hash() {
        assert_eq!(bcrypt::verify("", NOBODY).ok(), Some(false));
    }
}
