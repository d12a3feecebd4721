//! A recorder that remembers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// Remembers every value that it is told. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<Measured, Vec<f64>>,
    described: Vec<String>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Measured {
    /// `counter` or `histogram`.
    pub kind: &'static str,
    /// The metric's name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Meter {
    /// Everything that was measured so far.
    #[must_use]
    pub fn measured(&self) -> Vec<Measured> {
        self.lock().values.keys().cloned().collect()
    }

    /// The names that were described.
    #[must_use]
    pub fn described(&self) -> Vec<String> {
        self.lock().described.clone()
    }

    /// The values of a metric where it has this label; an empty one is every label.
    #[must_use]
    pub fn values(&self, name: &str, (label, value): (&str, &str)) -> Vec<f64> {
        let state = self.lock();
        let of_it = state.values.iter().filter(|(measured, _)| {
            let has = measured.labels.get(label).is_some_and(|is| is == value);
            measured.name == name && (label.is_empty() || has)
        });
        of_it.flat_map(|(_, values)| values.iter().copied()).collect()
    }

    /// How often a counter with this label was incremented; an empty one is every label.
    #[must_use]
    pub fn count(&self, name: &str, label: (&str, &str)) -> usize {
        self.values(name, label).len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one(&self, kind: &'static str, key: &Key) -> Arc<One> {
        let labels = key.labels().map(|label| (label.key().into(), label.value().into()));
        let measured = Measured { kind, name: key.name().into(), labels: labels.collect() };
        Arc::new(One { measured, meter: self.clone() })
    }
}

struct One {
    measured: Measured,
    meter: Meter,
}

impl One {
    fn add(&self, value: f64) {
        self.meter.lock().values.entry(self.measured.clone()).or_default().push(value);
    }
}

impl CounterFn for One {
    fn increment(&self, value: u64) {
        assert_eq!(value, 1, "events are told one by one");
        self.add(1.0);
    }

    fn absolute(&self, value: u64) {
        panic!("a counter was set to {value}");
    }
}

impl HistogramFn for One {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

impl Recorder for Meter {
    fn describe_counter(&self, name: KeyName, _unit: Option<Unit>, _text: SharedString) {
        self.lock().described.push(name.as_str().into());
    }

    fn describe_gauge(&self, name: KeyName, _unit: Option<Unit>, _text: SharedString) {
        panic!("a gauge: {}", name.as_str());
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _text: SharedString) {
        assert_eq!(unit, Some(Unit::Seconds));
        self.lock().described.push(name.as_str().into());
    }

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one("counter", key))
    }

    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        panic!("a gauge: {}", key.name());
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one("histogram", key))
    }
}
