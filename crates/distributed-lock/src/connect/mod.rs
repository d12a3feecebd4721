//! A provider from a URL.

mod options;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(not(feature = "redis"))]
#[path = "no_redis.rs"]
mod redis;

use distributed_lock_core::DynLockProvider;
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::memory::{MemoryLockProvider, MemoryStore};
use distributed_lock_core::traits::Provider;
use url::Url;

use self::options::UrlOptions;

/// Makes the provider that a URL names.
///
/// | URL | provider | options |
/// |---|---|---|
/// | `file:///directory` | locks on files in that directory (feature `file`) | `mode` (octal), `label`, `allow_shared_directory`, `allow_any_file_system`, `keeper_thread` |
/// | `postgres://…`, `postgresql://…` | advisory locks of that database (feature `postgres`) | those of its builder, beside those of PostgreSQL's own URLs |
/// | `redis://[user:password@]host[:port][/database]`, `rediss://` (TLS), `unix:///socket` | locks on a Redis server (feature `redis`), or on a majority of several: their URLs with commas between, options on the last | `expiry`, `extension_cadence`, `min_validity`, `restart_guard`, `max_hold`, `auto_extend`, `operation_timeout`, `key_prefix`, `owner_label`, `protocol` (`auto`, `resp2`, `resp3`), `keeper_thread`; of a socket also `db`, `user` and `pass` |
/// | `memory://NAME` | locks inside this process, shared by name | `lease`, `max_hold`, `auto_extend`, `operation_timeout`, `keeper_thread` |
///
/// Options are query parameters with the names of the builders' methods, for example
/// `file:///srv/locks?mode=660&label=nightly%20backup`; values are percent-decoded once, and `+` is a
/// plus. Durations are written `500ms`, `30s`, `2m`; switches `true` or `false`. An option that is not
/// known, or is not read where it stands, is an error; so are options that cannot work together, such as
/// an `extension_cadence` that leaves no time to repeat an extension that failed.
///
/// ```
/// use distributed_lock::*;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # runtime.block_on(async {
/// let provider = connect("memory://example").await?;
/// let handle = provider.acquire_lock("report", None).await?;
/// handle.release().await
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`LockError::Config`] for a URL, scheme or option that cannot be used; it names what could be, and
/// never shows a password. Otherwise as the provider's `build`.
///
/// # Cancel safety
/// Dropping the future leaves nothing behind.
pub async fn connect(url: &str) -> LockResult<DynLockProvider> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    let scheme = scheme.trim_start().to_ascii_lowercase();
    match &*scheme {
        "postgres" | "postgresql" => return postgres(&format!("{scheme}:{rest}")).await,
        "redis" | "rediss" | "unix" => {
            let url = format!("{scheme}:{rest}");
            let (others, last) = redis::other_servers(&url);
            return redis::connect(others, last).await;
        }
        _ => {}
    }
    let url = Url::parse(url).map_err(|error| {
        LockError::Config(format!("not a URL ({error}); for example file:///var/tmp/locks"))
    })?;
    if url.fragment().is_some() {
        return Err(LockError::Config("what follows a # is not used; write it as %23".into()));
    }
    let mut options = UrlOptions::of(url.query().unwrap_or_default())?;
    match url.scheme() {
        "file" => file(&url, options),
        "memory" => {
            without_authority(&url)?;
            let mut builder = MemoryLockProvider::builder().store(MemoryStore::named(&name(&url)));
            if let Some(lease) = options.duration("lease")? {
                builder = builder.lease(lease);
            }
            if let Some(most) = options.duration("max_hold")? {
                builder = builder.max_hold(most);
            }
            if let Some(on) = options.switch("auto_extend")? {
                builder = builder.auto_extend(on);
            }
            if let Some(timeout) = options.duration("operation_timeout")? {
                builder = builder.operation_timeout(timeout);
            }
            if let Some(on) = options.switch("keeper_thread")? {
                builder = builder.keeper_thread(on);
            }
            options.finish()?;
            let provider = builder.build();
            // It says whether its options can work only when it is asked for a lock.
            provider.native_key("")?;
            Ok(DynLockProvider::new(provider))
        }
        unknown => Err(LockError::Config(format!(
            "{}; known are file:///directory, postgres://server/database, redis://server, \
             rediss://server, unix:///socket and memory://NAME",
            // Without slashes it may be a user's name or a part of a password.
            if rest.starts_with("//") {
                format!("unknown scheme {unknown:?}")
            } else {
                "not a URL of a lock service".into()
            }
        ))),
    }
}

/// Refuses what is part of an address, where there is none to go to.
fn without_authority(url: &Url) -> LockResult<()> {
    if url.username().is_empty() && url.password().is_none() && url.port().is_none() {
        return Ok(());
    }
    Err(LockError::Config(format!("{}:// has no user, password or port", url.scheme())))
}

/// What follows `memory://`: a name may look like a host, a path or both.
fn name(url: &Url) -> String {
    format!("{}{}", url.host_str().unwrap_or_default(), url.path())
}

#[cfg(feature = "postgres")]
async fn postgres(url: &str) -> LockResult<DynLockProvider> {
    postgres::connect(url).await
}

#[cfg(not(feature = "postgres"))]
async fn postgres(_url: &str) -> LockResult<DynLockProvider> {
    Err(LockError::Config("postgres:// needs the feature `postgres` of distributed-lock".into()))
}

#[cfg(feature = "file")]
fn file(url: &Url, mut options: UrlOptions) -> LockResult<DynLockProvider> {
    without_authority(url)?;
    let directory = url.to_file_path().map_err(|()| {
        LockError::Config("a file URL has an absolute path after three slashes: file:///dir".into())
    })?;
    if directory.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(LockError::Config("no path has a NUL character (%00)".into()));
    }
    let mut builder = distributed_lock_file::FileLockProvider::builder();
    if let Some(mode) = options.octal("mode")? {
        builder = builder.mode(mode);
    }
    if let Some(label) = options.text("label") {
        builder = builder.label(label);
    }
    if let Some(on) = options.switch("allow_shared_directory")? {
        builder = builder.allow_shared_directory(on);
    }
    if let Some(on) = options.switch("allow_any_file_system")? {
        builder = builder.allow_any_file_system(on);
    }
    if let Some(on) = options.switch("keeper_thread")? {
        builder = builder.keeper_thread(on);
    }
    options.finish()?;
    Ok(DynLockProvider::new(builder.build(directory)?))
}

#[cfg(not(feature = "file"))]
fn file(_url: &Url, _options: UrlOptions) -> LockResult<DynLockProvider> {
    Err(LockError::Config("file:// needs the feature `file` of distributed-lock".into()))
}
