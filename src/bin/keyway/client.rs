//! A small HTTP client for a node's admin port: one request, one answer, bounded in time and size.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use keyway::admin::report::ErrorReport;

use super::{FAILED, Failure, REFUSED};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The whole answer must be there by then.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Far above what a cluster of thousands needs.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// The body of an answer that says yes.
    pub(crate) fn accepted(self, admin: &str) -> Result<String, Failure> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        Err(match serde_json::from_str::<ErrorReport>(&self.body) {
            Ok(report) if report.known.is_empty() => Failure::new(FAILED, report.error),
            Ok(report) => {
                let known = report.known.join(", ");
                Failure::new(FAILED, format!("{}; there is: {known}", report.error))
            }
            Err(_) => strange(admin, &format!("status {}", self.status)),
        })
    }
}

/// What answers, but not as a node does.
pub(crate) fn strange(admin: &str, what: &str) -> Failure {
    let text = format!("what answers at {admin} is no keyway node's admin port: {what}");
    Failure::new(FAILED, text)
}

pub(crate) fn get(admin: &str, path: &str) -> Result<Answer, Failure> {
    request("GET", admin, path)
}

pub(crate) fn post(admin: &str, path: &str) -> Result<Answer, Failure> {
    request("POST", admin, path)
}

fn request(method: &str, admin: &str, path: &str) -> Result<Answer, Failure> {
    let mut stream = connect(admin)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {admin}\r\nuser-agent: keyway\r\n\
         content-length: 0\r\nconnection: close\r\n\r\n"
    );
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let broken = |error: std::io::Error| {
        Failure::new(FAILED, format!("the node at {admin} did not answer: {error}"))
    };
    stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(broken)?;
    stream.write_all(head.as_bytes()).map_err(broken)?;
    let mut bytes = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(broken(std::io::ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(left)).map_err(broken)?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) if bytes.len() + count > MAX_ANSWER_BYTES => {
                return Err(strange(admin, "its answer is too long"));
            }
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(broken(std::io::ErrorKind::TimedOut.into()));
            }
            Err(error) => return Err(broken(error)),
        }
    }
    parse(&bytes).ok_or_else(|| strange(admin, "its answer is no HTTP"))
}

fn connect(admin: &str) -> Result<TcpStream, Failure> {
    let addresses: Vec<SocketAddr> = admin
        .to_socket_addrs()
        .map_err(|error| {
            let text = format!("--admin {admin} is no address: {error}; write HOST:PORT");
            Failure::new(REFUSED, text)
        })?
        .collect();
    let mut why = String::new();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = error.to_string(),
        }
    }
    let text = format!(
        "no keyway node answers at {admin} ({why}); start one with `keyway node --admin {admin}`, \
         or say with --admin where it is"
    );
    Err(Failure::new(FAILED, text))
}

/// Takes an answer apart that ended with its connection.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next()?.strip_prefix("HTTP/1.")?;
    let status = status_line.split(' ').nth(1)?.parse().ok()?;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        // A body that was cut off must not pass for a whole one.
        if name.eq_ignore_ascii_case("content-length") {
            let length: usize = value.trim().parse().ok()?;
            return (body.len() == length).then(|| Answer { status, body: body.to_owned() });
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        }
    }
    Some(Answer { status, body: body.to_owned() })
}

/// Makes any text part of a path or query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let whole = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}";
        let answer = parse(whole).unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "{}"));
        for broken in [
            &whole[..whole.len() - 1],
            b"HTTP/1.1 200 OK\r\n",
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1 huh OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"\xff\xfe",
            b"",
        ] {
            assert!(parse(broken).is_none(), "{broken:?}");
        }
    }

    #[test]
    fn texts_are_encoded() {
        assert_eq!(encode("a b/ü?&=%~"), "a%20b%2F%C3%BC%3F%26%3D%25~");
    }
}
