//! A socket that outlives the runtime that made it.

use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::runtime::{Handle, Id};

use super::message_meter::MessageMeter;

/// Where a server listens.
#[derive(Debug, Clone)]
pub(super) enum Address {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

/// A connection over TCP or a unix socket that may be polled on one runtime after another.
///
/// A socket is registered with the runtime that it was made on, and useless when that has ended. This
/// one looks where it is polled, and registers a duplicate of its descriptor there if that is not
/// where it was polled last. So whoever drives it may move, and what it carries goes on.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    registered_with: Id,
    /// Where the bytes are the server's messages as they are.
    meter: Option<MessageMeter>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub(super) async fn connect(address: &Address) -> io::Result<Self> {
        let registered_with = runtime()?;
        let socket = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Requests are small, and each is waited for.
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            #[cfg(unix)]
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
        };
        Ok(Self { socket, registered_with, meter: None })
    }

    /// The same without encryption: ends with an error when the server answers without end.
    pub(super) fn measured(mut self) -> Self {
        self.meter = Some(MessageMeter::default());
        self
    }

    /// The TCP socket, for its options; none for a unix socket.
    pub(super) fn tcp(&self) -> Option<SockRef<'_>> {
        match &self.socket {
            Socket::Tcp(stream) => Some(SockRef::from(stream)),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        }
    }

    /// One more handle of the same connection.
    pub(super) fn duplicate(&self) -> io::Result<Self> {
        let socket = self.socket.registered_here()?;
        Ok(Self { registered_with: runtime()?, socket, meter: None })
    }

    /// Reads until the other side has closed the connection. With something unread that is a reset.
    pub(super) async fn closed(mut self) -> io::Result<()> {
        let mut ignored = [0; 256];
        loop {
            match self.read(&mut ignored).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The socket, registered with the runtime that asks.
    fn here(&mut self) -> io::Result<&mut Socket> {
        let runtime = runtime()?;
        if runtime != self.registered_with {
            self.socket = self.socket.registered_here()?;
            self.registered_with = runtime;
        }
        Ok(&mut self.socket)
    }
}

impl Socket {
    fn registered_here(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => {
                let duplicate = SockRef::from(stream).try_clone()?;
                TcpStream::from_std(duplicate.into()).map(Self::Tcp)
            }
            #[cfg(unix)]
            Self::Unix(stream) => {
                let duplicate = std::os::fd::AsFd::as_fd(stream).try_clone_to_owned()?;
                UnixStream::from_std(duplicate.into()).map(Self::Unix)
            }
        }
    }
}

/// The runtime that polls.
fn runtime() -> io::Result<Id> {
    Handle::try_current().map(|runtime| runtime.id()).map_err(io::Error::other)
}

/// Does the same with either kind of socket.
macro_rules! with_socket {
    ($stream:expr, $socket:ident => $what:expr) => {
        match $stream.get_mut().here()? {
            Socket::Tcp($socket) => $what,
            #[cfg(unix)]
            Socket::Unix($socket) => $what,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let this = self.as_mut();
        ready!(with_socket!(this, socket => Pin::new(socket).poll_read(context, buffer)))?;
        let Some(meter) = &mut self.meter else { return Poll::Ready(Ok(())) };
        let fits = meter.take(&buffer.filled()[before..]);
        Poll::Ready(fits.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        with_socket!(self, socket => Pin::new(socket).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(self, socket => Pin::new(socket).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_socket!(self, socket => Pin::new(socket).poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Says everything twice, until the other side has finished.
    fn echo_twice(mut socket: impl io::Read + io::Write + Send + 'static) {
        std::thread::spawn(move || {
            let mut word = [0; 4];
            while socket.read_exact(&mut word).is_ok() {
                socket.write_all(&[word, word].concat()).unwrap();
            }
        });
    }

    async fn say(stream: &mut Stream, word: &[u8; 4]) {
        stream.write_all(word).await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *word);
    }

    /// Each read leaves half of the answer unread, so what is on its way must survive the move.
    fn moves_between_runtimes(address: &Address) {
        let first = runtime();
        let mut stream = first.block_on(async {
            let mut stream = Stream::connect(address).await.unwrap();
            say(&mut stream, b"here").await;
            stream
        });
        let second = runtime();
        second.block_on(async {
            stream.read_exact(&mut [0; 4]).await.unwrap();
            say(&mut stream, b"both").await;
        });
        drop(first);
        second.block_on(stream.read_exact(&mut [0; 4])).unwrap();
        // The one that it is registered with.
        drop(second);
        runtime().block_on(async {
            say(&mut stream, b"away").await;
            stream.shutdown().await.unwrap();
            stream.closed().await.unwrap();
        });
    }

    #[test]
    fn tcp_moves_between_runtimes() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        std::thread::spawn(move || echo_twice(listener.accept().unwrap().0));
        moves_between_runtimes(&address);
    }

    #[cfg(unix)]
    #[test]
    fn unix_sockets_move_between_runtimes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || echo_twice(listener.accept().unwrap().0));
        moves_between_runtimes(&Address::Unix(path));
    }

    #[test]
    fn a_plain_socket_does_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let first = runtime();
        let mut stream = first.block_on(TcpStream::connect(address)).unwrap();
        drop(first);
        assert!(runtime().block_on(stream.read_exact(&mut [0; 4])).is_err());
    }

    #[test]
    fn outside_of_a_runtime_it_is_an_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let mut stream = runtime().block_on(Stream::connect(&address)).unwrap();
        let context = &mut Context::from_waker(std::task::Waker::noop());
        let polled = Pin::new(&mut stream).poll_write(context, b"lost");
        assert!(matches!(polled, Poll::Ready(Err(_))));
    }
}
