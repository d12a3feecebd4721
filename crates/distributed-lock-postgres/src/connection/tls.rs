//! Encryption of connections, and whom to believe.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use distributed_lock_core::error::{LockError, LockResult};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::stream::Stream;

/// The protocol's name, which servers from 17 on insist on if they are not asked for TLS first.
const PROTOCOL: &[u8] = b"postgresql";

/// What `sslmode` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SslMode {
    /// No encryption.
    Disable,
    /// Encryption if the server can.
    Prefer,
    /// Encryption. The server's certificate must be signed by `sslrootcert`, if that is given.
    Require,
    /// The certificate must be signed by `sslrootcert`.
    VerifyCa,
    /// The certificate must be signed by an authority we trust, and for the server's name.
    VerifyFull,
}

impl SslMode {
    pub(super) fn parse(text: &str) -> LockResult<Self> {
        match text {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            "allow" => Err(LockError::Config(
                "sslmode=allow tries without encryption first, so it never protects anything; use \
                 disable, or prefer, or better verify-full"
                    .into(),
            )),
            _ => Err(LockError::Config(
                "unknown sslmode; known are disable, prefer, require, verify-ca and verify-full"
                    .into(),
            )),
        }
    }
}

/// How connections are encrypted.
#[derive(Clone)]
pub(super) struct Tls {
    mode: SslMode,
    connect: MakeRustlsConnect,
}

impl Tls {
    /// `root` is the value of `sslrootcert`.
    pub(super) fn new(mode: SslMode, root: Option<&str>) -> LockResult<Self> {
        let roots = match (mode, root) {
            (SslMode::Disable, Some(_)) => {
                return config("sslrootcert has no use with sslmode=disable");
            }
            (SslMode::VerifyFull, None | Some("system")) => Some(system_roots()?),
            (SslMode::VerifyCa, None) | (_, Some("system")) => {
                return config(
                    "without a look at the server's name any certificate from a public authority would \
                     do: name your authority's file in sslrootcert, or use sslmode=verify-full",
                );
            }
            (_, Some(file)) => Some(roots_of(Path::new(file))?),
            (_, None) => None,
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| LockError::Config(format!("TLS: {error}")))?;
        let mut config = match roots {
            Some(roots) if mode == SslMode::VerifyFull => {
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            roots => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName::new(roots, &provider)))
                .with_no_client_auth(),
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self { mode, connect: MakeRustlsConnect::new(config) })
    }

    pub(super) fn mode(&self) -> SslMode {
        self.mode
    }

    /// For one connection to the server of this name.
    pub(super) fn connector(&self, server_name: &str) -> Connector {
        let Ok(connect) =
            MakeTlsConnect::<Stream>::make_tls_connect(&mut self.connect.clone(), server_name);
        Connector { connect, used: Arc::default() }
    }
}

type Rustls = <MakeRustlsConnect as MakeTlsConnect<Stream>>::TlsConnect;

/// A stream with encryption.
pub(super) type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Stream>>::Stream;

/// Makes one stream encrypted, if the server can do that.
pub(super) struct Connector {
    connect: Rustls,
    used: Arc<AtomicBool>,
}

impl Connector {
    /// Becomes true if the server can, before it is known whether the encryption is any good.
    pub(super) fn used(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.used)
    }
}

impl TlsConnect<Stream> for Connector {
    type Stream = TlsStream;
    type Error = io::Error;
    type Future = <Rustls as TlsConnect<Stream>>::Future;

    fn connect(self, stream: Stream) -> Self::Future {
        self.used.store(true, Ordering::Relaxed);
        self.connect.connect(stream)
    }
}

/// Believes certificates whatever name they are for: any at all, or those signed by these roots.
#[derive(Debug)]
struct AnyName {
    roots: Option<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyName {
    fn new(roots: Option<RootCertStore>, provider: &CryptoProvider) -> Self {
        Self { roots, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The authorities that this machine trusts.
fn system_roots() -> LockResult<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let roots = store(found.certs);
    if roots.is_empty() {
        let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return config(format!(
            "no certificates of authorities on this machine ({}): install ca-certificates, or name a \
             file in sslrootcert",
            reasons.join("; ")
        ));
    }
    Ok(roots)
}

/// The authorities in a file of PEM.
fn roots_of(file: &Path) -> LockResult<RootCertStore> {
    let refused = |reason: String| config(format!("sslrootcert {}: {reason}", file.display()));
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) => return refused(error.to_string()),
    };
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    match certificates.map(store) {
        Ok(roots) if roots.is_empty() => refused("there is no certificate in it".into()),
        Ok(roots) => Ok(roots),
        Err(error) => refused(error.to_string()),
    }
}

fn store(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    roots
}

fn config<T>(reason: impl Into<String>) -> LockResult<T> {
    Err(LockError::Config(reason.into()))
}
