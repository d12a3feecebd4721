//! Other users who may create functions, operators, types and relations where our statements could find
//! them.

use std::collections::BTreeSet;

use distributed_lock_core::Mode;
use distributed_lock_core::prelude::*;
use distributed_lock_postgres::{PostgresLockProvider, PostgresLockProviderBuilder};
use distributed_lock_testkit::servers::{Pgbouncer, PoolMode, PostgresServer};
use tokio_postgres::NoTls;

use crate::observer::Observer;
use crate::{MS, SECOND};

/// What a twin writes into the server's log when it is called.
const CALLED: &str = "hostile twin called";

/// Every kind of request that a provider makes.
async fn everything(url: &str, use_transaction: bool) {
    let build = || PostgresLockProvider::builder().connection_string(url);
    let build = || build().use_transaction(use_transaction).keepalive_cadence(SECOND);
    let fenced = build().fencing_sequence("fence").build().await.unwrap();
    let other = build().build().await.unwrap();
    // Names of both kinds of keys.
    for name in ["pair", "a name with one key"] {
        let lock = fenced.create_reader_writer_lock(name);
        let held = fenced.acquire_lock(name, None).await.unwrap();
        held.fencing_token().await.unwrap();
        assert!(other.try_acquire_lock(name).await.unwrap().is_none());
        let info = other.acquire_lock(name, Some(300 * MS)).await;
        assert!(matches!(info, Err(LockError::Timeout(_))), "{info:?}");
        let waiting = tokio::spawn({
            let (other, name) = (other.clone(), name.to_owned());
            async move { other.acquire_lock(&name, Some(20 * SECOND)).await }
        });
        // Long enough for the waiting session to be looked after.
        tokio::time::sleep(1500 * MS).await;
        held.release().await.unwrap();
        let won = waiting.await.unwrap().unwrap();
        if !use_transaction {
            won.fencing_token().await.unwrap();
        }
        won.release().await.unwrap();
        let one = lock.acquire_read(None).await.unwrap();
        tokio::time::sleep(150 * MS).await;
        let two = lock.acquire_read(None).await.unwrap();
        one.release().await.unwrap();
        two.release().await.unwrap();
    }
    let (mine, theirs) =
        (fenced.create_semaphore("permits", 1), other.create_semaphore("permits", 1));
    let permit = mine.acquire(None).await.unwrap();
    let waiting = tokio::spawn(async move { theirs.acquire(Some(20 * SECOND)).await });
    tokio::time::sleep(1500 * MS).await;
    permit.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();
    let gone = fenced.acquire_lock("terminated", None).await.unwrap();
    drop(gone);
    if !use_transaction {
        in_own_transaction(url, &fenced).await;
    }
}

/// Locks in the caller's own transaction, one of them waited for and one abandoned.
async fn in_own_transaction(url: &str, provider: &PostgresLockProvider) {
    let (mut client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let held = provider.acquire_lock("row", None).await.unwrap();
    let mut transaction = client.transaction().await.unwrap();
    let got = provider.try_acquire_in(&mut transaction, "row", Mode::Exclusive).await;
    assert!(!got.unwrap());
    let waited = provider.acquire_in(&mut transaction, "row", Mode::Exclusive, Some(50 * MS)).await;
    assert!(matches!(waited, Err(LockError::Timeout(_))), "{waited:?}");
    let abandoned = provider.acquire_in(&mut transaction, "row", Mode::Exclusive, None);
    assert!(tokio::time::timeout(50 * MS, abandoned).await.is_err());
    drop(transaction.rollback().await);
    held.release().await.unwrap();
    let mut transaction = client.transaction().await.unwrap();
    provider.acquire_in(&mut transaction, "row", Mode::Shared, None).await.unwrap();
    transaction.commit().await.unwrap();
}

/// Directly, and through both kinds of poolers.
async fn everywhere(server: &PostgresServer) {
    let settings = [("default_pool_size", "40")];
    let session = Pgbouncer::start_with(server, PoolMode::Session, &settings);
    let transaction = Pgbouncer::start_with(server, PoolMode::Transaction, &settings);
    everything(&server.url(), false).await;
    everything(&server.url(), true).await;
    everything(&session.url(), false).await;
    everything(&transaction.url(), true).await;
}

/// The words, and the operators, of the statements that the server has logged for providers.
fn said(server: &PostgresServer) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut words, mut operators) = (BTreeSet::new(), BTreeSet::new());
    let log = server.log();
    let statements = log.lines().filter_map(|line| {
        let text = line.strip_prefix("distributed-lock|LOG:  ")?;
        let is_statement = text.starts_with("statement: ") || text.starts_with("execute ");
        is_statement.then(|| text.split_once(": ").map(|(_, text)| text)).flatten()
    });
    for statement in statements {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        words.extend(statement.split(|c| !is_of_name(c)).map(str::to_owned));
        let is_of_operator = |c: char| "+-*/<>=~!@#%^&|`?".contains(c);
        operators.extend(statement.split(|c| !is_of_operator(c)).map(str::to_owned));
    }
    words.remove("");
    operators.remove("");
    (words, operators)
}

