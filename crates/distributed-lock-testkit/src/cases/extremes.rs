//! Names, durations and counts at the edges of what can be said.

use std::collections::HashSet;
use std::time::Duration;

use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::traits::{
    DistributedLock, DistributedReaderWriterLock, DistributedSemaphore, LockHandle, LockProvider,
    LockProviderExt, Provider, ReaderWriterLockProvider, SemaphoreProvider,
};

use super::two_processes;
use crate::backend::Backend;
use crate::bounds::within;
use crate::runtimes::run;
use crate::verdicts::{assert_error, granted, refused};

/// Every awkward name is a lock of its own: all are held at once by one process, and each is refused
/// to another.
///
/// The one case whose names are not unique: who runs it on the same data at the same time waits for
/// the first name, and takes the others in the same order.
pub fn awkward_names_are_distinct_locks(backend: &impl Backend) {
    run(async {
        let (here, there, _) = two_processes(backend, "").await;
        let names = awkward_names();
        let keys: HashSet<String> =
            names.iter().map(|name| here.native_key(name).expect("a good name")).collect();
        assert_eq!(keys.len(), names.len(), "two names have one key");
        let mut held = Vec::new();
        for name in &names {
            let turn = Some(Duration::from_secs(50));
            let handle = here.acquire_lock(name, turn).await;
            held.push(handle.unwrap_or_else(|error| panic!("{name:?}: {error:?}")));
        }
        for name in &names {
            refused(there.try_acquire_lock(name).await);
        }
        // Back to front, so that the first name stays the gate.
        while let Some(handle) = held.pop() {
            handle.release().await.expect("a clean release");
            if let Some(name) = names.get(held.len())
                && !held.is_empty()
            {
                granted(there.try_acquire_lock(name).await).release().await.expect("a release");
            }
        }
    });
}

/// A name of more than 1 KiB is `InvalidName`, for every primitive and from every method.
pub fn too_long_a_name_is_invalid(backend: &impl Backend) {
    run(async {
        let here = backend.connect().await;
        for name in ["x".repeat(1025), "é".repeat(513), "x".repeat(1 << 20)] {
            assert_error!(here.native_key(&name), LockError::InvalidName(_));
            let lock = here.create_lock(&name);
            assert_error!(lock.acquire(None).await, LockError::InvalidName(_));
            assert_error!(lock.try_acquire().await, LockError::InvalidName(_));
            let lock = here.create_reader_writer_lock(&name);
            assert_error!(lock.acquire_read(None).await, LockError::InvalidName(_));
            assert_error!(lock.try_acquire_read().await, LockError::InvalidName(_));
            assert_error!(lock.acquire_write(None).await, LockError::InvalidName(_));
            assert_error!(lock.try_acquire_write().await, LockError::InvalidName(_));
            let semaphore = here.create_semaphore(&name, 3);
            assert_error!(semaphore.acquire(None).await, LockError::InvalidName(_));
            assert_error!(semaphore.try_acquire().await, LockError::InvalidName(_));
        }
    });
}

/// Any duration works on every primitive, or the primitive as a whole is `Unsupported`.
pub fn any_duration_works(backend: &impl Backend) {
    run(async {
        let (here, _, name) = two_processes(backend, "durations").await;
        for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let lock = here.create_lock(&name);
            give_back(Some(lock.acquire(Some(timeout)).await.expect("a free lock"))).await;
            let lock = here.create_reader_writer_lock(&name);
            give_back(had_or_unsupported(lock.acquire_read(Some(timeout)).await)).await;
            give_back(had_or_unsupported(lock.acquire_write(Some(timeout)).await)).await;
            let semaphore = here.create_semaphore(&name, 1);
            give_back(had_or_unsupported(semaphore.acquire(Some(timeout)).await)).await;
        }
    });
}

/// Any count makes a semaphore without a panic, and its first acquire ends with a result or says
/// what is wrong.
pub fn any_count_has_a_clear_answer(backend: &impl Backend) {
    run(async {
        let (here, _, name) = two_processes(backend, "counts").await;
        let none = here.create_semaphore(&name, 0);
        assert_eq!(none.max_count(), 0);
        assert_error!(none.try_acquire().await, LockError::Config(_) | LockError::Unsupported(_));
        let forever = within(Duration::from_secs(5), "an impossible wait", none.acquire(None));
        assert_error!(forever.await, LockError::Config(_) | LockError::Unsupported(_));
        let most = here.create_semaphore(&name, u32::MAX);
        assert_eq!(most.max_count(), u32::MAX);
        let tried = within(Duration::from_secs(5), "a free permit", most.acquire(None)).await;
        give_back(had_or_unsupported(tried)).await;
    });
}

#[track_caller]
fn had_or_unsupported<H>(result: LockResult<H>) -> Option<H> {
    match result {
        Ok(handle) => Some(handle),
        Err(LockError::Unsupported(_)) => None,
        Err(error) => panic!("expected a lock, or Unsupported: {error:?}"),
    }
}

async fn give_back(held: Option<impl LockHandle>) {
    if let Some(handle) = held {
        handle.release().await.expect("a clean release");
    }
}

/// All different, and none longer than 1 KiB.
pub(super) fn awkward_names() -> Vec<String> {
    let mut names: Vec<String> = [
        // The gate: see the case.
        "gate",
        // Paths.
        "",
        ".",
        "..",
        "/",
        "//",
        "../../etc/passwd",
        "a/b",
        "a\\b",
        "C:\\a",
        "~",
        "con",
        ".lock",
        // Control characters.
        "\0",
        "a\0b",
        "a\0",
        "a",
        "a\r\nb",
        "a\nb",
        "\t",
        "\u{7f}",
        "\u{1b}[2J",
        // Quotes, braces and globs.
        "'",
        "\"",
        "`",
        "{",
        "}",
        "{a}",
        "{a}b",
        "{}",
        "$1",
        "%s",
        "%",
        "%61",
        "*",
        "?",
        "[a]",
        "#",
        // Other people's languages.
        "'; DROP TABLE locks; --",
        "return redis.call('FLUSHALL')",
        "$(reboot)",
        "--help",
        "a=b&c",
        // Case, spaces, normal forms.
        "name",
        "Name",
        "NAME",
        " name",
        "name ",
        "na me",
        "na\u{a0}me",
        "na\u{200b}me",
        "\u{e9}",
        "e\u{301}",
        "\u{fb01}",
        "fi",
        "\u{df}",
        "ss",
        "\u{130}",
        "i\u{307}",
        "i",
        "I",
        "\u{1f512}",
        "\u{202e}abc",
        "\u{feff}a",
        "\u{10ffff}",
        "\u{fffd}",
    ]
    .map(String::from)
    .into();
    names.extend(["x".repeat(255), "x".repeat(256), "x".repeat(1023), "x".repeat(1024)]);
    names.extend([format!("{}y", "x".repeat(1023)), "\u{e9}".repeat(512), "/".repeat(1024)]);
    names
}
