//! Everything that `dlock` prints by itself.
//!
//! A thread writes it: a terminal or a pipe may take no more for as long as it likes, and the command
//! is watched meanwhile.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

#[cfg(unix)]
use nix::sys::signal::{SigSet, Signal};

/// How many lines wait for standard error; more are not shown.
const LINES: usize = 64;
/// How long [`flush`] waits for somebody to read.
const FLUSH: Duration = Duration::from_secs(1);

enum Item {
    Line(String),
    Flushed(SyncSender<()>),
}

static WRITER: OnceLock<Option<SyncSender<Item>>> = OnceLock::new();

/// Prints one line on standard error, some time soon; never waits.
///
/// Control characters are shown, not sent: names, labels and error texts come from others.
pub(crate) fn say(message: impl AsRef<str>) {
    let line = format!("dlock: {}\n", printable(message.as_ref()));
    if let Some(writer) = WRITER.get_or_init(start) {
        // Full: nobody reads.
        let _ = writer.try_send(Item::Line(line));
    }
}

/// Waits a moment until everything is printed.
pub(crate) fn flush() {
    let Some(Some(writer)) = WRITER.get() else { return };
    let (done, flushed) = sync_channel(1);
    if writer.try_send(Item::Flushed(done)).is_ok() {
        // Later than that nobody reads.
        let _ = flushed.recv_timeout(FLUSH);
    }
}

/// `None` if there can be no more threads, and so no lines.
fn start() -> Option<SyncSender<Item>> {
    let (send, items) = sync_channel(LINES);
    std::thread::Builder::new().name("say".into()).spawn(move || write(&items)).ok()?;
    Some(send)
}

fn write(items: &Receiver<Item>) {
    // Neither stops `dlock` in the background of a terminal, nor ends it at a limit for files.
    #[cfg(unix)]
    let _ = SigSet::from_iter([Signal::SIGTTOU, Signal::SIGXFSZ]).thread_block();
    for item in items {
        match item {
            // Standard error may be closed; there is nowhere else to complain.
            Item::Line(line) => drop(std::io::stderr().write_all(line.as_bytes())),
            // Who waits for it may have given up.
            Item::Flushed(done) => drop(done.try_send(())),
        }
    }
}

fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            // As in a string literal: also what reorders or hides text. Behind a letter, accents need no
            // escape.
            _ => shown.extend(String::from_iter(['x', character]).escape_debug().skip(1)),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(printable("naïve \x1b[2J\nx\u{9b}"), "naïve \\u{1b}[2J\\nx\\u{9b}");
        assert_eq!(printable("a\u{202e}b\u{2066}\u{feff}"), "a\\u{202e}b\\u{2066}\\u{feff}");
        assert_eq!(printable("it's \"é\" e\u{301} \\ 日"), "it's \"é\" e\u{301} \\ 日");
    }
}
