//! A role with exactly the grants that `docs/security.md` lists passes the conformance suite.

use std::sync::OnceLock;

use distributed_lock_core::error::LockResult;
use distributed_lock_postgres::PostgresLockProvider;
use distributed_lock_testkit::servers::PostgresServer;
use distributed_lock_testkit::{Backend, conformance};

conformance!(concrete least: Least, with readers_writer, with semaphore, with fencing);

const SECURITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
const PASSWORD: &str = "of-the-role";

/// One with the documented role, whose grants are on the database `postgres` here.
fn server() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(|| {
        let page = std::fs::read_to_string(SECURITY).unwrap();
        let (_, grants) = page.split_once("```sql\n").unwrap();
        let (grants, _) = grants.split_once("```").unwrap();
        let grants =
            grants.replace("PASSWORD '", "PASSWORD '\u{1}").replace("\u{1}PASSWORD", PASSWORD);
        let server = PostgresServer::start(&[("max_connections", "300")]);
        for grant in grants.replace("lockdb", "postgres").split_terminator(";\n") {
            server.psql(grant).unwrap();
        }
        server
    })
}

fn url() -> String {
    format!("postgres://app:{PASSWORD}@{}/postgres", server().address())
}

struct Least;

impl Backend for Least {
    type Provider = PostgresLockProvider;

    async fn connect(&self) -> PostgresLockProvider {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> LockResult<PostgresLockProvider> {
        let builder = PostgresLockProvider::builder().connection_string(url());
        builder.fencing_sequence("locks.fencing").build().await
    }
}

#[tokio::test]
async fn the_role_can_do_nothing_else() {
    let config: tokio_postgres::Config = format!("{}?sslmode=disable", url()).parse().unwrap();
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for refused in [
        "CREATE TABLE public.t ()",
        "CREATE TEMPORARY TABLE t ()",
        "CREATE SCHEMA mine",
        "CREATE TABLE locks.t ()",
        "SELECT setval('locks.fencing', 1)",
        "ALTER SEQUENCE locks.fencing RESTART",
        "CREATE ROLE other",
    ] {
        let error = client.batch_execute(refused).await.unwrap_err();
        let code = error.code().unwrap_or_else(|| panic!("{refused}: {error:?}"));
        assert_eq!(code.code(), "42501", "{refused}: {error}");
    }
}
