//! Parameters of a connection string that contradict each other, or that nothing would read.

use distributed_lock_core::error::{LockError, LockResult};

use super::endpoint::Endpoint;
use super::parameters::Parameters;
use super::tls::SslMode;

/// What only TCP has.
const OF_TCP: [&str; 5] = [
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "tcp_user_timeout",
];

/// The parameters of encryption that were taken off the others.
pub(super) struct Encryption<'a> {
    /// `None`: not given.
    pub(super) mode: Option<SslMode>,
    /// Given, or by default.
    pub(super) used: SslMode,
    pub(super) root: Option<&'a str>,
}

/// Refuses what would be ignored. That there is no encryption on unix sockets, whatever `sslmode` says, is
/// only warned of, because one `sslmode` often serves many connection strings.
///
/// # Errors
/// [`LockError::Config`], which names the parameters.
pub(super) fn refuse(
    given: &Parameters,
    encryption: &Encryption<'_>,
    hosts: &[Endpoint],
) -> LockResult<()> {
    let are_sockets = hosts.iter().all(Endpoint::is_socket);
    if are_sockets {
        if encryption.mode >= Some(SslMode::Require) {
            tracing::warn!("sslmode requires encryption, and there is none on unix sockets");
        }
        if encryption.root.is_some() {
            return config("sslrootcert has no use: there is no encryption on unix sockets");
        }
        if let Some(name) = OF_TCP.into_iter().find(|name| given.has(name)) {
            return config(format!("{name} is an option of TCP, and all hosts are unix sockets"));
        }
    }
    let is_unencrypted = are_sockets || encryption.used == SslMode::Disable;
    if is_unencrypted && given.get("channel_binding") == Some("require") {
        return config(
            "channel_binding=require needs encryption, which sslmode=disable and unix sockets do not have",
        );
    }
    if given.get("keepalives") == Some("0")
        && let Some(name) = OF_TCP[1..4].iter().find(|name| given.has(name))
    {
        return config(format!(
            "keepalives=0 switches off what {name} sets; leave one of them out"
        ));
    }
    if let (Some("random"), [host]) = (given.get("load_balance_hosts"), hosts)
        && host.is_one_address()
    {
        return config("load_balance_hosts=random has no use with a single address");
    }
    if cfg!(not(any(target_os = "android", target_os = "linux"))) && given.has("tcp_user_timeout") {
        return config("tcp_user_timeout works on Linux and Android only");
    }
    Ok(())
}

fn config<T>(reason: impl Into<String>) -> LockResult<T> {
    Err(LockError::Config(reason.into()))
}
