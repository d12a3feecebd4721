//! Which threads a provider starts. Alone in its file, because it looks at all threads of its process.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use distributed_lock_core::memory::MemoryLockProvider;
use distributed_lock_core::prelude::*;

fn names_of_threads() -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    // A thread may end while its name is read.
    let name = |path: std::path::PathBuf| std::fs::read_to_string(path.join("comm")).ok();
    threads.filter_map(|thread| name(thread.unwrap().path())).collect()
}

#[test]
fn a_short_life_on_a_driven_runtime_needs_no_library_thread() {
    for lease in [None, Some(Duration::from_secs(30))] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let builder = MemoryLockProvider::builder();
            let provider = lease.into_iter().fold(builder, |builder, lease| builder.lease(lease));
            let provider = provider.build();
            let handle = provider.acquire_lock("name", None).await.unwrap();
            handle.release().await.unwrap();
            let left = provider.shutdown().await;
            assert!(left.is_empty(), "{left:?}");
        });
        // With it, tasks that were told to end and had no time for it.
        drop(runtime);
        let names = names_of_threads();
        assert!(!names.is_empty());
        let library = |name: &String| name.starts_with("distributed-lo");
        assert!(!names.iter().any(library), "lease {lease:?}: {names:?}");
    }
}
