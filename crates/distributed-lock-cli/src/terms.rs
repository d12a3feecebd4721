//! Messages of the library, which speak of its API, in terms of the command line.

/// Options of builders that the command line has as options of its own.
const OWN_OPTIONS: [(&str, &str); 2] = [("max_count", "--permits"), ("owner_label", "--label")];

/// What a server's answer most likely means to a user.
const MEANINGS: [(&str, &str); 4] = [
    (
        "unauthenticated multibulk length",
        "the server wants a password, as in redis://:PASSWORD@HOST",
    ),
    ("NOAUTH", "the server wants a password, as in redis://:PASSWORD@HOST"),
    ("Unexpected `", "what answers there is no Redis server"),
    ("invalid message length", "what answers there is no PostgreSQL server"),
];

/// Replaces `option(value)` of a builder by `option=value` of a URL, and adds what an answer means.
pub(crate) fn of_the_command_line(text: &str) -> String {
    let mut text = calls_as_options(text);
    for (api, option) in OWN_OPTIONS {
        text = text.replace(api, option);
    }
    if let Some((_, meaning)) = MEANINGS.iter().find(|(answer, _)| text.contains(answer)) {
        text = format!("{text} ({meaning})");
    }
    text
}

fn calls_as_options(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('(') {
        let (before, after) = rest.split_at(open);
        let start =
            before.rfind(|c: char| !c.is_ascii_lowercase() && c != '_').map_or(0, |at| at + 1);
        let name = &before[start..];
        let value = after[1..].split_once(')').map(|(value, _)| value);
        match value.and_then(as_value).filter(|_| name.contains('_') || name == "mode") {
            Some(shown) => {
                result.push_str(&before[..start]);
                result.push_str(&format!("{name}={shown} in the URL"));
                rest = &after[value.map_or(1, str::len) + 2..];
            }
            None => {
                result.push_str(&rest[..=open]);
                rest = &after[1..];
            }
        }
    }
    result + rest
}

/// A value as a URL has it, if that is one.
fn as_value(value: &str) -> Option<&str> {
    let plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    plain.then(|| value.strip_prefix("0o").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builders_are_not_mentioned() {
        for (api, command_line) in [
            ("use mode(0o660) there", "use mode=660 in the URL there"),
            ("or use_transaction(true)", "or use_transaction=true in the URL"),
            ("max_count must be at least 1", "--permits must be at least 1"),
            ("an end (uid 5) and f(x)", "an end (uid 5) and f(x)"),
            ("open (", "open ("),
        ] {
            assert_eq!(of_the_command_line(api), command_line);
        }
        let answer = of_the_command_line("ERR unauthenticated multibulk length");
        assert!(answer.contains("password"), "{answer}");
    }
}
