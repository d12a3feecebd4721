//! The URL of one server, checked: what it says is used, or refused.

use std::borrow::Cow;

use distributed_lock_core::error::{LockError, LockResult};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

const EXAMPLE: &str = "for example redis://localhost:6379";

/// What the URL of a unix socket has in its query: it has no other position for them.
const OF_A_SOCKET: [&str; 3] = ["db", "user", "pass"];

/// The client of a server.
///
/// # Errors
/// [`LockError::Config`], which shows nothing that may be part of a password.
pub(crate) fn open(text: &str) -> LockResult<redis::Client> {
    let mut url = Url::parse(text)
        .map_err(|error| LockError::Config(format!("not a server's URL ({error}); {EXAMPLE}")))?;
    if url.fragment().is_some() {
        return config(
            "what follows a # in a server's URL is not used: write it as %23; certificates are always \
             checked",
        );
    }
    match url.scheme() {
        "redis" => check_address(&url)?,
        "rediss" if cfg!(feature = "tls") => {
            check_address(&url)?;
            use_ring();
        }
        "rediss" => {
            return config("rediss:// needs the feature `tls` of distributed-lock-redis");
        }
        "unix" => check_socket(&url)?,
        unknown if text.starts_with(&format!("{unknown}://")) => {
            return config(format!(
                "unknown scheme {unknown:?}; known are redis://, rediss:// and unix://"
            ));
        }
        _ => return config(format!("not a server's URL; {EXAMPLE}")),
    }
    let query = parameters(&url)?;
    url.set_query(query.as_deref());
    // The client's own words for a bad URL do not repeat it.
    redis::Client::open(url).map_err(|error| LockError::Config(format!("{error}; {EXAMPLE}")))
}

fn check_address(url: &Url) -> LockResult<()> {
    let host = url.host_str().unwrap_or_default();
    if host.contains(',') {
        return config(
            "several servers in one URL are written redis://one,redis://two, or added one by one",
        );
    }
    if host.is_empty() || host.contains('%') {
        return config(format!("the URL names no host that can exist; {EXAMPLE}"));
    }
    if url.port() == Some(0) {
        return config("port 0 of a server's URL cannot be connected to");
    }
    let database = url.path().trim_matches('/');
    if !database.is_empty() && database.parse::<u32>().is_err() {
        return config("the path of a redis:// URL is the number of a database, for example /0");
    }
    Ok(())
}

#[cfg(unix)]
fn check_socket(url: &Url) -> LockResult<()> {
    let is_a_path = url.host_str().is_none_or(str::is_empty)
        && url.username().is_empty()
        && url.password().is_none()
        && url.port().is_none();
    if !is_a_path {
        return config(
            "the URL of a unix socket has an absolute path after three slashes (unix:///run/redis.sock), \
             and user and password in ?user=...&pass=...",
        );
    }
    let Ok(path) = url.to_file_path() else {
        return config("the URL of a unix socket has no path");
    };
    match std::os::unix::net::SocketAddr::from_pathname(&path) {
        Ok(_) => Ok(()),
        // It does not show the path.
        Err(error) => config(format!("no socket can have the path of the URL: {error}")),
    }
}

#[cfg(not(unix))]
fn check_socket(_url: &Url) -> LockResult<()> {
    config("this platform has no unix sockets")
}

/// The query for the client library, which takes a `+` for a space.
fn parameters(url: &Url) -> LockResult<Option<String>> {
    let Some(query) = url.query() else { return Ok(None) };
    let mut given: Vec<(&str, Cow<'_, str>)> = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let known = OF_A_SOCKET.into_iter().find(|known| url.scheme() == "unix" && *known == name);
        let Some(name) = known else {
            return config(
                "the URL of a server has no options but those of a unix socket: db, user and pass; the \
                 others are the builder's, or follow the last URL that is given to `connect`",
            );
        };
        if given.iter().any(|(other, _)| *other == name) {
            return config(format!("{name} is given twice in a server's URL"));
        }
        let Ok(value) = percent_decode_str(value).decode_utf8() else {
            return config(format!("{name} in a server's URL is not UTF-8"));
        };
        if name == "db" && value.parse::<u32>().is_err() {
            return config("db in a server's URL is the number of a database");
        }
        given.push((name, value));
    }
    let encoded = |(name, value): &(&str, Cow<'_, str>)| {
        format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
    };
    let encoded: Vec<String> = given.iter().map(encoded).collect();
    Ok((!encoded.is_empty()).then(|| encoded.join("&")))
}

