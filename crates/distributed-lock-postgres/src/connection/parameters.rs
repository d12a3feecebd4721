//! A connection string, taken apart: a URL or `key=value` pairs.

use std::borrow::Cow;

use distributed_lock_core::error::{LockError, LockResult};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_postgres::Config;

/// The parameters that [`Target`](super::Target) knows, in the order in which people look for them.
pub(crate) const KNOWN: [&str; 20] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslnegotiation",
    "channel_binding",
    "target_session_attrs",
    "load_balance_hosts",
    "connect_timeout",
    "application_name",
    "options",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "tcp_user_timeout",
];

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// A connection string whose parameters can be looked at and taken off before the client library
/// reads the rest. Each is there once.
pub(crate) struct Parameters {
    /// A URL without its query; empty if the string is pairs.
    url: String,
    given: Vec<(String, String)>,
}

impl Parameters {
    /// # Errors
    /// [`LockError::Config`], which shows nothing that may be part of a password.
    pub(crate) fn parse(text: &str) -> LockResult<Self> {
        let parameters = match SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some(rest) => Self::of_url(rest)?,
            None => Self { url: String::new(), given: pairs(text)? },
        };
        if parameters.url.contains("%00")
            || parameters
                .given
                .iter()
                .any(|(name, value)| name.contains('\0') || value.contains('\0'))
        {
            return config(
                "the connection string has a NUL character (%00), which no server takes",
            );
        }
        let names = || parameters.given.iter().map(|(name, _)| name);
        match names().enumerate().find(|(at, name)| names().take(*at).any(|other| other == *name)) {
            Some((_, twice)) if KNOWN.contains(&twice.as_str()) => {
                config(format!("{twice} is given twice in the connection string"))
            }
            Some(_) => config("a parameter is given twice in the connection string"),
            None => Ok(parameters),
        }
    }

    /// Takes a parameter off.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.given.iter().position(|(given, _)| given == name)?;
        Some(self.given.remove(at).1)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value of a parameter, which stays.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// What the client library makes of what is left.
    ///
    /// # Errors
    /// [`LockError::Config`] for a parameter that is not known, and for a value that cannot be used.
    pub(super) fn to_config(&self) -> LockResult<Config> {
        let mut before = None;
        for (name, _) in &self.given {
            if !KNOWN.contains(&name.as_str()) {
                return unknown((before != Some("password")).then_some(name));
            }
            before = Some(name.as_str());
        }
        let text = if self.url.is_empty() {
            let pair = |(name, value): &(String, String)| {
                format!("{name}='{}' ", value.replace('\\', r"\\").replace('\'', r"\'"))
            };
            self.given.iter().map(pair).collect()
        } else {
            let encoded = |(name, value): &(String, String)| {
                format!("{name}={}&", utf8_percent_encode(value, NON_ALPHANUMERIC))
            };
            let query: String = self.given.iter().map(encoded).collect();
            format!("{}?{}", self.url, query.trim_end_matches('&'))
        };
        text.parse().map_err(|error| {
            // It names the parameter and does not show its value.
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            LockError::Config(format!("{error}: {}", reason.unwrap_or_default()))
        })
    }

    /// What follows the scheme. Where readers of URLs disagree about the end of the password, there is
    /// no guessing.
    fn of_url(rest: &str) -> LockResult<Self> {
        let path = rest.find('/').unwrap_or(rest.len());
        let host = rest[..path].find('@').map_or(0, |at| at + 1);
        if rest[..host].contains('?') || rest[host..].contains('@') {
            return config(
                "write '@' as %40, '/' as %2F and '?' as %3F in the user, password and options of a \
                 connection URL",
            );
        }
        let (url, query) = rest.split_once('?').unwrap_or((rest, ""));
        let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
        let given = parameters.map(|parameter| match parameter.split_once('=') {
            Some((name, value)) => Ok((decoded(name)?, decoded(value)?)),
            None => config("a parameter of the connection URL has no value"),
        });
        let parameters =
            Self { url: format!("{}{url}", SCHEMES[0]), given: given.collect::<LockResult<_>>()? };
        match names_before_query(url).into_iter().find(|name| parameters.has(name)) {
            Some(twice) => config(format!(
                "{twice} is given twice: before the '?' of the connection URL and behind it"
            )),
            None => Ok(parameters),
        }
    }
}

/// The parameters that a URL gives without naming them.
fn names_before_query(url: &str) -> Vec<&'static str> {
    let (authority, database) = url.split_once('/').unwrap_or((url, ""));
    let (account, hosts) = authority.split_once('@').unwrap_or(("", authority));
    let (user, password) = account.split_once(':').unwrap_or((account, ""));
    let port_of = |host: &str| match host.rsplit_once(']') {
        Some((_, port)) => port.starts_with(':'),
        None => host.contains(':'),
    };
    let has_host = hosts.split(',').any(|host| !host.is_empty() && !host.starts_with(':'));
    let given = [
        ("user", !user.is_empty()),
        ("password", !password.is_empty()),
        ("host", has_host),
        ("port", hosts.split(',').any(port_of)),
        ("dbname", !database.is_empty()),
    ];
    given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
}

/// Names and values of the form that `libpq` reads: `name = value`, `name='a value'`, where a backslash
/// takes the next character as it is.
fn pairs(text: &str) -> LockResult<Vec<(String, String)>> {
    let mut given = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((name, value)) = rest.split_once('=') else {
            return config(
                "the connection string is neither a URL (postgres://user@host/database) nor pairs \
                 (host=... user=...); a value with spaces is written 'in quotes'",
            );
        };
        let (value, after) = value_of(value.trim_start())?;
        given.push((name.trim_end().to_owned(), value));
        rest = after.trim_start();
    }
    Ok(given)
}

