//! The fields that frames, handshakes and datagrams are made of: fixed little-endian numbers, ids,
//! and texts and addresses that say their own length. Reading never panics and never reserves more
//! than the bytes at hand can fill.
//!
//! What comes one after the other is read by a [`Reader`]; what stands at a fixed place, as in the
//! header that every message has, by its [`Place`].

mod fixed;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

pub use self::fixed::{Fixed, Place};
use crate::base::NodeRef;
use crate::base::debug_as_display;

/// Why bytes could not be read.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub &'static str);

debug_as_display!(Unreadable);

/// What was read, or why not.
pub type ReadResult<T> = Result<T, Unreadable>;

const CUT_OFF: Unreadable = Unreadable("it is cut off");

/// Takes fields off the front of received bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// At the first of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// # Errors
    /// When bytes are left that nothing was said about.
    pub fn end(&self) -> ReadResult<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(Unreadable("bytes are left over")) }
    }

    /// So many bytes as they are.
    ///
    /// # Errors
    /// When there are fewer; nothing is taken then.
    pub fn bytes(&mut self, count: usize) -> ReadResult<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(CUT_OFF)?;
        self.rest = tail;
        Ok(head)
    }

    /// A value of a fixed size.
    ///
    /// # Errors
    /// When there are fewer bytes; nothing is taken then.
    pub fn fixed<T: Fixed>(&mut self) -> ReadResult<T> {
        self.bytes(T::BYTES).map(T::read)
    }

    /// One byte.
    ///
    /// # Errors
    /// When there is none.
    pub fn u8(&mut self) -> ReadResult<u8> {
        self.fixed()
    }

    /// Two bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u16(&mut self) -> ReadResult<u16> {
        self.fixed()
    }

    /// Four bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u32(&mut self) -> ReadResult<u32> {
        self.fixed()
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u64(&mut self) -> ReadResult<u64> {
        self.fixed()
    }

    /// A life of a node: its id, then its incarnation.
    ///
    /// # Errors
    /// When there are fewer than 16 bytes.
    pub fn node_ref(&mut self) -> ReadResult<NodeRef> {
        self.fixed()
    }

    /// A text behind its length, of two bytes.
    ///
    /// # Errors
    /// When it is cut off, or no UTF-8.
    pub fn text(&mut self) -> ReadResult<Arc<str>> {
        let length = self.u16()?;
        let bytes = self.bytes(usize::from(length))?;
        str::from_utf8(bytes).map(Arc::from).map_err(|_| Unreadable("a text is not UTF-8"))
    }

    /// An address that can be dialed: 4 or 6, the octets, the port, and for IPv6 the scope.
    ///
    /// # Errors
    /// When it is cut off, of another family, unspecified, or without a port.
    pub fn address(&mut self) -> ReadResult<SocketAddr> {
        let address = match self.u8()? {
            4 => {
                let ip = Ipv4Addr::from(self.fixed::<[u8; 4]>()?);
                SocketAddr::new(IpAddr::V4(ip), self.u16()?)
            }
            6 => {
                let ip = Ipv6Addr::from(self.fixed::<[u8; 16]>()?);
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

/// Adds fields to the end of some bytes: the mirror of [`Reader`].
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Behind whatever is there.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// A value of a fixed size.
    pub fn fixed<T: Fixed>(&mut self, value: T) -> &mut Self {
        let start = self.out.len();
        self.out.resize(start + T::BYTES, 0);
        value.write(&mut self.out[start..]);
        self
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.fixed(value)
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.fixed(value)
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.fixed(value)
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.fixed(value)
    }

    /// A life of a node: its id, then its incarnation.
    pub fn node_ref(&mut self, node: NodeRef) -> &mut Self {
        self.fixed(node)
    }

    /// A text behind its length. What is longer than two bytes can say is cut: whoever writes texts
    /// holds them to a size of his own first.
    pub fn text(&mut self, text: &str) -> &mut Self {
        let most = text.len().min(usize::from(u16::MAX));
        let length = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.u16(length as u16).bytes(&text.as_bytes()[..length])
    }

    /// An address.
    pub fn address(&mut self, address: SocketAddr) -> &mut Self {
        match address {
            SocketAddr::V4(address) => self.u8(4).bytes(&address.ip().octets()).u16(address.port()),
            SocketAddr::V6(address) => {
                self.u8(6).bytes(&address.ip().octets()).u16(address.port()).u32(address.scope_id())
            }
        }
    }

    /// What `fill` writes, behind its length, of two bytes.
    pub fn sized(&mut self, fill: impl FnOnce(&mut Writer<'_>)) -> &mut Self {
        let length_at = self.out.len();
        self.u16(0);
        fill(&mut Writer::new(self.out));
        let length = self.out.len() - length_at - u16::BYTES;
        debug_assert!(length <= usize::from(u16::MAX), "{length} bytes are more than two can say");
        (length as u16).write(&mut self.out[length_at..length_at + u16::BYTES]);
        self
    }
}

/// The body of a frame that says two numbers.
pub fn two_words(first: u64, second: u64) -> [u8; 16] {
    let mut body = [0; 16];
    [first, second].write(&mut body);
    body
}

#[cfg(test)]
mod tests;
