//! How background tasks learn that it is time to stop.

use tokio::sync::watch;

/// Held by `server`: asks all tasks to stop.
#[derive(Debug)]
pub struct ShutdownHandle {
    sender: watch::Sender<bool>,
}

/// Held by each task: completes when asked to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    receiver: watch::Receiver<bool>,
}

impl ShutdownHandle {
    /// Returns a handle and the token that it stops.
    pub fn new() -> (ShutdownHandle, Shutdown) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownHandle { sender }, Shutdown { receiver })
    }

    /// Asks everybody to stop.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }
}

impl Shutdown {
    /// Completes when stopping was requested, or the handle is gone.
    pub async fn requested(&mut self) {
        let _ = self.receiver.wait_for(|stop| *stop).await;
    }

    /// Whether stopping was requested.
    pub fn is_requested(&self) -> bool {
        *self.receiver.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_learns_of_the_stop() {
        let (handle, mut first) = ShutdownHandle::new();
        let mut second = first.clone();
        assert!(!first.is_requested());
        handle.request();
        first.requested().await;
        second.requested().await;
        assert!(second.is_requested());
    }
}