/// Puts a twin of everything that these words and operators may mean into the schema `evil`: functions
/// with the same arguments and with all that fit better, operators for all pairs of types, types and
/// relations of the same names. Returns how many there are.
async fn plant(server: &PostgresServer) -> i64 {
    let (words, operators) = said(server);
    let list = |items: &BTreeSet<String>| {
        items.iter().map(|item| format!("'{item}'")).collect::<Vec<_>>().join(",")
    };
    let statement = format!(
        r#"
        CREATE SCHEMA evil;
        GRANT USAGE ON SCHEMA evil TO public;
        CREATE FUNCTION evil.complain() RETURNS bool LANGUAGE plpgsql AS
            $f$ BEGIN RAISE LOG '{CALLED}: a type or relation'; RETURN true; END $f$;
        DO $do$
        DECLARE
            types text[] := ARRAY['int4', 'int8', 'int2', 'text', 'name', 'bool', 'oid', '"char"',
                'float8', 'int8[]', 'regclass', 'inet', 'xid8', 'timestamptz', 'interval'];
            f record; a text; b text; name text;
            body text := $b$LANGUAGE plpgsql AS 'BEGIN RAISE LOG ''{CALLED}: %s''; RETURN NULL; END'$b$;
        BEGIN
            FOR f IN SELECT DISTINCT proname, oidvectortypes(proargtypes) AS arguments,
                    coalesce(array_length(proargtypes::oid[], 1), 0) AS number,
                    CASE WHEN t.typtype = 'p' THEN 'text' ELSE format_type(prorettype, NULL) END AS result
                FROM pg_proc p JOIN pg_type t ON t.oid = prorettype
                WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f'
                    AND proname IN ({words})
                    AND NOT EXISTS (SELECT FROM unnest(proargtypes::oid[]) AS o JOIN pg_type at ON at.oid = o
                        WHERE at.typtype = 'p')
            LOOP
                BEGIN
                EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s ', f.proname, f.arguments, f.result)
                    || format(body, f.proname);
                EXCEPTION WHEN duplicate_function THEN NULL; END;
            END LOOP;
            FOR f IN SELECT DISTINCT proname, pronargs FROM pg_proc
                WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f'
                    AND proname IN ({words}) AND pronargs BETWEEN 1 AND 2
            LOOP
                FOREACH a IN ARRAY types LOOP
                    FOREACH b IN ARRAY CASE WHEN f.pronargs = 1 THEN ARRAY[''] ELSE types END LOOP
                        BEGIN
                        EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS text ', f.proname,
                            CASE WHEN b = '' THEN a ELSE a || ', ' || b END)
                            || format(body, f.proname);
                        EXCEPTION WHEN duplicate_function THEN NULL; END;
                    END LOOP;
                END LOOP;
            END LOOP;
            FOREACH a IN ARRAY types LOOP
                FOREACH b IN ARRAY types LOOP
                    EXECUTE format('CREATE FUNCTION evil.operate(%s, %s) RETURNS bool ', a, b)
                        || format(body, 'an operator');
                    FOR name IN SELECT DISTINCT oprname FROM pg_operator WHERE oprname IN ({operators}) LOOP
                        EXECUTE format('CREATE OPERATOR evil.%s (leftarg = %s, rightarg = %s, '
                            'function = evil.operate)', name, a, b);
                    END LOOP;
                END LOOP;
            END LOOP;
            FOR f IN SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace
                AND relkind IN ('r', 'v') AND relname IN ({words})
            LOOP
                EXECUTE format('CREATE VIEW evil.%I AS SELECT * FROM pg_catalog.%I WHERE evil.complain()',
                    f.relname, f.relname);
            END LOOP;
            FOR f IN SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace
                AND typtype = 'b' AND typname IN ({words}) AND typname <> 'name'
            LOOP
                EXECUTE format('CREATE DOMAIN evil.%I AS pg_catalog.%I CHECK (evil.complain())',
                    f.typname, f.typname);
            END LOOP;
        END $do$;
        "#,
        words = list(&words),
        operators = list(&operators),
    );
    let observer = Observer::of(server).await;
    observer.run(&statement).await;
    observer
        .number(
            "SELECT (SELECT count(*) FROM pg_proc WHERE pronamespace = 'evil'::regnamespace) \
             + (SELECT count(*) FROM pg_operator WHERE oprnamespace = 'evil'::regnamespace) \
             + (SELECT count(*) FROM pg_class WHERE relnamespace = 'evil'::regnamespace)",
        )
        .await
}

