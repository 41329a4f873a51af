//! Membership's payloads that do not fit one datagram of a size that every path carries, in numbered
//! pieces. The network would cut a longer datagram by itself, and many a path drops what is cut: a
//! member with a long record would then be listed by nobody, or with a record of long ago.
//!
//! A payload is there when all its pieces are, as it would be with the network's own. What is not
//! complete is kept for a while, and of little at a time: whoever waits for it asks again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{NodeRef, Time};
use crate::member::MAX_DATAGRAM_BYTES;
use crate::wire::codec::{Reader, Writer};
use crate::wire::datagram::{MEMBERSHIP, PIECE_BYTES, PIECE_HEAD_BYTES, PIECES, WHOLE_BYTES};

/// In how many pieces the longest payload goes.
const MOST_PIECES: usize = MAX_DATAGRAM_BYTES.div_ceil(PIECE_BYTES);
/// How many payloads may be incomplete at a time. One more takes the place of the oldest.
const MOST: usize = 64;
/// How long one may stay so. Its pieces are sent one right after the other.
const LASTS: Duration = Duration::from_secs(2);

/// Whose pieces belong together: sender, where from, and number.
type Whose = (NodeRef, SocketAddr, u32);

struct Partial {
    since: Time,
    /// By place; what has not come is empty.
    pieces: Vec<Vec<u8>>,
}

/// What is sent and received in pieces.
#[derive(Default)]
pub(super) struct Pieces {
    next: u32,
    piece: Vec<u8>,
    partial: BTreeMap<Whose, Partial>,
}

impl Pieces {
    /// Hands over what to send for this payload: for which part, and what.
    pub fn split(&mut self, payload: &[u8], mut send: impl FnMut(u8, &[u8])) {
        if payload.len() <= WHOLE_BYTES {
            return send(MEMBERSHIP, payload);
        }
        self.next = self.next.wrapping_add(1);
        let pieces = payload.chunks(PIECE_BYTES);
        let count = pieces.len() as u8;
        for (index, bytes) in (0..).zip(pieces) {
            self.piece.clear();
            Writer::new(&mut self.piece).u32(self.next).u8(index).u8(count).bytes(bytes);
            send(PIECES, &self.piece);
        }
    }

    /// Takes a piece. Gives the whole payload once this was the last of it.
    ///
    /// # Errors
    /// When it is none.
    pub fn take(
        &mut self,
        now: Time,
        (sender, from): (NodeRef, SocketAddr),
        piece: &[u8],
    ) -> Result<Option<Vec<u8>>, NoPiece> {
        let mut reader = Reader::new(piece);
        let mut head = || Some((reader.u32().ok()?, reader.u8().ok()?, reader.u8().ok()?));
        let (number, index, count) = head().ok_or(NoPiece)?;
        let (index, count) = (usize::from(index), usize::from(count));
        let bytes = &piece[PIECE_HEAD_BYTES..];
        let is_last = index + 1 == count;
        let fits = if is_last { bytes.len() <= PIECE_BYTES } else { bytes.len() == PIECE_BYTES };
        if index >= count || !(2..=MOST_PIECES).contains(&count) || bytes.is_empty() || !fits {
            return Err(NoPiece);
        }
        self.partial.retain(|_, partial| now.since(partial.since) < LASTS);
        let whose = (sender, from, number);
        if !self.partial.contains_key(&whose) {
            self.make_room();
            self.partial.insert(whose, Partial { since: now, pieces: vec![Vec::new(); count] });
        }
        let partial = self.partial.get_mut(&whose).ok_or(NoPiece)?;
        if partial.pieces.len() != count {
            return Err(NoPiece);
        }
        partial.pieces[index] = bytes.to_vec();
        if partial.pieces.iter().any(Vec::is_empty) {
            return Ok(None);
        }
        Ok(self.partial.remove(&whose).map(|partial| partial.pieces.concat()))
    }

    fn make_room(&mut self) {
        if self.partial.len() >= MOST {
            let oldest =
                self.partial.iter().min_by_key(|(whose, partial)| (partial.since, **whose));
            if let Some(whose) = oldest.map(|(whose, _)| *whose) {
                self.partial.remove(&whose);
            }
        }
    }
}

