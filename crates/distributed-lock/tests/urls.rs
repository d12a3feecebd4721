//! What `connect` makes of any URL, and what it never shows.

use std::error::Error;
use std::time::Duration;

use distributed_lock::*;
use proptest::prelude::*;

/// Schemes, known and unknown, with an address where nobody listens.
const SERVERS: [&str; 9] = [
    "file://@/nonexistent/locks",
    "memory://@name",
    "postgres://@127.0.0.1:1/db",
    "postgresql://@127.0.0.1:1/db",
    "redis://@127.0.0.1:1/0",
    "rediss://@127.0.0.1:1/0",
    "unix://@/nonexistent/redis.sock",
    "mysql://@127.0.0.1:1/db",
    "http://@127.0.0.1:1",
];

/// Where a secret may stand; `@` in a server is replaced by the first, the others follow.
const PLACES: [(&str, &str); 9] = [
    ("user:SECRET@", ""),
    (":SECRET@", ""),
    ("user:SECRET@", "?operation_timeout=soon"),
    ("", "?password=SECRET"),
    ("", "?passwd=SECRET&passwd=SECRET"),
    ("", "?password%3DSECRET"),
    ("", "?token=SECRET&unknown_option=1"),
    ("user:a#SECRET@", ""),
    ("user:SECRET@[", ""),
];

/// Everything that an error says, to people and to programmers, with its sources.
fn everything_said(error: &LockError) -> String {
    let mut said = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        said.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    said
}

fn connected(url: &str) -> LockResult<DynLockProvider> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(LockError::backend)?.block_on(connect(url))
}

