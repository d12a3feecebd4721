//! Ports that nobody else uses, now or between a server's death and its restart.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use super::cache;

/// Below those that the kernel gives to clients: one of these might take the port of a server that is
/// down.
const PORTS: Range<u16> = 15_000..32_000;

/// A port on the loopback interface, claimed against other test processes until it is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Locked.
    _claim: File,
}

impl Port {
    /// Claims one that is free.
    pub(crate) fn claim() -> Self {
        let directory = cache::directory().join("ports");
        fs::create_dir_all(&directory).expect("a directory for claims");
        for _ in PORTS {
            let number = next();
            let file = File::create(directory.join(number.to_string())).expect("a file to lock");
            let port = Self { number, _claim: file };
            if port._claim.try_lock().is_ok() && !port.is_taken() {
                return port;
            }
        }
        panic!("no port is free");
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Whether somebody listens on it. (To listen there ourselves would be in the server's way: a
    /// child that another thread is just starting would do so, too, for a moment longer.)
    pub(crate) fn is_taken(&self) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.number)).is_ok()
    }
}

/// Test processes begin at different ones.
fn next() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let range = u32::from(PORTS.end - PORTS.start);
    let tried = u32::from(TRIED.fetch_add(1, Ordering::Relaxed));
    let offset = (std::process::id().wrapping_mul(97).wrapping_add(tried)) % range;
    PORTS.start + u16::try_from(offset).expect("less than the range")
}
