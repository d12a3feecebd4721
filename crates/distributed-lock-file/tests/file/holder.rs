//! What others see of a holder that has configured nothing.

use distributed_lock_core::prelude::*;
use distributed_lock_core::{Holder, Mode};

use crate::provider;

fn assert_describes_this_process(holder: Option<Holder>, what: &str) {
    let holder = holder.expect(what);
    assert_eq!(holder.pid, Some(std::process::id()), "{what}");
    let since = holder.since.expect(what).elapsed().unwrap();
    assert!(since < std::time::Duration::from_secs(60), "{what}: {since:?}");
    let command = std::env::args().next().unwrap();
    let command = command.rsplit('/').next().unwrap().to_owned();
    let seen = holder.command.as_deref().expect(what);
    assert!(!seen.is_empty() && command.starts_with(seen), "{what}: {seen}");
    assert!(holder.host.is_some() && holder.user.is_some(), "{what}: {holder:?}");
}

#[tokio::test]
async fn every_kind_of_holder_is_described_by_default() {
    let directory = tempfile::tempdir().unwrap();
    let (here, there) = (provider(directory.path()), provider(directory.path()));
    let lock = here.acquire_lock("name", None).await.unwrap();
    assert_describes_this_process(there.holder("name", Mode::Exclusive).await.unwrap(), "mutex");
    lock.release().await.unwrap();
    assert_eq!(there.holder("name", Mode::Exclusive).await.unwrap(), None);

    let reader = here.create_reader_writer_lock("name").acquire_read(None).await.unwrap();
    assert_describes_this_process(there.holder("name", Mode::Shared).await.unwrap(), "reader");
    reader.release().await.unwrap();

    let permits = Mode::Permit { max: 3 };
    assert_eq!(there.holder("name", permits).await.unwrap(), None);
    let permit = here.create_semaphore("name", 3).acquire(None).await.unwrap();
    assert_describes_this_process(there.holder("name", permits).await.unwrap(), "permit");
    permit.release().await.unwrap();
    assert_eq!(there.holder("name", permits).await.unwrap(), None);
}
