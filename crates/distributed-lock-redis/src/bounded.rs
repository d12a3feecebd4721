//! Connections that take no more from a server than a reply to a lock can need.
//!
//! The client library collects a reply until it is complete, however long the server says that it is.
//! Here a longer one ends the connection. Connections with TLS are the client library's own: a server that
//! has shown its certificate is not bounded.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::select_ok;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, RedisResult};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::reply_meter::ReplyMeter;

/// Drives a connection until it is dropped.
pub(crate) struct Driving(Option<JoinHandle<()>>);

impl Drop for Driving {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Connects, on the runtime that it is called on. `ended` is called when the connection has ended.
pub(crate) async fn connect(
    client: &Client,
    config: &AsyncConnectionConfig,
    ended: impl FnOnce() + Send + 'static,
) -> RedisResult<(MultiplexedConnection, Driving)> {
    let settings = client.get_connection_info().redis_settings();
    Ok(match open(client).await? {
        Some(stream) => {
            let connecting =
                MultiplexedConnection::new_with_config(settings, stream, config.clone());
            let (connection, driver) = connecting.await?;
            let driving = tokio::spawn(async move {
                driver.await;
                ended();
            });
            (connection, Driving(Some(driving)))
        }
        None => (client.get_multiplexed_async_connection_with_config(config).await?, Driving(None)),
    })
}

/// A connection for messages alone.
pub(crate) async fn connect_for_messages(client: &Client) -> RedisResult<PubSub> {
    match open(client).await? {
        Some(stream) => PubSub::new(client.get_connection_info().redis_settings(), stream).await,
        None => client.get_async_pubsub().await,
    }
}

/// `None` for TLS.
async fn open(client: &Client) -> RedisResult<Option<Bounded>> {
    let info = client.get_connection_info();
    let stream: Box<dyn ByteStream> = match info.addr() {
        ConnectionAddr::Tcp(host, port) => {
            let connect = |address| Box::pin(TcpStream::connect(address));
            let addresses = tokio::net::lookup_host((host.as_str(), *port)).await?;
            let mut connecting = addresses.map(connect).peekable();
            if connecting.peek().is_none() {
                return Err(
                    io::Error::new(io::ErrorKind::NotFound, "the name has no address").into()
                );
            }
            let (stream, _) = select_ok(connecting).await?;
            let (settings, socket) = (info.tcp_settings(), SockRef::from(&stream));
            socket.set_tcp_nodelay(settings.nodelay())?;
            if let Some(keepalive) = settings.keepalive() {
                socket.set_tcp_keepalive(keepalive)?;
            }
            #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
            if settings.user_timeout().is_some() {
                socket.set_tcp_user_timeout(settings.user_timeout())?;
            }
            Box::new(stream)
        }
        #[cfg(unix)]
        ConnectionAddr::Unix(path) => Box::new(tokio::net::UnixStream::connect(path).await?),
        _ => return Ok(None),
    };
    Ok(Some(Bounded { stream, meter: ReplyMeter::default() }))
}

trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// Ends with an error when a reply is too long.
struct Bounded {
    stream: Box<dyn ByteStream>,
    meter: ReplyMeter,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let fits = self.meter.take(&buffer.filled()[before..]);
        Poll::Ready(fits.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
