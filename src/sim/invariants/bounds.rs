//! Memory is bounded, each kind by itself: outboxes, receive buffers, asks, timers, links and member
//! records stay within what the settings allow. What waits between threads is looked at in `rooms`.

use crate::base::View;
use crate::wire::{CHUNK_BYTES, padded};
use crate::worker::outbox::Outbox;
use crate::worker::purse::Account;
use crate::worker::turn::inboxes::{InboxRoom, InboxUsage};
use crate::worker::{Limits, PurseUsage, Usage};

/// The invariant's name.
pub const NAME: &str = "links and member records are no more than there may be";
/// Of asks that have not ended.
pub const ASKS: &str = "open asks are no more than are set";
/// Of what is kept of those that may be sent again.
pub const KEPT: &str = "frames that may be sent again take no more than is printed";
/// Of timers.
pub const TIMERS: &str = "timers are no more than asks, links and parts need";
/// Of outboxes, each by itself and all of an account.
pub const OUTBOXES: &str = "outboxes take no more than is printed";
/// Of receive buffers.
pub const INBOXES: &str = "receive buffers take no more than is printed";

/// How often something stood at a bound, where a little more were too much.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounded {
    /// There were as many members as machines.
    pub members: u64,
    /// No more asks could be opened.
    pub asks: u64,
    /// What is kept took more than half of its room.
    pub kept: u64,
    /// More timers ran than asks were open: those of links count.
    pub timers: u64,
    /// An outbox had its limit.
    pub outboxes: u64,
    /// A quarter of the receive buffers was more than half taken.
    pub inboxes: u64,
}

