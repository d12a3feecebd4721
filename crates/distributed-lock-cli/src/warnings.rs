//! What the library warns of, for the user of `dlock`.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write};
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::say::say;

/// How many different lines are shown at most.
const MOST: usize = 32;

/// The last reason why a lease could not be extended.
static LAST_REFUSAL: Mutex<Option<String>> = Mutex::new(None);

/// Shows each warning of the library once, unless the run is quiet.
pub(crate) fn show(quiet: bool) {
    let shown = Mutex::default();
    // Fails only if it was called before.
    let _ = tracing::subscriber::set_global_default(Warnings { quiet, shown });
}

/// Why the last extension failed, if one did.
pub(crate) fn last_refusal() -> Option<String> {
    LAST_REFUSAL.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}

struct Warnings {
    quiet: bool,
    shown: Mutex<BTreeSet<String>>,
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= Level::WARN
            && metadata.target().starts_with("distributed_lock")
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        if text.message.starts_with("extension") {
            let mut last = LAST_REFUSAL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *last = text.error.clone();
        }
        // `dlock` says that itself, with more about it.
        if self.quiet || text.message == "a lock was lost" {
            return;
        }
        let line = text.line();
        let mut shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if shown.len() < MOST && shown.insert(line.clone()) {
            say(line);
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An event as a line for people.
#[derive(Debug, Default)]
struct Text {
    message: String,
    error: Option<String>,
    others: String,
}

impl Text {
    fn line(&self) -> String {
        let error = self.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        format!("{}{}{error}", self.message, self.others)
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "error" => self.error = Some(format!("{value:?}")),
            // How many locks one request was for: here always one.
            "locks" => {}
            // Writing to a String does not fail.
            name => drop(write!(self.others, " ({name} {value:?})")),
        }
    }

    fn record_error(&mut self, _: &Field, value: &(dyn std::error::Error + 'static)) {
        self.error = Some(crate::exit::chain(value));
    }
}
