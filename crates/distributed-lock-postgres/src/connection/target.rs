use distributed_lock_core::error::{LockError, LockResult};
pub(crate) struct Target(tokio_postgres::Config);
pub(crate) type Wire =
    tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>;
impl Target {
    pub(crate) fn parse(s: &str) -> LockResult<Self> {
        let mut c: tokio_postgres::Config =
            s.parse().map_err(|_| LockError::Config("bad".into()))?;
        c.ssl_mode(tokio_postgres::config::SslMode::Disable);
        Ok(Self(c))
    }
    pub(crate) fn with_application_name(mut self, n: &str) -> Self {
        self.0.application_name(n);
        self
    }
    pub(crate) async fn connect(&self) -> LockResult<(tokio_postgres::Client, Wire)> {
        self.0.connect(tokio_postgres::NoTls).await.map_err(crate::error::classify)
    }
}
