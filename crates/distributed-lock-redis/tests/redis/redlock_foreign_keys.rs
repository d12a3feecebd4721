//! Keys on several servers that another program overwrites.

use std::time::Duration;

use distributed_lock_core::prelude::*;

use crate::group::Group;
use crate::{SECOND, held, order, told_of_loss};

/// Leases of 3 s are extended every second; what tests allow on top.
const CADENCE_AND_SLACK: Duration = Duration::from_secs(3);

/// What another program does to one lock's keys strikes no other lock of the same batch; done on one
/// server of three, it strikes none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_of_another_type_loses_one_lock_on_several_servers() {
    const LOCKS: usize = 450;
    let group = Group::start(3);
    let here = group.leased(3 * SECOND).await;
    let (mut mutexes, mut readers, mut permits) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..LOCKS / 3 {
        let name = format!("batch {number}");
        mutexes.push(held(&here, &format!("{name} mutex")).await);
        readers.push(here.create_reader_writer_lock(&name).acquire_read(None).await.unwrap());
        permits.push(here.create_semaphore(&name, 1).acquire(None).await.unwrap());
    }
    let overwrite = |count: usize, number: usize| {
        for server in &group.0[..count] {
            let mutex = here.native_key(&format!("batch {number} mutex")).unwrap();
            let tag = format!("distributed-lock/1:{{distributed-lock:batch {number}}}");
            let beside = |kind: &str| server.cli(&["KEYS", &format!("{tag}:{kind}:*")]);
            for key in [mutex, beside("readers"), beside("permit-0")] {
                order(server, &["DEL", &key]);
                order(server, &["RPUSH", &key, "x"]);
            }
        }
    };
    overwrite(1, 5);
    overwrite(3, 7);
    told_of_loss(&mutexes[7], CADENCE_AND_SLACK).await;
    told_of_loss(&readers[7], CADENCE_AND_SLACK).await;
    told_of_loss(&permits[7], CADENCE_AND_SLACK).await;
    // For longer than a lease.
    tokio::time::sleep(4 * SECOND).await;
    let lost = mutexes.iter().filter(|held| held.is_lost()).count()
        + readers.iter().filter(|held| held.is_lost()).count()
        + permits.iter().filter(|held| held.is_lost()).count();
    assert_eq!(lost, 3);
    for released in [
        mutexes.swap_remove(7).release().await,
        readers.swap_remove(7).release().await,
        permits.swap_remove(7).release().await,
    ] {
        assert!(matches!(released, Err(LockError::LockLost(_))), "{released:?}");
    }
    mutexes.swap_remove(5).release().await.unwrap();
    readers.swap_remove(5).release().await.unwrap();
    permits.swap_remove(5).release().await.unwrap();
}