/// What has grown too large: whose bound that is, and how large.
pub type Exceeded = (&'static str, String);

/// An ask has a deadline, and one that may be sent again a pause.
const ASK_TIMERS: usize = 2;
/// A link has one for acknowledgements, one for its dial or rest, and two as it parts.
const LINK_TIMERS: usize = 4;
/// Watch asks again with one timer and looks at unknown nodes with another.
const PART_TIMERS: usize = 2;
/// What routees asked for: one for each riddle that they have not solved.
const WAKE_UPS: usize = 4_096;
/// Frames of the protocol, which always find room in an outbox: there are few, and they are small.
const PROTOCOL_BYTES: usize = 16 << 10;
/// Links of one worker, those of former peers that have not noticed included.
const LINKS: usize = 512;

/// A worker after a duty cycle, in which outboxes held so much, by account, before they were written.
///
/// # Errors
/// What has grown too large.
pub fn check_worker(
    usage: &Usage,
    fullest: [usize; 3],
    limits: &Limits,
    seen: &mut Bounded,
) -> Result<(), Exceeded> {
    let timers = ASK_TIMERS * usage.asks + LINK_TIMERS * usage.links + PART_TIMERS;
    let (counted, kept) = usage.kept_bytes;
    // One is kept in any case, in the chunk in which it lies.
    let one = CHUNK_BYTES.max(limits.max_frame_bytes as usize);
    let room = limits.retry_bytes.max(one);
    let found = [
        (ASKS, "open asks", usage.asks, limits.max_asks),
        (NAME, "links", usage.links, LINKS),
        (TIMERS, "timers", usage.timers, timers),
        (TIMERS, "times to be woken", usage.wakes, WAKE_UPS),
        (KEPT, "bytes of frames to be sent again", kept, room),
    ];
    for (name, what, count, limit) in found {
        if count > limit {
            return Err((name, format!("{count} {what}, where there may be {limit}")));
        }
    }
    if counted != kept {
        return Err((KEPT, format!("frames to be sent again take {kept} bytes, not {counted}")));
    }
    for ((account, purse), fullest) in Account::ALL.iter().zip(&usage.purses).zip(fullest) {
        check_purse(*account, purse, fullest, limits).map_err(|seen| (OUTBOXES, seen))?;
    }
    seen.asks += u64::from(usage.asks == limits.max_asks);
    seen.kept += u64::from(2 * kept > limits.retry_bytes);
    seen.timers += u64::from(usage.timers > usage.asks);
    seen.outboxes += u64::from(fullest.iter().any(|bytes| *bytes >= limits.outbox_bytes));
    Ok(())
}

/// What the message takes with which a bound is passed: a chunk of its own.
fn message_bytes(limits: &Limits) -> usize {
    CHUNK_BYTES.max(padded(limits.max_frame_bytes as usize))
}

/// What outboxes hold on one account is what was taken for them, and no more than there is; beyond
/// that each has its share, the message with which it is passed, and frames of the protocol.
fn check_purse(
    account: Account,
    purse: &PurseUsage,
    fullest: usize,
    limits: &Limits,
) -> Result<(), String> {
    let &PurseUsage { taken, most, held, outboxes, share, .. } = purse;
    if taken != held {
        return Err(format!("{taken} bytes of {account:?} are taken for outboxes with {held}"));
    }
    let message = message_bytes(limits);
    let passed = if share > 0 { outboxes * (share + message) } else { message };
    let limit = most + passed + outboxes * PROTOCOL_BYTES;
    if held > limit {
        return Err(format!("{held} bytes in outboxes of {account:?}, where {limit} may be"));
    }
    // Replies may fill an outbox twice over.
    let times = if account == Account::Requests { 1 } else { 2 };
    let limit = times * limits.outbox_bytes + message + PROTOCOL_BYTES;
    let fullest = purse.fullest.max(fullest);
    if fullest > limit {
        return Err(format!("{fullest} bytes in an outbox of {account:?}, where {limit} may be"));
    }
    Ok(())
}

/// The most messages of an application that come into an outbox together.
const TOGETHER: usize = 3;

/// What waits in an outbox: nothing was added to it that had its limit already. Frames of the
/// protocol always find room, and are not counted.
///
/// # Errors
/// How much there is before the message that should have been refused.
pub fn check_outbox(outbox: &Outbox, limits: &Limits) -> Result<(), String> {
    if outbox.bytes() <= limits.outbox_bytes {
        return Ok(());
    }
    let (mut bytes, mut last) = (0, [0; TOGETHER - 1]);
    for (is_request, length) in outbox.messages() {
        // Replies may fill an outbox twice over.
        let (before, limit) = match is_request {
            true => (bytes - last.iter().sum::<usize>(), limits.outbox_bytes),
            false => (bytes, 2 * limits.outbox_bytes),
        };
        if before >= limit {
            let what = if is_request { "request" } else { "reply" };
            return Err(format!(
                "a {what} was added to an outbox with {before} bytes, where there may be {limit}"
            ));
        }
        bytes += length;
        last.rotate_left(1);
        last[TOGETHER - 2] = if is_request { length } else { 0 };
    }
    Ok(())
}

/// What a worker's receive buffers may take, as it is counted and as it is.
///
/// # Errors
/// When both differ, or it is too much.
pub fn check_inboxes(
    accounts: [InboxUsage; 4],
    room: &InboxRoom,
    limits: &Limits,
    seen: &mut Bounded,
) -> Result<(), String> {
    for InboxUsage { what, counted, granted, links } in accounts {
        // One long message may take more than a quarter, if it is alone.
        let quarter = room.all_bytes / 4;
        let alone = padded(limits.max_frame_bytes as usize);
        let limit = if what.is_long() && links <= 1 { quarter.max(alone) } else { quarter };
        seen.inboxes += u64::from(2 * granted > limit);
        if counted != granted || granted > limit {
            return Err(format!(
                "receive buffers may take {granted} bytes for {what:?} on {links} links, counted as \
                 {counted}, of {limit}"
            ));
        }
    }
    Ok(())
}

/// A new view.
///
/// # Errors
/// When there are more members than machines.
pub fn check_members(view: &View, slots: usize, seen: &mut Bounded) -> Result<(), String> {
    let members = view.members.len();
    seen.members += u64::from(members == slots);
    if members > slots {
        return Err(format!("{members} members, where there are {slots} machines"));
    }
    Ok(())
}
