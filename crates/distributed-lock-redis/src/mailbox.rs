//! Where the messages to those who wait arrive.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use distributed_lock_core::AttemptToken;
use tokio::sync::Notify;

/// The waiters of one provider, by the tokens of their attempts.
#[derive(Default)]
pub(crate) struct Mailbox(Mutex<HashMap<String, Arc<Notify>>>);

impl Mailbox {
    /// A box for the messages to an attempt, for as long as it is kept.
    pub(crate) fn open(self: &Arc<Self>, token: AttemptToken) -> Letterbox {
        let (token, news) = (token.to_string(), Arc::new(Notify::new()));
        self.lock().insert(token.clone(), Arc::clone(&news));
        Letterbox { mailbox: Arc::clone(self), token, news }
    }

    /// A message has come: its text is the token of an attempt.
    pub(crate) fn deliver(&self, token: &[u8]) {
        let Ok(token) = std::str::from_utf8(token) else { return };
        if let Some(news) = self.lock().get(token) {
            news.notify_one();
        }
    }

    /// Whether a task waits for a message.
    pub(crate) fn has_waiters(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Messages may have been missed: everybody looks.
    pub(crate) fn wake_all(&self) {
        self.lock().values().for_each(|news| news.notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps what has come until it is looked for.
pub(crate) struct Letterbox {
    mailbox: Arc<Mailbox>,
    token: String,
    news: Arc<Notify>,
}

impl Letterbox {
    /// Completes when a message has come since the last time.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }
}

impl Drop for Letterbox {
    fn drop(&mut self) {
        self.mailbox.lock().remove(&self.token);
    }
}

impl fmt::Debug for Letterbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Letterbox")
    }
}