#[test]
fn a_secret_is_never_shown() {
    let secret = "s3cr3t-hunter2";
    for server in SERVERS {
        for (before, after) in PLACES {
            let url = format!("{server}{after}").replacen('@', before, 1).replace("SECRET", secret);
            let said = match connected(&url) {
                Ok(provider) => format!("{provider:?}"),
                Err(error) => everything_said(&error),
            };
            assert!(!said.contains("hunter2"), "{server} {before} {after}: {said}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Any text gives a provider or a `Config` that explains itself, and no panic.
    #[test]
    fn any_text_is_answered(text in "(memory|mysql|x|)(:|://)?[ -~]{0,30}") {
        match connected(&text) {
            Ok(provider) => drop(provider),
            Err(LockError::Config(reason)) => prop_assert!(!reason.is_empty()),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    /// Stores are shared by those who say the same name, and by nobody else.
    #[test]
    fn names_of_memory_stores_are_kept_apart(one in "[a-z0-9%/._-]{1,12}", two in "[a-z0-9%/._-]{1,12}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let urls = [format!("memory://kept/{one}"), format!("memory://kept/{two}")];
            let [Ok(first), Ok(second)] = [connect(&urls[0]).await, connect(&urls[1]).await] else {
                return Ok(());
            };
            let held = first.acquire_lock("x", None).await.unwrap();
            let other = second.try_acquire_lock("x").await.unwrap();
            let same = other.is_none();
            held.release().await.unwrap();
            if let Some(other) = other {
                other.release().await.unwrap();
            }
            // `.` and `..` are steps in any URL's path.
            let steps = |text: &str| text.split('/').any(|step| step.replace("%2e", ".").trim_matches('.').is_empty());
            prop_assert!(same == (one == two) || steps(&one) || steps(&two), "{one:?} {two:?}");
            Ok(())
        })?;
    }
}

/// What each kind of URL knows, and an address where an attempt to connect ends at once.
const KNOWN: [(&str, &[&str]); 4] = [
    #[cfg(feature = "file")]
    ("file:///nonexistent/locks", &["mode=660", "label=x", "allow_shared_directory=true"]),
    #[cfg(not(feature = "file"))]
    ("memory://a", &["lease=1s"]),
    ("memory://a", &["lease=1s", "max_hold=5s", "auto_extend=true", "operation_timeout=1s"]),
    #[cfg(feature = "postgres")]
    (
        "postgres://127.0.0.1:1/db",
        &["max_sessions=9", "max_held=5", "application_name=a", "sslmode=disable"],
    ),
    #[cfg(not(feature = "postgres"))]
    ("memory://a", &["lease=1s"]),
    #[cfg(feature = "redis")]
    ("redis://127.0.0.1:1/0", &["expiry=9s", "key_prefix=p", "owner_label=l", "protocol=resp2"]),
    #[cfg(not(feature = "redis"))]
    ("memory://a", &["lease=1s"]),
];

fn refused(url: &str) -> String {
    match connected(url) {
        Err(LockError::Config(reason)) => reason,
        other => panic!("{url}: {other:?}"),
    }
}

/// A known option with one letter left out, doubled, or in capitals.
fn misspelt(option: &str, at: usize, how: usize) -> String {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let at = at % name.len();
    let (before, letter, after) = (&name[..at], &name[at..=at], &name[at + 1..]);
    let letter = match how {
        0 => String::new(),
        1 => letter.repeat(2),
        _ => {
            if letter == "_" {
                "-".into()
            } else {
                letter.to_uppercase()
            }
        }
    };
    format!("{before}{letter}{after}={value}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A misspelt option is refused by name, wherever it stands among good ones.
    #[test]
    fn row_62_no_misspelt_option_is_dropped(
        kind in 0..KNOWN.len(), option in 0..4_usize, at in 0..40_usize, how in 0..3_usize, order in 0..4_usize,
    ) {
        let (server, known) = KNOWN[kind];
        let wrong = misspelt(known[option % known.len()], at, how);
        let mut options: Vec<&str> = known.to_vec();
        options.insert(order % (known.len() + 1), &wrong);
        let said = refused(&format!("{server}?{}", options.join("&")));
        prop_assert!(said.contains(wrong.split('=').next().unwrap()), "{wrong}: {said}");
    }

    /// On any but the last of several URLs, every option is refused: known, misspelt or foreign.
    #[cfg(feature = "redis")]
    #[test]
    fn row_62_no_option_of_one_of_several_servers_is_dropped(
        servers in 2..6_usize, on in 0..5_usize, option in "[a-z_]{1,20}=[a-z0-9%20]{0,5}",
        known in prop::option::of(0..4_usize), scheme in 0..3_usize,
    ) {
        let (_, options) = KNOWN[3];
        let option = known.map_or(option, |known| options[known].to_owned());
        let base = ["redis://127.0.0.1:1/0", "rediss://127.0.0.1:1", "unix:///nonexistent/s"][scheme];
        let urls: Vec<String> = (0..servers)
            .map(|n| if n == on % (servers - 1) { format!("{base}?{option}") } else { base.into() })
            .collect();
        refused(&urls.join(","));
    }

    #[test]
    fn any_text_after_a_scheme_is_answered(text in "[ -~]{0,30}", kind in 0..4_usize) {
        let scheme = ["file:///nonexistent/x?", "unix:///nonexistent/", "redis://127.0.0.1:1?", "postgres://127.0.0.1:1/?"][kind];
        drop(connected(&format!("{scheme}{text}")));
    }
}

#[test]
fn row_62_options_that_cannot_work_are_refused_by_name() {
    for (url, named) in [
        ("memory://a?max_hold=5s", "max_hold"),
        ("memory://a?auto_extend=false", "auto_extend"),
        ("memory://a?lease=0s", "lease"),
        ("memory://a?lease=5s&max_hold=0s", "max_hold"),
        ("memory://a?operation_timeout=0s", "operation_timeout"),
        ("memory://a?lease", "lease"),
        ("memory://a?lease=1s&lease=2s", "lease"),
        ("memory://a?lease=1s&%6cease=2s", "lease"),
        #[cfg(feature = "redis")]
        ("redis://h?expiry=10s&extension_cadence=8s", "extension_cadence"),
        #[cfg(feature = "redis")]
        ("redis://h?expiry=10s&min_validity=9900ms", "min_validity"),
        #[cfg(feature = "redis")]
        ("redis://h?extension_cadence=5s&auto_extend=false", "auto_extend"),
        #[cfg(feature = "redis")]
        ("redis://h?restart_guard=60s", "restart_guard"),
        #[cfg(feature = "redis")]
        ("redis://h?operation_timeout=0s", "operation_timeout"),
        #[cfg(feature = "redis")]
        ("redis://a?key_prefix=x,redis://b,redis://c", "key_prefix"),
        #[cfg(feature = "redis")]
        ("redis://a,redis://b?expiry=5s,redis://c?expiry=5s", "expiry"),
        #[cfg(feature = "redis")]
        ("redis://a?protocol=resp3,redis://b", "protocol"),
        #[cfg(feature = "redis")]
        ("rediss://a#insecure,rediss://b", "#"),
        #[cfg(feature = "redis")]
        ("unix:///a?pass=x&expiry=5s,unix:///b?pass=x", "expiry"),
    ] {
        let said = refused(url);
        assert!(said.contains(named), "{url}: {said}");
    }
}

/// What cannot exist is a mistake in the URL, not a service that does not answer.
#[test]
fn an_address_that_cannot_exist_is_a_configuration_mistake() {
    #[cfg(feature = "file")]
    refused("file:///tmp/%00");
    #[cfg(feature = "redis")]
    for url in
        ["redis://a%00b", "redis://h:0", "unix:///run/%00", &format!("unix:///{0:x>110}", "")]
    {
        refused(url);
    }
}

#[tokio::test]
async fn errors_list_what_is_known() {
    let refusal = async |url: &str| match connect(url).await {
        Err(LockError::Config(reason)) => reason,
        other => panic!("{url}: {other:?}"),
    };
    let unknown = refusal("memory://a?lesae=1s").await;
    for option in
        ["lesae", "lease", "max_hold", "auto_extend", "operation_timeout", "keeper_thread"]
    {
        assert!(unknown.contains(option), "{unknown}");
    }
    let unknown = refusal("mysql://host/db").await;
    assert!(unknown.contains("file://") && unknown.contains("memory://"), "{unknown}");
    assert!(refusal("memory://a:80").await.contains("port"));
    assert!(refusal("memory://user:password@a").await.contains("no user"));
    assert!(refusal("memory://a#b").await.contains("%23"));
    #[cfg(feature = "postgres")]
    {
        let unknown = refusal("postgres://localhost/db?max_sesions=1").await;
        for option in ["max_sesions", "max_sessions", "sslmode"] {
            assert!(unknown.contains(option), "{unknown}");
        }
    }
    #[cfg(not(feature = "file"))]
    assert!(refusal("file:///tmp/x").await.contains("feature `file`"));
    #[cfg(not(feature = "postgres"))]
    assert!(refusal("postgres://host/db").await.contains("feature `postgres`"));
}

#[tokio::test]
async fn leases_can_be_limited_by_url() -> LockResult<()> {
    for limit in ["max_hold=100ms", "auto_extend=false"] {
        let provider = connect(&format!("memory://limited?lease=300ms&{limit}")).await?;
        let held = provider.acquire_lock("x", None).await?;
        let told = tokio::time::timeout(Duration::from_secs(5), held.lost_token().cancelled());
        assert!(told.await.is_ok(), "{limit}: not told");
        assert!(matches!(held.release().await, Err(LockError::LockLost(_))));
    }
    Ok(())
}
