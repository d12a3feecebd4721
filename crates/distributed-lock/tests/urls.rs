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
