//! Events survive the way through a line of text.

use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_testkit::history::{Event, What};
use proptest::prelude::*;

/// Any text, and what a careless encoding would stumble over.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![".*", "[\\\\\t\n\rtnr ]*", Just("\u{2028}\u{85}\0".to_owned())]
}

fn duration() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0_u32..1_000_000_000).prop_map(|(secs, nanos)| Duration::new(secs, nanos))
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Exclusive),
        Just(Mode::Shared),
        any::<u32>().prop_map(|max| Mode::Permit { max }),
    ]
}

fn what() -> impl Strategy<Value = What> {
    let invoke = (mode(), proptest::option::of(duration()));
    prop_oneof![
        invoke.prop_map(|(mode, deadline)| What::Invoke { mode, deadline }),
        any::<Option<u64>>().prop_map(|token| What::Acquired { token }),
        Just(What::Refused),
        text().prop_map(|error| What::Failed { error }),
        any::<(u64, bool)>().prop_map(|(token, accepted)| What::Wrote { token, accepted }),
        Just(What::ReleaseInvoked),
        Just(What::Released),
        text().prop_map(|error| What::ReleaseFailed { error }),
        Just(What::Lost),
        Just(What::Died),
        any::<u8>().prop_map(|row| What::FaultEndsHold { row }),
        text().prop_map(|kind| What::Fault { kind }),
    ]
}

proptest! {
    #[test]
    fn a_line_is_read_as_it_was_written(
        at in duration(), who in text(), attempt in any::<u64>(), lock in text(), what in what()
    ) {
        let event = Event { at, who, attempt, lock, what };
        let line = event.to_line();
        prop_assert!(!line.contains(['\n', '\r']), "{line:?} is more than one line");
        prop_assert_eq!(Event::parse(&line), Ok(event.clone()));
        prop_assert_eq!(Event::parse(&format!("{line}\r\n")), Ok(event));
    }

    #[test]
    fn any_other_line_is_an_error(line in "[0-9a-z.\t\\\\-]*") {
        if let Ok(event) = Event::parse(&line) {
            prop_assert_eq!(Event::parse(&event.to_line()), Ok(event));
        }
    }
}

#[test]
fn half_a_line_is_an_error() {
    for line in ["", "1.0", "0.000000001\ta\t1\tl\tlost\tmore", "0.000000001\ta\t1\tl\\\tlost"] {
        assert_eq!(Event::parse(line), Err(format!("this is not an event: {line:?}")));
    }
}
