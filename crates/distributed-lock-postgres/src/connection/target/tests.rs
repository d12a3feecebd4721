//! Connections to private servers.

use std::error::Error;
use std::net::TcpListener;
use std::sync::OnceLock;

use distributed_lock_testkit::servers::{PASSWORD, PostgresServer};
use tokio::runtime::Builder;
use tokio_postgres::error::SqlState;

use super::super::failure::NotConnected;
use super::*;

/// One with TLS, for all tests.
fn with_tls() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(|| PostgresServer::builder().tls().start())
}

/// Pairs for a server.
fn to(server: &PostgresServer, more: &str) -> String {
    format!("host=127.0.0.1 port={} user=postgres password={PASSWORD} {more}", server.port())
}

fn verified(server: &PostgresServer, mode: &str) -> String {
    let authority = server.ca_path().unwrap().display();
    to(server, &format!("sslmode={mode} sslrootcert={authority}"))
}

async fn connect(text: &str) -> LockResult<Client> {
    let (client, wire) = Target::parse(text)?.connect().await?;
    tokio::spawn(wire);
    Ok(client)
}

async fn is_encrypted(text: &str) -> bool {
    let client = connect(text).await.unwrap();
    let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]);
    row.await.unwrap().get(0)
}

async fn refused(text: &str) -> LockError {
    connect(text).await.err().unwrap_or_else(|| panic!("connected: {text}"))
}

/// Everything that an error shows.
fn shown(error: &LockError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text} {cause} {cause:?}");
        source = cause.source();
    }
    text
}

/// What is behind [`LockError::Backend`] and the name of the server.
fn answer<E: Error + 'static>(error: &LockError) -> &E {
    assert!(matches!(error, LockError::Backend(_)), "{}", shown(error));
    let refused = error.find_source::<NotConnected>().and_then(Error::source);
    let answer = refused.and_then(|source| source.downcast_ref());
    answer.unwrap_or_else(|| panic!("{}", shown(error)))
}

fn certificate_error(error: &LockError) -> &rustls::Error {
    let error = source_of::<io::Error>(answer(error)).and_then(io::Error::get_ref);
    error.and_then(|cause| cause.downcast_ref()).expect("an error of TLS")
}

#[tokio::test]
async fn each_sslmode_on_a_server_with_tls() {
    let server = with_tls();
    // Without a mode: not on the loopback interface, unless there is an authority to verify by.
    assert!(!is_encrypted(&to(server, "")).await);
    assert!(!is_encrypted(&to(server, "sslmode=disable")).await);
    assert!(is_encrypted(&to(server, "sslmode=prefer")).await);
    assert!(is_encrypted(&to(server, "sslmode=require")).await);
    for mode in ["require", "verify-ca", "verify-full"] {
        assert!(is_encrypted(&verified(server, mode)).await, "{mode}");
    }
    let authority = server.ca_path().unwrap().display();
    assert!(is_encrypted(&to(server, &format!("sslrootcert={authority}"))).await);
    assert!(is_encrypted(&format!("{}?sslmode=require", server.url())).await);
}

#[tokio::test]
async fn each_sslmode_on_a_server_without_tls() {
    let (plain, tls) = (PostgresServer::shared(), with_tls());
    assert!(!is_encrypted(&to(plain, "sslmode=disable")).await);
    let fallback = Target::parse(&to(plain, "sslmode=prefer")).unwrap();
    assert!(!fallback.warned.load(Ordering::Relaxed));
    drop(fallback.connect().await.unwrap());
    assert!(fallback.warned.load(Ordering::Relaxed), "it is said");
    let authority = tls.ca_path().unwrap().display();
    for more in ["sslmode=require", "sslmode=verify-full", "sslmode=verify-ca sslrootcert="] {
        let more = more.replace("sslrootcert=", &format!("sslrootcert={authority}"));
        let error = refused(&to(plain, &more)).await;
        assert_eq!(answer::<NoEncryption>(&error), &NoEncryption, "{more}");
        assert!(!error.is_retryable());
        assert!(shown(&error).contains("sslmode=disable"), "the remedy: {}", shown(&error));
    }
}

#[tokio::test]
async fn another_authority_is_not_believed() {
    let (server, other) = (with_tls(), PostgresServer::builder().tls().start());
    let authority = other.ca_path().unwrap().display();
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        let text = to(server, &format!("sslmode={mode} sslrootcert={authority}"));
        let error = refused(&text).await;
        let rustls::Error::InvalidCertificate(_) = certificate_error(&error) else {
            panic!("{mode}: {}", shown(&error))
        };
    }
    // Nor are the machine's.
    let error = refused(&to(server, "sslmode=verify-full sslrootcert=system")).await;
    assert!(matches!(certificate_error(&error), rustls::Error::InvalidCertificate(_)));
}

