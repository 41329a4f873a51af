//! What the log says of messages that were too long: how long, and what the limit is.

use super::log_line::LogLine;
use crate::base::{LogKind, LogLimiter, Time};
use crate::queue::oversize::{Oversize, TooLong};
use crate::worker::Buffers;

/// The lines that are due for what was refused since the last time.
pub fn lines(now: Time, buffers: &Buffers, log: &mut LogLimiter) -> Vec<LogLine> {
    let ours =
        (LogKind::TooLarge, &buffers.too_long, "`links.max_frame_bytes` of this node allows");
    let there = "the node takes that it is for";
    let theirs = (LogKind::TooLargeThere, &buffers.too_long_there, there);
    let line = |(kind, kept, whose): (LogKind, &Oversize, &str)| {
        let TooLong { count, bytes, limit } = kept.take()?;
        log.leave_out(kind, count - 1);
        let left_out = log.line(now, kind)?;
        let text = format!(
            "a message of {bytes} bytes is not sent: {limit} are as many as {whose}; send less at a \
             time, or raise `links.max_frame_bytes`, alike on all nodes"
        );
        Some(LogLine { kind, left_out, text })
    };
    [ours, theirs].into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_long_messages_is_a_line_with_both_sizes() {
        let buffers = Buffers::new(1, 1, 8_192, 1);
        let mut log = LogLimiter::default();
        let mut told = |second: u64| {
            let lines = lines(Time(second * 1_000_000_000), &buffers, &mut log);
            lines.into_iter().map(|line| (line.left_out, line.text)).collect::<Vec<_>>()
        };
        assert_eq!(told(0), []);
        for bytes in [9_000, 10_000] {
            buffers.refuse(bytes, 8_192);
        }
        buffers.refuse(5_000, 4_096);
        let lines = told(1);
        let begin = [
            "a message of 10000 bytes is not sent: 8192 are as many as `links.max_frame",
            "a message of 5000 bytes is not sent: 4096 are as many as the node takes",
        ];
        assert_eq!(lines.len(), 2);
        for ((_, text), begin) in lines.iter().zip(begin) {
            assert!(text.starts_with(begin), "{text}");
        }
        assert_eq!((lines[0].0, lines[1].0, told(2)), (1, 0, vec![]));
    }
}
