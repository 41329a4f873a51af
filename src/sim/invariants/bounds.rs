//! Memory is bounded: outboxes, asks, timers, links and member records stay within what the
//! settings allow.

use crate::base::View;
use crate::wire::{CHUNK_BYTES, padded};
use crate::worker::purse::SHARE_BYTES;
use crate::worker::turn::InboxRoom;
use crate::worker::{Limits, PurseUsage, Usage};

/// The invariant's name.
pub const NAME: &str = "memory stays within its bounds";

/// Timers that do not belong to an ask or link: wake-ups that routees asked for, one for each riddle
/// that they have not solved.
const WAKE_UPS: usize = 4_096;

/// Watch asks again with one timer and looks at unknown nodes with another.
const PART_TIMERS: usize = 2;
/// Links of one worker, those of former peers that have not noticed included.
const LINKS: usize = 512;

/// A worker after a duty cycle.
///
/// # Errors
/// What has grown too large.
pub fn check_worker(usage: &Usage, fullest: usize, limits: &Limits) -> Result<(), String> {
    // Replies may fill it twice over, the last message may exceed it, and acknowledgements and
    // failures always find room.
    let outbox = 2 * limits.outbox_bytes + limits.max_frame_bytes as usize + CHUNK_BYTES;
    let timers = usage.asks + 4 * usage.links + WAKE_UPS + PART_TIMERS;
    let found = [
        ("bytes in an outbox", fullest.max(usage.fullest_outbox), outbox),
        ("open asks", usage.asks, limits.max_asks),
        ("links", usage.links, LINKS),
        ("timers", usage.timers, timers),
    ];
    for (what, count, limit) in found {
        if count > limit {
            return Err(format!("{count} {what}, where there may be {limit}"));
        }
    }
    let (counted, kept) = usage.kept_bytes;
    if counted != kept || kept > limits.retry_bytes.max(limits.max_frame_bytes as usize) {
        return Err(format!("frames to be sent again take {kept} bytes, counted as {counted}"));
    }
    check_purses(usage, limits)
}

/// What outboxes hold together is what was taken for them, and no more than there is; beyond that
/// each has its share, the message with which it is passed, and frames of the protocol.
fn check_purses(usage: &Usage, limits: &Limits) -> Result<(), String> {
    let chunk = CHUNK_BYTES.max(limits.max_frame_bytes as usize);
    for PurseUsage { taken, most, held, outboxes } in usage.purses {
        if taken != held {
            return Err(format!("{taken} bytes are taken for outboxes that hold {held}"));
        }
        let limit = most + outboxes * (SHARE_BYTES + 2 * chunk);
        if held > limit {
            return Err(format!("{held} bytes in outboxes, where there may be {limit}"));
        }
    }
    Ok(())
}

/// What a worker's receive buffers may take, as it is counted and as it is.
///
/// # Errors
/// When both differ, or it is too much.
pub fn check_inboxes(
    (counted, granted): (usize, usize),
    room: &InboxRoom,
    limits: &Limits,
) -> Result<(), String> {
    // Of each quarter one message may take more, if it is longer.
    let limit = room.all_bytes + 2 * padded(limits.max_frame_bytes as usize);
    if counted != granted || granted > limit {
        return Err(format!(
            "receive buffers may take {granted} bytes, counted as {counted}, of {limit}"
        ));
    }
    Ok(())
}

/// A new view.
///
/// # Errors
/// When there are more members than machines.
pub fn check_members(view: &View, slots: usize) -> Result<(), String> {
    let members = view.members.len();
    if members > slots {
        return Err(format!("{members} members, where there are {slots} machines"));
    }
    Ok(())
}
