//! What many locks leave behind on several servers: nothing.

use distributed_lock_core::prelude::*;

use crate::group::{self, Group};
use crate::worker::{Worker, say};
use crate::{SECOND, assert_every_key_expires, held};

fn assert_nothing_is_held(group: &Group) {
    for server in &group.0 {
        assert_every_key_expires(server);
        for left in ["distributed-lock:*", "*queue*", "*readers*", "*permit-?:*"] {
            assert_eq!(server.cli(&["KEYS", left]), "", "on port {}", server.port());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_clean_rounds_leave_no_owner_and_no_key_without_expiry() {
    let group = Group::start(5);
    let here = group.leased(SECOND * 30).await;
    let readers = here.create_reader_writer_lock("clean readers");
    let permits = here.create_semaphore("clean permits", 3);
    for round in 0..500 {
        match round % 4 {
            0 => readers.acquire_read(None).await.unwrap().release().await.unwrap(),
            1 => permits.acquire(None).await.unwrap().release().await.unwrap(),
            _ => held(&here, &format!("clean {round}")).await.release().await.unwrap(),
        }
    }
    // At once, not after their expiries.
    assert_nothing_is_held(&group);
}

/// As for one server, in fewer rounds; the process has its memory and descriptors to itself.
#[test]
fn row_47_many_locks_on_a_majority_leave_nothing() {
    let group = Group::start(3);
    let mut worker = Worker::start("redlock many locks", &group.urls());
    assert_eq!(worker.hears(), "nothing is left");
    assert_nothing_is_held(&group);
}

pub(crate) fn many_locks(urls: &str) {
    let urls: Vec<_> = urls.split(',').map(str::to_owned).collect();
    crate::resources::use_many((5_000, 500), async || {
        group::of(&urls).expiry(SECOND * 30).build().await.unwrap()
    });
    say("nothing is left");
}
