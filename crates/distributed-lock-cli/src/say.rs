//! Everything that `dlock` prints by itself.

use std::io::Write;

/// Prints one line on standard error.
///
/// Control characters are shown, not sent: names, labels and error texts come from others.
pub(crate) fn say(message: impl AsRef<str>) {
    let line = format!("dlock: {}\n", printable(message.as_ref()));
    // Standard error may be closed; there is no other place to complain.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
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
    }
}
