//! Values of the protocol of Redis, as far as a relay must understand them.

/// What a request or a reply consists of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A string, however it was sent.
    Text(Vec<u8>),
    Int(i64),
    Nil,
    Error(String),
    List(Vec<Self>),
    /// A message that answers nothing.
    Push(Vec<Self>),
}

impl Value {
    pub(super) fn list(self) -> Vec<Self> {
        match self {
            Self::List(values) | Self::Push(values) => values,
            _ => Vec::new(),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Int(number) => number.to_string(),
            _ => String::new(),
        }
    }

    pub(super) fn number(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            other => other.text().parse().unwrap_or(0),
        }
    }
}

/// The first value, and how many bytes it takes; `None` if it is not complete.
pub(super) fn parse(bytes: &[u8]) -> Option<(Value, usize)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let line = std::str::from_utf8(bytes.get(1..end)?).unwrap_or("");
    let rest = end + 2;
    let length = || line.parse::<i64>().unwrap_or(0);
    Some(match bytes[0] {
        b':' => (Value::Int(length()), rest),
        b'_' => (Value::Nil, rest),
        b'-' => (Value::Error(line.to_owned()), rest),
        b'$' | b'=' | b'!' => {
            let Ok(length) = usize::try_from(length()) else { return Some((Value::Nil, rest)) };
            let text = bytes.get(rest..rest + length + 2)?[..length].to_vec();
            (Value::Text(text), rest + length + 2)
        }
        kind @ (b'*' | b'~' | b'>' | b'%') => {
            let Ok(length) = usize::try_from(length()) else { return Some((Value::Nil, rest)) };
            let length = if kind == b'%' { length * 2 } else { length };
            let (mut values, mut used) = (Vec::with_capacity(length), rest);
            for _ in 0..length {
                let (value, more) = parse(bytes.get(used..)?)?;
                values.push(value);
                used += more;
            }
            (if kind == b'>' { Value::Push(values) } else { Value::List(values) }, used)
        }
        _ => (Value::Text(line.as_bytes().to_vec()), rest),
    })
}

/// As [`parse`], of a request; one that is a line of plain words counts, too.
pub(super) fn parse_request(bytes: &[u8]) -> Option<(Value, usize)> {
    if bytes.first()? == &b'*' {
        return parse(bytes);
    }
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let words = bytes[..end].split(u8::is_ascii_whitespace);
    Some((Value::List(words.map(|word| Value::Text(word.to_vec())).collect()), end + 2))
}

/// A request.
pub(super) fn command(arguments: &[impl AsRef<[u8]>]) -> Vec<u8> {
    list(b'*', arguments)
}

/// A message on a channel, or the answer to a subscription.
pub(super) fn push(parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
    list(b'>', parts)
}

fn list(kind: u8, parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(format!("{}\r\n", parts.len()).into_bytes());
    for part in parts {
        let part = part.as_ref();
        bytes.extend(format!("${}\r\n", part.len()).into_bytes());
        bytes.extend(part);
        bytes.extend(b"\r\n");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_incomplete_ones_are_not() {
        let text = |text: &str| Value::Text(text.into());
        let bytes = b"*3\r\n$2\r\nab\r\n:-7\r\n_\r\n+OK\r\n";
        let expected = Value::List(vec![text("ab"), Value::Int(-7), Value::Nil]);
        assert_eq!(parse(bytes), Some((expected, bytes.len() - 5)));
        assert!((0..bytes.len() - 5).all(|cut| parse(&bytes[..cut]).is_none()));
        assert_eq!(parse(b"$-1\r\n"), Some((Value::Nil, 5)));
        assert_eq!(parse(b"-OOM no\r\n"), Some((Value::Error("OOM no".into()), 9)));
        let asked = command(&["GET", "x"]);
        assert_eq!(parse(&asked).unwrap().0, Value::List(vec![text("GET"), text("x")]));
        assert_eq!(parse_request(&asked), parse(&asked));
        let ping = Value::List(vec![text("PING")]);
        assert_eq!(parse_request(b"PING\r\n*1"), Some((ping, 6)));
        assert_eq!(parse(&push(&["m"])).unwrap().0, Value::Push(vec![text("m")]));
    }
}
