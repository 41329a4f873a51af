//! Bytes to values and back, once: fixed little-endian numbers, length-prefixed texts. Reading
//! never panics and never reserves more than the bytes at hand can fill.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub &'static str);

pub(super) type ReadResult<T> = Result<T, Unreadable>;

/// A cursor over received bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn bytes(&mut self, count: usize) -> ReadResult<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(Unreadable("it is cut off"))?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> ReadResult<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk().ok_or(Unreadable("it is cut off"))?;
        self.rest = tail;
        Ok(*head)
    }

    pub fn u8(&mut self) -> ReadResult<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> ReadResult<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> ReadResult<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> ReadResult<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn text(&mut self) -> ReadResult<Arc<str>> {
        let length = self.u16()?;
        let bytes = self.bytes(usize::from(length))?;
        std::str::from_utf8(bytes).map(Arc::from).map_err(|_| Unreadable("a text is not UTF-8"))
    }

    pub fn address(&mut self) -> ReadResult<SocketAddr> {
        let address = match self.u8()? {
            4 => {
                let ip = Ipv4Addr::from(self.array::<4>()?);
                SocketAddr::new(IpAddr::V4(ip), self.u16()?)
            }
            6 => {
                let ip = Ipv6Addr::from(self.array::<16>()?);
                let (port, scope) = (self.u16()?, self.u32()?);
                SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope))
            }
            _ => return Err(Unreadable("an address is neither IPv4 nor IPv6")),
        };
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(Unreadable("an address cannot be reached"));
        }
        Ok(address)
    }
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    // Longer texts are refused by the record's size limit before they are sent.
    let length = text.len().min(usize::from(u16::MAX));
    out.extend_from_slice(&(length as u16).to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..length]);
}

pub(super) fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            out.push(4);
            out.extend_from_slice(&address.ip().octets());
            out.extend_from_slice(&address.port().to_le_bytes());
        }
        SocketAddr::V6(address) => {
            out.push(6);
            out.extend_from_slice(&address.ip().octets());
            out.extend_from_slice(&address.port().to_le_bytes());
            out.extend_from_slice(&address.scope_id().to_le_bytes());
        }
    }
}