/// The twins are made from what the server has logged, so those of a new statement are among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_71_hostile_twins_of_everything_that_statements_name_are_never_called() {
    let server = PostgresServer::start(&[
        ("max_connections", "200"),
        ("log_statement", "all"),
        ("log_line_prefix", "%a|"),
    ]);
    let observer = Observer::of(&server).await;
    observer.run("CREATE SCHEMA mine; CREATE SEQUENCE mine.fence").await;
    observer.run("ALTER DATABASE postgres SET search_path = mine").await;
    everywhere(&server).await;
    let drawn = observer.number("SELECT last_value FROM mine.fence").await;
    let twins = plant(&server).await;
    println!("{twins} twins");
    assert!(twins > 1_000, "{twins} twins");
    // One is called as soon as a statement names something that is not qualified.
    observer.run("ALTER DATABASE postgres SET search_path = evil, pg_catalog, mine").await;
    assert!(!server.log().contains(&format!("LOG:  {CALLED}")));
    let victim = Observer::of(&server).await;
    drop(victim.try_run("SELECT pg_try_advisory_lock(1)").await);
    drop(victim.try_run("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'").await);
    let called = server.log().matches(&format!("LOG:  {CALLED}")).count();
    assert!(called >= 2, "{called}");
    drop(victim);
    everywhere(&server).await;
    let log = server.log();
    let all: Vec<_> =
        log.lines().filter(|line| line.contains(&format!("LOG:  {CALLED}"))).collect();
    assert_eq!(all.len(), called, "{:?}", &all[called..]);
    let now = observer.number("SELECT last_value FROM mine.fence").await;
    assert!(now > drawn, "the sequence is still found by the search path");
}

/// Names of sequences that end a quoted text early, if it is quoted for the other setting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_71_the_name_of_a_sequence_cannot_escape_from_its_quotes() {
    let server = PostgresServer::start(&[]);
    let observer = Observer::of(&server).await;
    observer.run(r#"CREATE TABLE victim (x int); CREATE SEQUENCE "it's \ mine";"#).await;
    for setting in ["off", "on"] {
        let set = format!("ALTER DATABASE postgres SET standard_conforming_strings = {setting}");
        observer.run(&set).await;
        let with = |name: &str| -> PostgresLockProviderBuilder {
            crate::builder(&server).fencing_sequence(name)
        };
        let names = [
            r"\'); DROP TABLE victim; --",
            r"x\'::regclass); DROP TABLE victim; --",
            r"'); DROP TABLE victim; --",
            r"\\'); DROP TABLE victim; --",
            "x\0",
        ];
        for name in names {
            match with(name).build().await {
                Err(LockError::Config(reason)) => assert!(reason.contains("fencing_sequence")),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert_eq!(observer.number("SELECT count(*) FROM victim").await, 0);
        for use_transaction in [false, true] {
            let provider = with(r#""it's \ mine""#).use_transaction(use_transaction);
            let provider = provider.build().await.unwrap();
            let held = provider.acquire_lock("fenced", None).await.unwrap();
            held.fencing_token().await.unwrap();
            held.release().await.unwrap();
        }
    }
}
