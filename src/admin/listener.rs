//! Accepts every connection at once, and ends each after a while: a client that says nothing, or
//! too slowly, costs one of few places for a short time. See [`super::places`].
//!
//! The HTTP library dates its answers, also where the header is turned off, and panics at times that
//! have no such date. Who calls then is told so before the library sees the connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep_until};

use super::places::{Limits, Place, Places, Standing};

/// From 1970 to the end of 9999, in seconds: what the date of an answer can say.
const DATES: u64 = 253_402_300_800;
/// Of a request that is answered before it is read, at most so much is taken, so that its sender does
/// not lose the answer.
const UNREAD_BYTES: u64 = 64 << 10;
const NO_DATE: &str = "{\"error\":\"this machine's clock is before 1970 or after 9999, and answers \
    over HTTP need a date: set the clock\"}\n";

/// A listener whose connections have places.
pub(super) struct BoundedListener {
    listener: TcpListener,
    places: Places,
    clock: fn() -> SystemTime,
}

impl BoundedListener {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self::with(listener, Limits::default())
    }

    fn with(listener: TcpListener, limits: Limits) -> Self {
        Self { listener, places: Places::new(limits), clock: SystemTime::now }
    }

    fn has_a_date(&self) -> bool {
        let since = (self.clock)().duration_since(UNIX_EPOCH);
        since.is_ok_and(|since| since < Duration::from_secs(DATES))
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            let now = Instant::now();
            let place = self.places.enter(address.ip(), now);
            let stream = BoundedStream { stream, end: Box::pin(sleep_until(now)), place };
            if self.has_a_date() {
                return (stream, address);
            }
            tokio::spawn(refuse(stream));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Says why nothing else is answered.
async fn refuse(mut stream: BoundedStream) -> io::Result<()> {
    let head = "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\n\
                connection: close\r\ncontent-length: ";
    let answer = format!("{head}{}\r\n\r\n{NO_DATE}", NO_DATE.len());
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(UNREAD_BYTES);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(drop)
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

    /// The library would panic with each request, and its sender would learn nothing.
    #[tokio::test]
    async fn who_calls_at_a_time_without_a_date_is_told_so() {
        let past: fn() -> SystemTime = || UNIX_EPOCH - Duration::from_secs(1);
        let future: fn() -> SystemTime = || UNIX_EPOCH + Duration::from_secs(DATES);
        for clock in [past, future] {
            let (mut listener, address) = bound(4, 60_000).await;
            listener.clock = clock;
            let accepting = tokio::spawn(async move { listener.accept().await });
            let mut caller = TcpStream::connect(address).await.unwrap();
            caller.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            timeout(LONG, caller.read_to_string(&mut answer)).await.unwrap().unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(
                head.starts_with("HTTP/1.1 500 ") && body.ends_with("set the clock\"}\n"),
                "{answer}"
            );
            let length = format!("content-length: {}", body.len());
            assert!(head.lines().any(|line| line == length), "{head}");
            assert!(!accepting.is_finished(), "nobody else sees the connection");
            accepting.abort();
        }
    }
}
