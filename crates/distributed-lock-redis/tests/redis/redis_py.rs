//! Another language's lock on the same key: redis-py's `Lock`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use distributed_lock_core::prelude::*;
use distributed_lock_testkit::servers::RedisServer;

use crate::{MS, SECOND, held, leased, timed};

/// Obeys by lines: `try` answers `True` or `False`, `release` answers `released`.
const PROGRAM: &str = r"
import sys, redis
lock = redis.Redis(port=int(sys.argv[1])).lock(sys.argv[2], timeout=30)
for line in sys.stdin:
    if line.strip() == 'try':
        print(lock.acquire(blocking=False), flush=True)
    else:
        lock.release()
        print('released', flush=True)
";

struct Python {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Python {
    fn lock(server: &RedisServer, key: &str) -> Self {
        // Debian's own, which has Debian's packages.
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", PROGRAM, &server.port().to_string(), key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from: BufReader::new(from) }
    }

    fn does(&mut self, what: &str) -> String {
        writeln!(self.to, "{what}").unwrap();
        let mut line = String::new();
        assert_ne!(
            self.from.read_line(&mut line).unwrap(),
            0,
            "python has ended; is python3-redis installed?"
        );
        line.trim_end().to_owned()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_and_readers_here_and_redis_py_exclude_each_other() {
    let server = RedisServer::start(&[]);
    let here = leased(&server.url(), 30 * SECOND).await;
    let readers = here.create_reader_writer_lock("py");
    let mut python = Python::lock(&server, &here.native_key("py").unwrap());

    assert_eq!(python.does("try"), "True");
    assert!(here.try_acquire_lock("py").await.unwrap().is_none());
    assert!(readers.try_acquire_read().await.unwrap().is_none());
    assert_eq!(python.does("release"), "released");

    let handle = held(&here, "py").await;
    assert_eq!(python.does("try"), "False");
    handle.release().await.unwrap();

    let first = readers.acquire_read(None).await.unwrap();
    let second = readers.acquire_read(None).await.unwrap();
    assert_eq!(python.does("try"), "False");
    first.release().await.unwrap();
    assert_eq!(python.does("try"), "False");
    second.release().await.unwrap();
    assert_eq!(python.does("try"), "True");
    assert_eq!(python.does("release"), "released");
}

/// It tells nobody; a waiter finds out within the fallback period.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_follows_redis_py_within_the_fallback_period() {
    let server = RedisServer::start(&[]);
    let here = leased(&server.url(), 30 * SECOND).await;
    let mut python = Python::lock(&server, &here.native_key("py").unwrap());
    for _ in 0..3 {
        assert_eq!(python.does("try"), "True");
        let process = here.clone();
        let waiter = tokio::spawn(async move { process.acquire_lock("py", None).await });
        crate::queue::until_waiting(&server, 1).await;
        assert_eq!(python.does("release"), "released");
        let (handle, took) = timed(waiter).await;
        println!("{took:?} after redis-py");
        assert!(took <= SECOND + 200 * MS, "{took:?}");
        handle.unwrap().unwrap().release().await.unwrap();
    }
}
