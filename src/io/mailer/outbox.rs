//! The simulated twin: remembers what was handed over and when, and fails as scripted.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Mail, MailError, MailReceipt, Mailer, Smarthost};
use crate::io::{BoxFuture, Clock};
use crate::model::Millis;

/// A message that arrived at the outbox.
#[derive(Clone, Debug)]
pub struct SentMail {
    /// When it arrived.
    pub at: Millis,
    /// The smarthost it was meant for.
    pub smarthost: Smarthost,
    /// The message.
    pub mail: Mail,
    /// Whether it was taken.
    pub taken: bool,
}

/// Keeps messages instead of sending them. Without a script every message is taken.
pub struct MailOutbox {
    clock: Arc<dyn Clock>,
    sent: Mutex<Vec<SentMail>>,
    script: Mutex<VecDeque<MailError>>,
    hanging: Mutex<Vec<String>>,
}

impl MailOutbox {
    /// Starts empty.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<MailOutbox> {
        Arc::new(MailOutbox {
            clock,
            sent: Mutex::default(),
            script: Mutex::default(),
            hanging: Mutex::default(),
        })
    }

    /// Refuses the next message with `error`; later calls queue up.
    pub fn script(&self, error: MailError) {
        self.script.lock().push_back(error);
    }

    /// Leaves messages to this host without an answer until their timeout.
    pub fn hang(&self, host: &str) {
        self.hanging.lock().push(host.to_owned());
    }

    /// Returns everything that arrived, in order.
    pub fn sent(&self) -> Vec<SentMail> {
        self.sent.lock().clone()
    }
}

impl Mailer for MailOutbox {
    fn send<'a>(&'a self, to: &'a Smarthost, mail: &'a Mail) -> BoxFuture<'a, Result<MailReceipt, MailError>> {
        let hangs = self.hanging.lock().contains(&to.host);
        let error = self.script.lock().pop_front();
        let mut sent = self.sent.lock();
        sent.push(SentMail {
            at: self.clock.now(),
            smarthost: to.clone(),
            mail: mail.clone(),
            taken: !hangs && error.is_none(),
        });
        let answer = match error {
            Some(error) => Err(error),
            None => Ok(MailReceipt {
                response: format!("250 queued as {}", sent.len()),
            }),
        };
        drop(sent);
        if hangs {
            let sleep = self.clock.sleep(to.timeout);
            return Box::pin(async move {
                sleep.await;
                Err(MailError::Transient(format!("timed out after {}", to.timeout)))
            });
        }
        Box::pin(std::future::ready(answer))
    }
}
