//! Bodies that are sent to the admin port, which needs none.
#![cfg(feature = "admin")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use keyway::Node;

/// The status and the rest of the answer to this.
fn answer(to: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request).unwrap();
    let mut text = Vec::new();
    let mut room = [0; 4_096];
    while !String::from_utf8_lossy(&text).ends_with('}') {
        match stream.read(&mut room) {
            Ok(0) | Err(_) => break,
            Ok(count) => text.extend_from_slice(&room[..count]),
        }
    }
    let text = String::from_utf8(text).unwrap();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{text}")), text)
}

#[test]
fn a_body_that_is_too_long_is_refused_by_name_whatever_is_asked() {
    let builder = Node::builder().bind("127.0.0.1:0").workers(1).spin(Duration::ZERO);
    let (node, admin) = keyway::admin::start(builder.set("admin", "127.0.0.1:0")).unwrap();
    let to = admin.as_ref().unwrap().address();
    for request in ["POST /ask/echo", "POST /down/nobody", "GET /members", "GET /nowhere"] {
        let head = format!("{request} HTTP/1.1\r\nhost: localhost\r\n");
        let limits = ["4096", "MAX_BODY_BYTES"];
        // It is not waited for.
        let long = format!("{head}content-length: 10000000\r\n\r\n");
        let (status, text) = answer(to, long.as_bytes());
        assert_eq!(status, 413, "{request}: {text}");
        assert!(limits.iter().all(|word| text.contains(word)), "{text}");
        assert!(text.contains("10000000"), "{text}");
        // Nor is it taken where its length is not said.
        let chunk = format!("1389\r\n{}\r\n0\r\n\r\n", "x".repeat(0x1389));
        let long = format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}");
        let (status, text) = answer(to, long.as_bytes());
        assert_eq!(status, 413, "{request}: {text}");
        // As much as may be.
        let short = format!("{head}content-length: 4096\r\n\r\n{}", "x".repeat(4_096));
        let (status, text) = answer(to, short.as_bytes());
        assert!([200, 404].contains(&status), "{request}: {text}");
    }
    assert_eq!(node.end(), None);
}
