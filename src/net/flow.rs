//! What the system knows of a connection's way out.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::worker::turn::Flow;

/// The words of Linux's `struct tcp_info`, as far as they are of use. What an older system does not
/// know of, it leaves out.
const WORDS: usize = 58;

/// Places of some of them.
const UNACKNOWLEDGED: usize = 6;
const LAST_DATA_CAME: usize = 13;
const LAST_ACK_CAME: usize = 14;
const NOT_SENT: usize = 36;
const WINDOW: usize = 57;

/// How it stands with a connected TCP socket; `None` if the system does not tell.
pub fn flow(socket: BorrowedFd<'_>) -> Option<Flow> {
    let mut words = [0_u32; WORDS];
    let mut bytes = size_of_val(&words) as libc::socklen_t;
    // SAFETY: the system writes no more than `bytes` bytes there, which is the size of `words`, and
    // any of them are fine for numbers. The descriptor is open for as long as it is borrowed.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            words.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    let came = bytes as usize / size_of::<u32>();
    (outcome == 0 && came > LAST_ACK_CAME).then(|| read(&words, came))
}

fn read(words: &[u32; WORDS], came: usize) -> Flow {
    // State, congestion, retransmits, probes; then back-off and options.
    let [_, _, _, probes] = words[0].to_ne_bytes();
    let shut = came > WINDOW && words[WINDOW] == 0;
    let silent_ms = words[LAST_ACK_CAME].min(words[LAST_DATA_CAME]);
    Flow {
        waiting: words[UNACKNOWLEDGED] > 0 || words[NOT_SENT] > 0,
        unacknowledged: words[UNACKNOWLEDGED] > 0 && !shut,
        silent: Duration::from_millis(silent_ms.into()),
        probes,
    }
}