#[tokio::test]
async fn the_name_counts_with_verify_full_only() {
    let server = with_tls();
    let elsewhere = |mode| verified(server, mode).replace("host=", "host=elsewhere.test hostaddr=");
    for mode in ["prefer", "require", "verify-ca"] {
        assert!(is_encrypted(&elsewhere(mode)).await, "{mode}");
    }
    let error = refused(&elsewhere("verify-full")).await;
    let rustls::Error::InvalidCertificate(reason) = certificate_error(&error) else {
        panic!("{}", shown(&error))
    };
    assert!(matches!(
        reason,
        rustls::CertificateError::NotValidForName
            | rustls::CertificateError::NotValidForNameContext { .. }
    ));
    assert!(shown(&error).contains("elsewhere.test"));
    let localhost = verified(server, "verify-full").replace("127.0.0.1", "localhost");
    assert!(is_encrypted(&localhost).await);
}

#[test]
fn what_would_protect_nothing_is_refused() {
    let refused = |text: &str| match Target::parse(text) {
        Err(LockError::Config(reason)) => reason,
        other => panic!("{text}: {other:?}"),
    };
    assert!(refused("host=h sslmode=allow").contains("never protects"));
    assert!(refused("host=h sslmode=yes").contains("verify-full"));
    assert!(refused("host=h sslmode=verify-ca").contains("sslrootcert"));
    assert!(refused("host=h sslmode=require sslrootcert=system").contains("verify-full"));
    assert!(refused("host=h sslmode=disable sslrootcert=system").contains("no use"));
    assert!(refused("host=h sslmode=prefer sslnegotiation=direct").contains("requires encryption"));
    assert!(refused("host=h sslrootcert=/no/such/file").contains("/no/such/file"));
    let no_certificate = concat!("host=h sslrootcert=", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert!(refused(no_certificate).contains("no certificate"));
    assert!(refused("user=u").contains("no host"));
    assert!(refused("host=a,b port=1,2,3").contains("different numbers"));
    assert!(refused("host=a,b hostaddr=127.0.0.1").contains("different numbers"));
}

#[test]
fn the_way_to_other_machines_is_verified_unless_something_else_is_said() {
    let mode = |text: &str| Target::parse(text).unwrap().tls.mode();
    for text in [
        "postgres://localhost",
        "postgres://127.1.2.3,[::1]",
        "host=/run",
        "host=h hostaddr=::1",
        "host=LOCALHOST,/run",
    ] {
        assert_eq!(mode(text), SslMode::Disable, "{text}");
    }
    for text in
        ["postgres://db.test", "postgres://localhost,10.0.0.1", "host=localhost hostaddr=10.0.0.1"]
    {
        assert_eq!(mode(text), SslMode::VerifyFull, "{text}");
        assert_eq!(mode(&text.replace("postgres://", "postgresql://")), SslMode::VerifyFull);
    }
    assert_eq!(mode("postgres://db.test?sslmode=disable"), SslMode::Disable);
}

#[tokio::test]
async fn a_wrong_password_is_not_shown_and_its_server_is() {
    let server = PostgresServer::shared();
    let wrong = to(server, "").replace(PASSWORD, "mistaken-password");
    let target = Target::parse(&wrong).unwrap();
    let error = target.connect().await.map(drop).unwrap_err();
    let refusal: &tokio_postgres::Error = answer(&error);
    assert_eq!(refusal.code(), Some(&SqlState::INVALID_PASSWORD));
    let everything = format!("{} {target:?} {target:#?}", shown(&error));
    assert!(!everything.contains("mistaken-password"), "{everything}");
    assert!(everything.contains(&format!("127.0.0.1:{}", server.port())));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_missing_password_is_a_mistake_that_is_named_at_once() {
    let server = PostgresServer::shared();
    for more in ["", "sslmode=prefer"] {
        let text = to(server, more).replace(&format!("password={PASSWORD}"), "");
        match refused(&text).await {
            LockError::Config(reason) => {
                assert!(reason.contains("asks for a password"), "{reason}");
                assert!(reason.contains(&server.address().to_string()), "{reason}");
            }
            other => panic!("{}", shown(&other)),
        }
    }
}

/// The first host or address that refuses is what is reported, whatever the others do.
#[tokio::test]
async fn a_refusal_is_not_hidden_by_a_host_that_does_not_answer() {
    let server = PostgresServer::shared();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for ports in [[server.port(), port], [port, server.port()]] {
        let [first, second] = ports;
        let text = format!(
            "host=127.0.0.1,127.0.0.1 port={first},{second} user=postgres password=mistaken"
        );
        let error = refused(&text).await;
        let refusal: &tokio_postgres::Error = answer(&error);
        assert_eq!(refusal.code(), Some(&SqlState::INVALID_PASSWORD), "{}", shown(&error));
        assert!(error.is_retryable(), "the other host may come back");
    }
    let both = format!(
        "host=127.0.0.1,127.0.0.1 port={0},{0} user=postgres password=mistaken",
        server.port()
    );
    assert!(!refused(&both).await.is_retryable());
    // One name with two addresses, of which the server listens on one.
    let text = to(server, "dbname=nowhere").replace("127.0.0.1", "localhost");
    let error = refused(&text).await;
    let refusal: &tokio_postgres::Error = answer(&error);
    assert_eq!(refusal.code(), Some(&SqlState::INVALID_CATALOG_NAME), "{}", shown(&error));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn nobody_there_is_a_connection_error() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for text in [format!("host=127.0.0.1 port={port} user=u"), "host=/no/such user=u".to_owned()] {
        let error = refused(&text).await;
        assert!(matches!(error, LockError::Connection(_)), "{}", shown(&error));
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn the_first_of_several_hosts_may_be_dead_or_silent() {
    let server = PostgresServer::shared();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [dead, silent.local_addr().unwrap().port()] {
        let hosts = format!("@127.0.0.1:{port},127.0.0.1:{}/", server.port());
        let url = server.url().replace(&format!("@127.0.0.1:{}/", server.port()), &hosts);
        let target = Target::parse(&url).unwrap();
        let began = tokio::time::Instant::now();
        drop(target.connect().await.unwrap());
        assert!(began.elapsed() < 2 * PATIENCE);
        let began = tokio::time::Instant::now();
        drop(target.clone().connect().await.unwrap());
        assert!(began.elapsed() < PATIENCE, "the host that answered is asked first");
    }
}

#[tokio::test]
async fn a_silent_host_is_passed_over_by_whoever_tries_next() {
    let server = PostgresServer::shared();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = format!("port={},{}", silent.local_addr().unwrap().port(), server.port());
    let text = format!("host=127.0.0.1,127.0.0.1 {ports} user=postgres password={PASSWORD}");
    let target = Target::parse(&text).unwrap();
    assert!(tokio::time::timeout(PATIENCE / 5, target.connect()).await.is_err());
    drop(tokio::time::timeout(PATIENCE, target.connect()).await.unwrap().unwrap());
}

#[tokio::test]
async fn of_several_hosts_one_to_write_to_is_wanted() {
    let read_only = PostgresServer::start(&[("default_transaction_read_only", "on")]);
    let server = PostgresServer::shared();
    let both = |more: &str| {
        format!(
            "host=127.0.0.1,127.0.0.1 port={},{} user=postgres password={PASSWORD} {more}",
            read_only.port(),
            server.port()
        )
    };
    let port_of = async |text: &str| {
        let client = connect(text).await.unwrap();
        let row = client.query_one("SELECT inet_server_port()", &[]).await.unwrap();
        u16::try_from(row.get::<_, i32>(0)).unwrap()
    };
    assert_eq!(port_of(&both("")).await, server.port());
    assert_eq!(port_of(&both("target_session_attrs=any")).await, read_only.port());
    assert_eq!(port_of(&both("target_session_attrs=read-only")).await, read_only.port());
    // One host is taken as it is, unless something is said.
    assert_eq!(port_of(&to(&read_only, "")).await, read_only.port());
    let error = refused(&to(&read_only, "target_session_attrs=read-write")).await;
    assert_eq!(answer::<WrongAttributes>(&error), &WrongAttributes);
    assert!(error.is_retryable(), "it may be promoted");
    let mut seen = [false; 2];
    for _ in 0..64 {
        let port = port_of(&both("target_session_attrs=any load_balance_hosts=random")).await;
        seen[usize::from(port == server.port())] = true;
    }
    assert_eq!(seen, [true; 2]);
}

#[tokio::test]
async fn unix_sockets_are_servers_too() {
    let server = PostgresServer::start(&[("unix_socket_directories", ".")]);
    let directory = server.directory().join("data");
    let text = to(&server, "").replace("127.0.0.1", &directory.display().to_string());
    // There is no TLS on them.
    for more in ["", "sslmode=verify-full"] {
        let client = connect(&format!("{text}{more}")).await.unwrap();
        let row = client.query_one("SELECT inet_server_port() IS NULL", &[]).await.unwrap();
        assert!(row.get::<_, bool>(0));
    }
    let url = format!(
        "postgres://postgres:{PASSWORD}@{}:{}/postgres",
        directory.display().to_string().replace('/', "%2F"),
        server.port()
    );
    connect(&url).await.unwrap();
}

#[tokio::test]
async fn the_server_shows_an_application_name() {
    let server = PostgresServer::shared();
    let named = async |target: Target| {
        let (client, wire) = target.connect().await.unwrap();
        tokio::spawn(wire);
        let row = client.query_one("SELECT current_setting('application_name')", &[]).await;
        row.unwrap().get::<_, String>(0)
    };
    assert_eq!(named(Target::parse(&server.url()).unwrap()).await, "distributed-lock");
    let text = format!("{}?application_name=mine", server.url());
    let target = Target::parse(&text).unwrap();
    assert_eq!(named(target.clone()).await, "mine");
    assert_eq!(named(target.clone().with_application_name("mine").unwrap()).await, "mine");
    let error = target.with_application_name("better").unwrap_err();
    assert!(matches!(error, LockError::Config(_)), "{error:?}");
    let target = Target::parse(&server.url()).unwrap().with_application_name("better");
    assert_eq!(named(target.unwrap()).await, "better");
}

#[tokio::test]
async fn dead_links_are_looked_for() {
    let server = PostgresServer::shared();
    let open = async |more: &str| {
        let target = Target::parse(&to(server, more)).unwrap();
        let address = Address::Tcp(([127, 0, 0, 1], server.port()).into());
        target.open(&address).await.unwrap()
    };
    let stream = open("").await;
    let socket = stream.tcp().unwrap();
    assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
    #[cfg(target_os = "linux")]
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(TCP_USER_TIMEOUT));

    let stream = open("keepalives_idle=7 keepalives_interval=3 keepalives_retries=4").await;
    let socket = stream.tcp().unwrap();
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(3));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
    let stream = open("keepalives=0 tcp_user_timeout=0").await;
    assert!(!stream.tcp().unwrap().keepalive().unwrap());
    #[cfg(target_os = "linux")]
    assert_eq!(stream.tcp().unwrap().tcp_user_timeout().unwrap(), None);
}

#[test]
fn an_encrypted_session_outlives_its_runtime() {
    let text = verified(with_tls(), "verify-full");
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (client, mut wire) = first.block_on(Target::parse(&text).unwrap().connect()).unwrap();
    drop(first);
    for _ in 0..3 {
        runtime().block_on(async {
            tokio::select! {
                row = client.query_one("SELECT repeat('x', 100000)", &[]) => {
                    assert_eq!(row.unwrap().get::<_, String>(0).len(), 100_000);
                }
                ended = &mut wire => panic!("{ended:?}"),
            }
        });
    }
}

/// With `CancelToken::cancel_query` most of these rounds end in a statement that was hit too late.
#[tokio::test]
async fn a_cancellation_never_hits_the_next_statement() {
    let plain = Target::parse(&to(PostgresServer::shared(), "")).unwrap();
    let tls = Target::parse(&verified(with_tls(), "verify-full")).unwrap();
    let mut cancelled = 0;
    for target in [plain, tls] {
        let (client, wire) = target.connect().await.unwrap();
        tokio::spawn(wire);
        let token = client.cancel_token();
        // In seconds: about as long as a cancellation takes on this machine now.
        let mut about: f64 = 0.005;
        for round in 0..100 {
            let duration = format!("SELECT pg_sleep({})", about * f64::from(round % 10) / 5.0);
            let (slept, ()) = tokio::join!(client.batch_execute(&duration), async {
                target.cancel(&token).await.unwrap();
            });
            match slept {
                Ok(()) => about = (about * 1.25).min(0.2),
                Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                    about *= 0.8;
                    cancelled += 1;
                }
                Err(error) => panic!("{error:?}"),
            }
            client.batch_execute("SELECT").await.expect("nobody has cancelled this one");
        }
    }
    assert!(cancelled > 50, "only {cancelled} of 200 were cancelled at all");
}
