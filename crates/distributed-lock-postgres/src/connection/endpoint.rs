//! The hosts of a connection string.

use std::fmt;
use std::io;
use std::net::IpAddr;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::sync::Arc;

use distributed_lock_core::error::{LockError, LockResult};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::stream::Address;

/// Where servers listen if nothing is said.
const PORT: u16 = 5432;

/// One of the hosts.
#[derive(Debug)]
pub(super) struct Endpoint {
    host: Option<Host>,
    address: Option<IpAddr>,
    port: u16,
}

impl Endpoint {
    /// Where to connect to.
    pub(super) async fn addresses(&self) -> io::Result<Vec<Address>> {
        match (&self.host, self.address) {
            (_, Some(address)) => Ok(vec![Address::Tcp((address, self.port).into())]),
            #[cfg(unix)]
            (Some(Host::Unix(directory)), None) => Ok(vec![Address::Unix(self.socket(directory))]),
            (Some(Host::Tcp(name)), None) => {
                let found = tokio::net::lookup_host((name.as_str(), self.port)).await?;
                Ok(found.map(Address::Tcp).collect())
            }
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Whether there can be such an address.
    fn check(&self) -> LockResult<()> {
        if self.port == 0 {
            return Err(LockError::Config("port 0 cannot be connected to".into()));
        }
        #[cfg(unix)]
        if let (Some(Host::Unix(directory)), None) = (&self.host, self.address)
            && let Err(error) =
                std::os::unix::net::SocketAddr::from_pathname(self.socket(directory))
        {
            return Err(LockError::Config(format!("no unix socket can have this path: {error}")));
        }
        Ok(())
    }

    #[cfg(unix)]
    fn socket(&self, directory: &Path) -> PathBuf {
        directory.join(format!(".s.PGSQL.{}", self.port))
    }

    /// What its certificate must be for.
    pub(super) fn server_name(&self) -> String {
        match (&self.host, self.address) {
            (Some(Host::Tcp(name)), _) => name.clone(),
            (_, Some(address)) => address.to_string(),
            _ => String::new(),
        }
    }

    /// A unix socket: it has neither encryption nor the options of TCP.
    pub(super) fn is_socket(&self) -> bool {
        #[cfg(unix)]
        return matches!((&self.host, self.address), (Some(Host::Unix(_)), None));
        #[cfg(not(unix))]
        return false;
    }

    /// It has no other address, whatever a name server says.
    pub(super) fn is_one_address(&self) -> bool {
        match (&self.host, self.address) {
            (Some(Host::Tcp(name)), None) => name.parse::<IpAddr>().is_ok(),
            _ => true,
        }
    }

    pub(super) fn is_on_this_machine(&self) -> bool {
        match (&self.host, self.address) {
            (_, Some(address)) => address.is_loopback(),
            (Some(Host::Tcp(name)), None) => match name.parse::<IpAddr>() {
                Ok(address) => address.is_loopback(),
                Err(_) => name.eq_ignore_ascii_case("localhost"),
            },
            _ => true,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.address) {
            (Some(Host::Tcp(name)), _) => write!(f, "{name}:{}", self.port),
            (_, Some(address)) => write!(f, "{address}:{}", self.port),
            #[cfg(unix)]
            (Some(Host::Unix(directory)), None) => {
                write!(f, "{}", self.socket(directory).display())
            }
            (None, None) => write!(f, "port {}", self.port),
        }
    }
}

/// Pairs up hosts, addresses and ports.
pub(super) fn endpoints(config: &Config) -> LockResult<Arc<[Endpoint]>> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let (ports, count) = (config.get_ports(), hosts.len().max(addresses.len()));
    let fits = |length: usize| length == 0 || length == count;
    if count == 0 {
        return Err(LockError::Config("the connection string names no host".into()));
    }
    if !fits(hosts.len()) || !fits(addresses.len()) || !(fits(ports.len()) || ports.len() == 1) {
        return Err(LockError::Config(
            "the connection string names different numbers of hosts, addresses and ports".into(),
        ));
    }
    let endpoint = |at: usize| Endpoint {
        host: hosts.get(at).cloned(),
        address: addresses.get(at).copied(),
        port: ports.get(at).or(ports.first()).copied().unwrap_or(PORT),
    };
    let endpoints: Arc<[Endpoint]> = (0..count).map(endpoint).collect();
    endpoints.iter().try_for_each(Endpoint::check)?;
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_exist_is_a_configuration_mistake() {
        let read = |text: &str| endpoints(&text.parse().unwrap()).map(|hosts| hosts.len());
        assert!(
            matches!(read("host=h port=0"), Err(LockError::Config(why)) if why.contains("port"))
        );
        assert_eq!(read("host=h,/run/pg port=1").unwrap(), 2);
        #[cfg(unix)]
        {
            let long = format!("host=/{}", "x".repeat(100));
            assert!(matches!(read(&long), Err(LockError::Config(why)) if why.contains("socket")));
        }
    }
}