/// It is not what a node sends as a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoPiece;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Incarnation, NodeId};
    use crate::wire::datagram::{OVERHEAD_LEN, sent_bytes};

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    fn from(number: u64) -> (NodeRef, SocketAddr) {
        let node = NodeRef { node: NodeId(number), incarnation: Incarnation(1) };
        (node, SocketAddr::from(([10, 0, 0, 1], 7_400)))
    }

    fn payload(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8).collect()
    }

    fn sent(pieces: &mut Pieces, payload: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut sent = Vec::new();
        pieces.split(payload, |part, bytes| sent.push((part, bytes.to_vec())));
        let each = sent.iter().map(|(_, bytes)| bytes.len() + OVERHEAD_LEN);
        assert!(each.clone().all(|bytes| bytes <= 1_200));
        assert_eq!(each.sum::<usize>(), sent_bytes(payload.len()));
        sent
    }

    #[test]
    fn what_fits_goes_whole_and_the_longest_in_pieces_that_fit_in_any_order() {
        let (mut here, mut there) = (Pieces::default(), Pieces::default());
        let whole = payload(WHOLE_BYTES);
        assert_eq!(sent(&mut here, &whole), [(MEMBERSHIP, whole)]);
        for bytes in [WHOLE_BYTES + 1, 2 * PIECE_BYTES, MAX_DATAGRAM_BYTES] {
            let whole = payload(bytes);
            let mut pieces = sent(&mut here, &whole);
            assert_eq!(pieces.len(), bytes.div_ceil(PIECE_BYTES));
            pieces.reverse();
            // One that comes twice changes nothing.
            pieces.insert(1, pieces[0].clone());
            let (_, last) = pieces.pop().unwrap();
            for (part, piece) in &pieces {
                assert_eq!((*part, there.take(at(0), from(1), piece)), (PIECES, Ok(None)));
            }
            assert_eq!(there.take(at(1), from(2), &last), Ok(None), "another sender's");
            assert_eq!(there.take(at(1), from(1), &last), Ok(Some(whole)));
        }
    }

    #[test]
    fn what_stays_incomplete_is_kept_for_a_while_and_few_at_a_time() {
        let (mut here, mut there) = (Pieces::default(), Pieces::default());
        let whole = payload(2_000);
        let [(_, first), (_, second)] = &sent(&mut here, &whole)[..] else { panic!("two pieces") };
        assert_eq!(there.take(at(0), from(1), first), Ok(None));
        assert_eq!(there.take(at(2_000), from(1), second), Ok(None), "the first is forgotten");
        assert_eq!(there.take(at(2_001), from(1), first), Ok(Some(whole)));
        for sender in 0..1_000 {
            assert_eq!(there.take(at(3_000 + sender), from(sender), first), Ok(None));
            assert!(there.partial.len() <= MOST);
        }
        assert!(
            matches!(there.take(at(4_000), from(999), second), Ok(Some(_))),
            "the latest stays"
        );
        assert_eq!(there.take(at(4_000), from(1), second), Ok(None), "the oldest gave way");
    }

    #[test]
    fn what_is_no_piece_is_refused() {
        let mut there = Pieces::default();
        let piece = |index, count, bytes: usize| {
            let mut piece = vec![1, 0, 0, 0, index, count];
            piece.resize(PIECE_HEAD_BYTES + bytes, 7);
            piece
        };
        let most = MOST_PIECES as u8;
        for none in [
            piece(0, 2, 0),
            piece(0, 2, PIECE_BYTES - 1),
            piece(1, 2, PIECE_BYTES + 1),
            piece(2, 2, 9),
            piece(0, 1, 9),
            piece(0, 0, 9),
            piece(0, most + 1, PIECE_BYTES),
            vec![1; PIECE_HEAD_BYTES - 1],
            Vec::new(),
        ] {
            assert_eq!(there.take(at(0), from(1), &none), Err(NoPiece), "{none:?}");
        }
        assert!(there.partial.is_empty());
        // Of one number, and said to be of another length: the payload is complete without them.
        assert_eq!(there.take(at(0), from(1), &piece(0, 2, PIECE_BYTES)), Ok(None));
        assert_eq!(there.take(at(0), from(1), &piece(2, 3, 9)), Err(NoPiece));
        assert_eq!(there.take(at(0), from(1), &piece(1, 3, PIECE_BYTES)), Err(NoPiece));
        let whole = vec![7; PIECE_BYTES + 9];
        assert_eq!(there.take(at(0), from(1), &piece(1, 2, 9)), Ok(Some(whole)));
    }
}
