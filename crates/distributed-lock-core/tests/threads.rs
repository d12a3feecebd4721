//! Which threads a provider starts. Alone in its file, because it looks at all threads of its process.

#![cfg(target_os = "linux")]

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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let provider = MemoryLockProvider::new();
        let handle = provider.acquire_lock("name", None).await.unwrap();
        handle.release().await.unwrap();
        let left = provider.shutdown().await;
        assert!(left.is_empty(), "{left:?}");
    });
    let names = names_of_threads();
    assert!(!names.is_empty());
    assert!(!names.iter().any(|name| name.starts_with("distributed-lo")), "{names:?}");
}
