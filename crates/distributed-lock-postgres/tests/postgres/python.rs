//! A program in Python that computes the keys by itself.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use distributed_lock_core::prelude::*;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::servers::PostgresServer;

/// Each kind of key, and what is at the borders between them.
const NAMES: [&str; 12] = [
    "",
    "a",
    "lock",
    "nine char",
    "\0\n\x7f",
    "ten  chars",
    "kürzer",
    "漢字",
    "py 00000000000001",
    "0000000000abcDEF",
    "fedcba98,00000007",
    "+000000000000007",
];

/// Debian's, because the module is a Debian package.
const PYTHON: &str = "/usr/bin/python3";

struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(server: &PostgresServer) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/python.py");
        let mut child = Command::new(PYTHON)
            .args([script, &server.url()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    /// Calls a function of the server with a name's key.
    fn call(&mut self, function: &str, name: &str) -> String {
        self.send(function, name, "");
        self.answer()
    }

    fn call_permit(&mut self, function: &str, name: &str, slot: u32) -> String {
        self.send(function, name, &format!(" {slot}"));
        self.answer()
    }

    fn send(&mut self, function: &str, name: &str, more: &str) {
        let name: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.input, "{function} {name}{more}").unwrap();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "it has ended; `cargo xtask test` installs python3-psycopg2");
        line.trim_end().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn provider(server: &PostgresServer) -> PostgresLockProvider {
    PostgresLockProvider::builder().connection_string(server.url()).build().await.unwrap()
}

/// Completes when somebody waits for the hashed key of a name.
async fn somebody_waits(key: String) {
    let low = key.split_at(8).1;
    let waits = format!(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = {}",
        u32::from_str_radix(low, 16).unwrap()
    );
    let look = move || while PostgresServer::shared().psql(&waits).unwrap() == "0" {};
    tokio::task::spawn_blocking(look).await.unwrap();
}

#[tokio::test]
async fn python_has_the_same_keys() {
    let server = PostgresServer::shared();
    let (mut python, provider) = (Program::start(server), provider(server).await);
    for name in NAMES {
        assert_eq!(python.call("key", name), provider.native_key(name).unwrap(), "{name:?}");
    }
}

#[tokio::test]
async fn python_excludes_and_is_excluded() {
    // Its names are short, and others use the shared server.
    let server = PostgresServer::start(&[]);
    let (mut python, provider) = (Program::start(&server), provider(&server).await);
    for name in NAMES {
        let lock = provider.create_lock(name);
        let readers = provider.create_reader_writer_lock(name);

        let handle = lock.try_acquire().await.unwrap().unwrap();
        assert_eq!(python.call("try_advisory_lock", name), "False", "{name:?}");
        assert_eq!(python.call("try_advisory_lock_shared", name), "False");
        handle.release().await.unwrap();

        let handle = readers.try_acquire_read().await.unwrap().unwrap();
        assert_eq!(python.call("try_advisory_lock", name), "False");
        assert_eq!(python.call("try_advisory_lock_shared", name), "True");
        handle.release().await.unwrap();
        assert!(lock.try_acquire().await.unwrap().is_none(), "{name:?}");
        readers.try_acquire_read().await.unwrap().unwrap().release().await.unwrap();
        assert_eq!(python.call("advisory_unlock_shared", name), "True");

        assert_eq!(python.call("try_advisory_lock", name), "True");
        assert!(lock.try_acquire().await.unwrap().is_none(), "{name:?}");
        assert!(readers.try_acquire_read().await.unwrap().is_none());
        assert_eq!(python.call("advisory_unlock", name), "True");
        lock.try_acquire().await.unwrap().unwrap().release().await.unwrap();
    }
}

#[tokio::test]
async fn each_is_woken_by_the_other() {
    let server = PostgresServer::shared();
    let (mut python, provider) = (Program::start(server), provider(server).await);
    let name = "woken by the other";
    let handle = provider.acquire_lock(name, None).await.unwrap();
    python.send("advisory_lock", name, "");
    let waiting = tokio::task::spawn_blocking(move || {
        let granted = python.answer();
        (python, granted)
    });
    somebody_waits(provider.native_key(name).unwrap()).await;
    assert!(!waiting.is_finished());
    handle.release().await.unwrap();
    let (mut python, granted) = waiting.await.unwrap();
    assert_eq!(granted, "", "a function without a result");

    // Now it holds, and lets go by its death.
    let acquire = provider.acquire_lock(name, Some(Duration::from_secs(20)));
    let (handle, ()) = tokio::join!(acquire, async {
        somebody_waits(provider.native_key(name).unwrap()).await;
        python.child.kill().unwrap();
    });
    handle.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn python_takes_permits_of_the_same_semaphore() {
    let server = PostgresServer::shared();
    let (mut python, provider) = (Program::start(server), provider(server).await);
    let name = "permits for Python";
    let semaphore = provider.create_semaphore(name, 2);
    let mut try_slot = |slot| python.call_permit("try_advisory_lock", name, slot) == "True";
    let handle = semaphore.try_acquire().await.unwrap().unwrap();
    let slots = [try_slot(0), try_slot(1)];
    assert!(slots[0] != slots[1], "one of the two is ours");
    assert!(semaphore.try_acquire().await.unwrap().is_none());
    handle.release().await.unwrap();
    let free = u32::from(slots[0]);
    assert!(try_slot(free));
    assert!(semaphore.try_acquire().await.unwrap().is_none());
    assert_eq!(python.call_permit("advisory_unlock", name, free), "True");
    semaphore.try_acquire().await.unwrap().unwrap().release().await.unwrap();
}
