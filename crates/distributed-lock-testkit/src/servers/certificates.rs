//! A certificate for a server, and the authority that signs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account;

/// What the server's certificate is for.
const NAMES: &str = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n";

/// Files of PEM, in the server's directory. They are valid for two days.
#[derive(Debug)]
pub(super) struct Certificates {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificates {
    /// Makes them, by `openssl`.
    pub(super) fn make(directory: &Path) -> Self {
        fs::write(directory.join("names"), NAMES).expect("the directory is ours");
        let openssl = |arguments: &str| {
            let mut program = Command::new("openssl");
            program.args(arguments.split_whitespace()).current_dir(directory);
            let output = program.output().unwrap_or_else(|error| panic!("openssl: {error}"));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program:?}: {said}");
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=tests -days 2"));
        openssl(&format!("req -new {key} -keyout server.key -out server.csr -subj /CN=localhost"));
        openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile names -out server.pem",
        );
        let path = |name| directory.join(name);
        let (authority, certificate, key) =
            (path("ca.pem"), path("server.pem"), path("server.key"));
        [&authority, &certificate, &key].into_iter().for_each(|file| account::give(file));
        Self { authority, certificate, key }
    }

    pub(super) fn authority(&self) -> &Path {
        &self.authority
    }

    pub(super) fn certificate(&self) -> &Path {
        &self.certificate
    }

    pub(super) fn key(&self) -> &Path {
        &self.key
    }
}
