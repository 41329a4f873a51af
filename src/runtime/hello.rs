//! Asks the seeds, before anything else runs, which incarnation to start with.

use std::net::{SocketAddr, UdpSocket};

use super::clock::Clock;
use crate::base::NodeRef;
use crate::member::Hello;
use crate::wire::auth::ClusterKey;
use crate::wire::datagram;

/// Runs a hello on the node's own socket, which nobody else reads yet. What comes in besides
/// answers is lost, as datagrams may be.
pub fn ask_seeds(
    socket: &UdpSocket,
    key: &ClusterKey,
    clock: Clock,
    me: NodeRef,
    own: SocketAddr,
    seeds: &[SocketAddr],
    nonce: u64,
) -> std::io::Result<NodeRef> {
    let mut hello = Hello::new(clock.now(), me, own, seeds, nonce);
    let mut sealed = Vec::new();
    let mut buffer = vec![0; datagram::MAX_DATAGRAM_LEN];
    while let Some(wait) = hello.wait(clock.now()) {
        if let Some(payload) = hello.to_send(clock.now())
            && datagram::seal(key, me, datagram::MEMBERSHIP, &payload, &mut sealed).is_ok()
        {
            for seed in hello.seeds() {
                // A seed that cannot be reached does not answer.
                let _ = socket.send_to(&sealed, seed);
            }
        }
        socket.set_read_timeout(Some(wait))?;
        if let Ok((length, from)) = socket.recv_from(&mut buffer)
            && let Ok(opened) = datagram::open(key, &buffer[..length])
            && opened.part == datagram::MEMBERSHIP
        {
            hello.take(from, opened.payload);
        }
    }
    Ok(hello.me())
}
