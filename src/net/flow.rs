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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_shut_window_is_no_sign_of_death() {
        let mut words = [0; WORDS];
        (words[UNACKNOWLEDGED], words[WINDOW]) = (3, 1_000);
        (words[LAST_DATA_CAME], words[LAST_ACK_CAME]) = (900, 700);
        words[0] = u32::from_ne_bytes([1, 0, 0, 2]);
        let open = read(&words, WORDS);
        let silent = Duration::from_millis(700);
        assert_eq!(open, Flow { waiting: true, unacknowledged: true, silent, probes: 2 });
        words[WINDOW] = 0;
        let shut = read(&words, WORDS);
        assert_eq!(shut, Flow { unacknowledged: false, ..open });
        // A system that does not tell the window is taken at its word.
        assert_eq!(read(&words, WINDOW), open);

        (words[UNACKNOWLEDGED], words[NOT_SENT]) = (0, 1);
        assert_eq!(
            read(&words, WORDS),
            Flow { unacknowledged: false, ..open },
            "it is not sent yet"
        );
        words[NOT_SENT] = 0;
        let rests = Flow { waiting: false, unacknowledged: false, ..open };
        assert_eq!(read(&words, WORDS), rests);
    }
}