/// The value that a text begins with, and what follows it.
fn value_of(text: &str) -> LockResult<(String, &str)> {
    let quoted = text.strip_prefix('\'');
    let body = quoted.unwrap_or(text);
    let (mut value, mut characters) = (String::new(), body.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            '\'' if quoted.is_some() => return Ok((value, &body[at + 1..])),
            _ if quoted.is_none() && character.is_whitespace() => return Ok((value, &body[at..])),
            _ => value.push(character),
        }
    }
    match quoted {
        Some(_) => config("a quote in the connection string is not closed"),
        None => Ok((value, "")),
    }
}

fn decoded(text: &str) -> LockResult<String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(Cow::into_owned(decoded)),
        Err(_) => config("a parameter of the connection URL is not UTF-8"),
    }
}

/// What follows a password may be a part of it, and is not shown.
fn unknown<T>(name: Option<&String>) -> LockResult<T> {
    let what = match name {
        Some(name) => format!("{name:?}"),
        None => "what follows the password (one with spaces is written 'in quotes')".to_owned(),
    };
    config(format!("unknown parameter: {what}; known are {}", KNOWN.join(", ")))
}

fn config<T>(reason: impl Into<String>) -> LockResult<T> {
    Err(LockError::Config(reason.into()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use tokio_postgres::config::Host;

    use super::*;

    fn read(text: &str) -> Config {
        Parameters::parse(text).and_then(|parameters| parameters.to_config()).unwrap()
    }

    fn refused(text: &str) -> String {
        match Parameters::parse(text).and_then(|parameters| parameters.to_config()) {
            Err(LockError::Config(reason)) => reason,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn both_forms_mean_the_same() {
        let url = read(
            "postgresql://us%40er:p%20w%2F@h1:1,h2/data?connect_timeout=3&options=-c%20a%3Db&hostaddr=\
             127.0.0.1,127.0.0.2",
        );
        let pairs = read(
            r"user=us@er password='p w/' host=h1,h2 port=1,5432 dbname = data connect_timeout=3
              options=-c\ a=b hostaddr=127.0.0.1,127.0.0.2",
        );
        assert_eq!(url, pairs);
        assert_eq!(url.get_password(), Some(&b"p w/"[..]));
        assert_eq!(url.get_options(), Some("-c a=b"));
        assert_eq!(url.get_hostaddrs()[1], Ipv4Addr::new(127, 0, 0, 2));
    }

    #[test]
    fn hosts_can_be_directories_of_unix_sockets() {
        for text in
            ["postgres://%2Frun%2Fpg/x", "postgres:///x?host=/run/pg", "host=/run/pg dbname=x"]
        {
            assert_eq!(read(text).get_hosts(), [Host::Unix("/run/pg".into())], "{text}");
            assert_eq!(read(text).get_dbname(), Some("x"), "{text}");
        }
    }

    #[test]
    fn what_is_taken_off_is_gone() {
        let mut parameters = Parameters::parse("postgres://h/?ours=1%2B1&user=me").unwrap();
        assert_eq!(parameters.take("ours").as_deref(), Some("1+1"));
        assert_eq!(parameters.take("ours"), None);
        assert_eq!(parameters.to_config().unwrap().get_user(), Some("me"));
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        for text in ["postgres://h/?sslcert=x", "host=h sslcert=x"] {
            let reason = refused(text);
            assert!(reason.contains("\"sslcert\"") && reason.contains("sslrootcert"), "{reason}");
        }
        assert!(refused("host=h user=a user=b").contains("user is given twice"));
        assert!(refused("postgres://h/?user").contains("no value"));
        assert!(refused("localhost").contains("postgres://user@host"));
        assert!(refused("host=h user='x").contains("not closed"));
        assert!(refused("host=h port=70000").contains("`port`"));
    }

    #[test]
    fn what_no_server_takes_is_refused() {
        for text in [
            "postgres://a%00b@h/d",
            "postgres://h/d%00",
            "postgres://h/?user=a%00",
            "host=h user=a\0b",
        ] {
            assert!(refused(text).contains("NUL"), "{text}");
        }
    }

    #[test]
    fn no_part_of_a_password_is_shown() {
        let texts = [
            "host=h password=secret other-secret=1",
            "host=h password=secret secret",
            "password=x secret=1 secret=2",
            "host=h password='secret",
            "postgres://u:secret/secret?secret=1@h/db",
            "postgres://u:secret?secret=1@h/db",
            "postgres://u:secret@secret@h/db",
            "postgres://u:secret/h",
            "postgres://u:secret@h/?port=x",
            "postgres://u@h/?password=secret&application_name=a@b",
            "postgres://u:%ff%fesecret@h:x/",
            "postgres://u@h/?password=%ff%fesecret",
        ];
        for text in texts {
            let reason = refused(text);
            assert!(!reason.contains("secret"), "{text}: {reason}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(postgres://)?[a-z@/?&='\\\\%:, ]{0,40}") {
            drop(Parameters::parse(&text).and_then(|parameters| parameters.to_config()));
        }

        #[test]
        fn any_password_arrives(password in "\\PC{1,20}") {
            let encoded = utf8_percent_encode(&password, NON_ALPHANUMERIC);
            for text in [format!("postgres://u:{encoded}@h"), format!("postgres://h?password={encoded}")] {
                let config = read(&text);
                prop_assert_eq!(config.get_password(), Some(password.as_bytes()));
            }
            let quoted = password.replace('\\', r"\\").replace('\'', r"\'");
            let pairs = read(&format!("password = '{quoted}' host=h"));
            prop_assert_eq!(pairs.get_password(), Some(password.as_bytes()));
        }
    }
}
