//! A subscriber that remembers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Remembers the spans and events of locks. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Traces(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    spans: Vec<Span>,
    events: Vec<Span>,
}

/// A span, or an event as a span that takes no time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its name.
    pub name: &'static str,
    /// Its level.
    pub level: Level,
    /// The fields that it declares.
    pub declared: Vec<&'static str>,
    /// Those that were recorded, with their values.
    pub recorded: BTreeMap<&'static str, String>,
}

impl Traces {
    /// Every span so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.lock().spans.clone()
    }

    /// Every event so far.
    #[must_use]
    pub fn events(&self) -> Vec<Span> {
        self.lock().events.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Span {
    fn new(metadata: &'static Metadata<'static>) -> Self {
        let declared = metadata.fields().iter().map(|field| field.name()).collect();
        let (name, level) = (metadata.name(), *metadata.level());
        Self { name, level, declared, recorded: BTreeMap::new() }
    }
}

impl Visit for Span {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.recorded.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.recorded.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Traces {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "distributed_lock"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut span = Span::new(attributes.metadata());
        attributes.record(&mut span);
        let mut state = self.lock();
        state.spans.push(span);
        Id::from_u64(state.spans.len() as u64)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut state = self.lock();
        let index = usize::try_from(id.into_u64()).map_or(usize::MAX, |id| id - 1);
        if let Some(span) = state.spans.get_mut(index) {
            values.record(span);
        }
    }

    fn event(&self, event: &Event<'_>) {
        let mut span = Span::new(event.metadata());
        event.record(&mut span);
        self.lock().events.push(span);
    }

    fn record_follows_from(&self, _id: &Id, _follows: &Id) {}

    fn enter(&self, _id: &Id) {}

    fn exit(&self, _id: &Id) {}
}
