//! Accepts every connection at once, and ends each after a while: a client that says nothing, or
//! too slowly, costs one of few places for a short time. See [`super::places`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep_until};

use super::places::{Limits, Place, Places, Standing};

/// A listener whose connections have places.
pub(super) struct BoundedListener {
    listener: TcpListener,
    places: Places,
}

impl BoundedListener {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self::with(listener, Limits::default())
    }

    fn with(listener: TcpListener, limits: Limits) -> Self {
        Self { listener, places: Places::new(limits) }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let now = Instant::now();
        let place = self.places.enter(address.ip(), now);
        (BoundedStream { stream, end: Box::pin(sleep_until(now)), place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends by itself.
pub(super) struct BoundedStream {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    place: Arc<Place>,
}

impl BoundedStream {
    fn over(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let end = match self.place.look(cx.waker()) {
            Standing::Until(end) => end,
            Standing::GaveWay => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        if self.end.deadline() != end {
            self.end.as_mut().reset(end);
        }
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.over(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.over(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.place.took(Instant::now());
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What a request knows of the connection it came through.
#[derive(Clone, Debug)]
pub(super) struct Connection(pub(super) Arc<Place>);

impl Connected<IncomingStream<'_, BoundedListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        Self(Arc::clone(&stream.io().place))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    async fn bound(waiting: usize, wait_ms: u64) -> (BoundedListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits { waiting, wait: Duration::from_millis(wait_ms), life: LONG };
        (BoundedListener::with(listener, limits), address)
    }

    #[tokio::test]
    async fn a_silent_client_holds_its_place_for_a_bounded_time() {
        let (mut listener, address) = bound(4, 200).await;
        let _silent = TcpStream::connect(address).await.unwrap();
        let (mut first, _) = timeout(LONG, listener.accept()).await.unwrap();
        let error = timeout(LONG, first.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn the_oldest_silent_client_gives_way_at_once() {
        let (mut listener, address) = bound(1, 60_000).await;
        let _silent = TcpStream::connect(address).await.unwrap();
        let (mut first, _) = timeout(LONG, listener.accept()).await.unwrap();
        let read = tokio::spawn(async move { first.read_u8().await });
        tokio::task::yield_now().await;

        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"hello").await.unwrap();
        let (mut second, _) = timeout(LONG, listener.accept()).await.unwrap();
        let error = timeout(LONG, read).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        let mut greeting = [0; 5];
        timeout(LONG, second.read_exact(&mut greeting)).await.unwrap().unwrap();
        assert_eq!(&greeting, b"hello");
    }
}