/// rustls needs to be told which cryptography to use, unless the program has said so.
fn use_ring() {
    #[cfg(feature = "tls")]
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread was faster: then its choice is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn config<T>(reason: impl Into<String>) -> LockResult<T> {
    Err(LockError::Config(reason.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redis::ConnectionAddr;

    use super::*;

    fn refused(url: &str) -> String {
        match open(url) {
            Err(LockError::Config(reason)) => reason,
            other => panic!("{url}: {:?}", other.map(|_| "accepted")),
        }
    }

    #[test]
    fn a_url_says_where_and_as_whom() {
        let client = open("redis://u%3As:p%23w@h:7/3").unwrap();
        let info = client.get_connection_info();
        assert!(matches!(info.addr(), ConnectionAddr::Tcp(host, 7) if host == "h"));
        assert_eq!(info.redis_settings().username(), Some("u:s"));
        assert_eq!(info.redis_settings().password(), Some("p#w"));
        assert_eq!(info.redis_settings().db(), 3);
        #[cfg(unix)]
        {
            let client = open("unix:///run/r%20s?db=2&user=me&pass=a+b%2Bc%25d").unwrap();
            let info = client.get_connection_info();
            assert!(matches!(info.addr(), ConnectionAddr::Unix(path) if path.ends_with("r s")));
            assert_eq!(info.redis_settings().password(), Some("a+b+c%d"));
            assert_eq!(info.redis_settings().db(), 2);
        }
    }

    #[test]
    fn row_62_what_a_server_s_url_says_is_used_or_refused() {
        let long = format!("unix:///{}", "x".repeat(120));
        for (url, reason) in [
            ("redis://h?expiry=5s", "no options"),
            ("redis://h?db=1", "no options"),
            ("redis://h?protocol=resp2", "no options"),
            ("rediss://h/#insecure", "#"),
            ("redis://h#x", "#"),
            ("unix:///s?protocol=resp2", "no options"),
            ("unix:///s?db=1&db=2", "twice"),
            ("unix:///s?db=one", "number"),
            ("unix:///s?pass=%ff", "UTF-8"),
            ("unix://host/s", "three slashes"),
            ("unix:///run/%00", "no socket"),
            (&long, "no socket"),
            ("redis://a%00b", "no host"),
            ("redis://a,b:6379", "redis://one,redis://two"),
            ("redis://", "no host"),
            ("redis://h:0", "port 0"),
            ("redis://h/-1", "number"),
            ("redis://h/one", "number"),
            ("redis://h/1/2", "number"),
            ("http://h", "unknown scheme"),
            ("hunter2:secret@h", "not a server's URL"),
        ] {
            let said = refused(url);
            assert!(said.contains(reason) && !said.contains("hunter2"), "{url}: {said}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "((redis|rediss|unix)://)?[a-z0-9@/?&=#%:, +]{0,40}") {
            if let Err(error) = open(&text) {
                prop_assert!(matches!(error, LockError::Config(_)), "{:?}", error);
            }
        }

        #[cfg(unix)]
        #[test]
        fn any_password_arrives(password in "\\PC{1,20}") {
            let encoded = utf8_percent_encode(&password, NON_ALPHANUMERIC);
            for url in [format!("redis://u:{encoded}@h"), format!("unix:///s?pass={encoded}")] {
                let client = open(&url).unwrap();
                let settings = client.get_connection_info().redis_settings().clone();
                prop_assert_eq!(settings.password(), Some(&*password));
            }
        }
    }
}
