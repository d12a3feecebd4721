//! A stream whose write half is never closed, for the cancel protocol.
//!
//! The client library half-closes the connection behind a cancel request. A server does not mind, but
//! pgbouncer takes the end of the stream for the end of its client, and forgets the request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::TryFutureExt;
use futures_util::future::MapOk;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::stream::Stream;

/// A stream that is flushed instead of shut down.
pub(super) struct Unclosed<S>(pub(super) S);

impl<S: AsyncRead + Unpin> AsyncRead for Unclosed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unclosed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Unclosed<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.0.channel_binding()
    }
}

/// Makes such a stream encrypted.
pub(super) struct ConnectUnclosed<C>(pub(super) C);

impl<C: TlsConnect<Stream>> TlsConnect<Unclosed<Stream>> for ConnectUnclosed<C>
where
    C::Stream: Unpin,
{
    type Stream = Unclosed<C::Stream>;
    type Error = C::Error;
    type Future = MapOk<C::Future, fn(C::Stream) -> Unclosed<C::Stream>>;

    fn connect(self, stream: Unclosed<Stream>) -> Self::Future {
        self.0.connect(stream.0).map_ok(Unclosed)
    }
}
