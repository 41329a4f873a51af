//! How large the receive buffers of a worker's links may become. Each begins with a few KiB, and
//! what it takes beyond is of one sum.
//!
//! A quarter each is for buffers of members' and of clients' links on which much comes: they double,
//! up to the usual size, as long as there is plenty. Where there is not, a link on which little has
//! come for a while gives back what it has, and else the largest of them half of it, so that those
//! on which much comes are about equal in the end. The rest is for messages that are longer than
//! their link's buffer, a quarter each for those of members and of clients. Room for such a message is taken whole when
//! its header has come, so that whoever has begun to receive one can end it; whose message finds
//! none is not read until there is some. A link that lets others wait in this way for too long
//! loses its connection.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Time;
use crate::worker::LinkId;

/// What a link's buffer has in any case: of a thousand that hardly say anything each holds no more.
pub const FIRST_BYTES: usize = 4 << 10;

/// How long a link may have room for a long message while others wait for it.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How much of this one turn can be, however long the worker was held: what a peer could not send
/// meanwhile, since nobody read, is not held against it.
pub(super) const STEP: Duration = Duration::from_secs(1);

/// A link whose buffer no read has filled for so long gives it back when others want more.
const IDLE: Duration = Duration::from_secs(1);

/// How often it is looked for one that gives back.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What receive buffers take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxRoom {
    /// One link's when much comes on it.
    pub usual_bytes: usize,
    /// All links' together, beyond the first few KiB of each.
    pub all_bytes: usize,
}

/// What a part of the room is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// What usually comes on links of members.
    Members,
    /// What usually comes on links of clients.
    Clients,
    /// Long messages of members.
    LongOfMembers,
    /// Long messages of clients.
    LongOfClients,
}

impl Purpose {
    const ALL: [Self; 4] = [Self::Members, Self::Clients, Self::LongOfMembers, Self::LongOfClients];

    /// Whether it is for long messages.
    pub fn is_long(self) -> bool {
        matches!(self, Self::LongOfMembers | Self::LongOfClients)
    }
}

/// What is taken of a quarter of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxUsage {
    /// For what.
    pub what: Purpose,
    /// As it is counted.
    pub counted: usize,
    /// As the links have it.
    pub granted: usize,
    /// How many links have some of it.
    pub links: usize,
}

/// Whose long messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Member,
    Client,
}

/// What one link's buffer may take.
#[derive(Clone, Copy)]
pub(super) struct Grant {
    /// For what usually comes.
    pub window: usize,
    /// On whose account that is, and when a read last filled it.
    of: Whose,
    filled: Time,
    /// Beyond it, for one long message, and how long anybody had waited by then.
    pub frame: usize,
    pub since: Duration,
    whose: Whose,
    /// How much the message needs that there is no room for.
    pub wanted: usize,
    /// For whom.
    pub wanting: Whose,
}

pub(super) const FIRST_GRANT: Grant = Grant {
    window: FIRST_BYTES,
    of: Whose::Client,
    filled: Time::ZERO,
    frame: 0,
    since: Duration::ZERO,
    whose: Whose::Client,
    wanted: 0,
    wanting: Whose::Client,
};

impl Grant {
    pub fn bytes(&self) -> usize {
        self.window + self.frame
    }
}

/// What became of a buffer that was filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Widened {
    /// It is larger.
    Yes,
    /// It is large enough, or there is no room.
    No,
    /// There is no room, and it is time to look for some.
    Wanted,
}

pub(super) struct Inboxes {
    room: InboxRoom,
    windows: [usize; 2],
    frames: [usize; 2],
    looked_at: Time,
    /// Links whose long messages find no room, in order.
    pub waiting: VecDeque<LinkId>,
    /// For how long anybody has waited, in all.
    waited: Duration,
    /// When that was last brought up to date.
    looked: Time,
}

impl Inboxes {
    pub fn new(room: InboxRoom) -> Self {
        Self {
            room,
            windows: [0; 2],
            frames: [0; 2],
            looked_at: Time::ZERO,
            waiting: VecDeque::new(),
            waited: Duration::ZERO,
            looked: Time::ZERO,
        }
    }

    /// The time that passes while some wait is counted, as far as the worker ran.
    pub fn wait_on(&mut self, now: Time) -> Duration {
        self.waited += now.since(self.looked).min(STEP);
        self.looked = now;
        self.waited
    }

    /// A link's message finds no room: it waits.
    pub fn wait(&mut self, link: LinkId, now: Time) {
        if self.waiting.is_empty() {
            self.looked = now;
        }
        self.waiting.push_back(link);
    }

    /// Something has come that shows that the link goes on.
    pub fn go_on(&self, grant: &mut Grant) {
        grant.since = self.waited;
    }

    /// A read filled the buffer. Returns whether the buffer may be larger from now on; if not,
    /// another may have to give something back first.
    pub fn widen(&mut self, grant: &mut Grant, whose: Whose, now: Time) -> Widened {
        grant.filled = now;
        if grant.of != whose {
            // Its peer has become a member, or is none any more. What it has stays with the others
            // until there is room for it.
            let moved = grant.window - FIRST_BYTES;
            if self.windows[whose as usize] + moved > self.room.all_bytes / 4 {
                return Widened::No;
            }
            self.windows[grant.of as usize] -= moved;
            self.windows[whose as usize] += moved;
            grant.of = whose;
        }
        let larger = (2 * grant.window).min(self.room.usual_bytes);
        if grant.frame > 0 || larger <= grant.window {
            return Widened::No;
        }
        let taken = &mut self.windows[whose as usize];
        if larger <= (self.room.all_bytes / 4).saturating_sub(*taken) / 2 {
            *taken += larger - grant.window;
            grant.window = larger;
            return Widened::Yes;
        }
        if now < self.looked_at.plus(LOOK_EVERY) {
            return Widened::No;
        }
        self.looked_at = now;
        Widened::Wanted
    }

    /// A link gives back what its buffer has beyond this.
    pub fn narrow(&mut self, grant: &mut Grant, to: usize) {
        self.windows[grant.of as usize] -= grant.window - to;
        grant.window = to;
    }

    /// The frame at the front takes `need` bytes. Returns whether there is room for it.
    pub fn fit(&mut self, grant: &mut Grant, whose: Whose, need: usize) -> bool {
        let more = need.saturating_sub(grant.bytes());
        grant.wanted = 0;
        if more == 0 {
            return true;
        }
        let taken = &self.frames[whose as usize];
        // A message that is longer than all the room has its turn when it is alone.
        let (own, moved) = if grant.whose == whose { (grant.frame, 0) } else { (0, grant.frame) };
        let alone = *taken == own;
        if !alone && *taken + moved + more > self.room.all_bytes / 4 {
            (grant.wanted, grant.wanting) = (need, whose);
            return false;
        }
        if grant.frame > 0 && grant.whose != whose {
            // Its peer has become a member, or is none any more.
            self.frames[grant.whose as usize] -= grant.frame;
            self.frames[whose as usize] += grant.frame;
        }
        self.frames[whose as usize] += more;
        grant.frame += more;
        (grant.since, grant.whose) = (self.waited, whose);
        true
    }

    /// The long message is through. Returns whether there was one.
    pub fn end_frame(&mut self, grant: &mut Grant) -> bool {
        let frame = std::mem::take(&mut grant.frame);
        self.frames[grant.whose as usize] -= frame;
        frame > 0
    }

    /// The link has no connection any more.
    pub fn end(&mut self, grant: &mut Grant) -> bool {
        let freed = self.end_frame(grant);
        self.narrow(grant, FIRST_BYTES);
        *grant = FIRST_GRANT;
        freed
    }

    /// What is taken, as it is counted.
    #[cfg(test)]
    fn taken(&self) -> usize {
        self.windows.iter().chain(&self.frames).sum()
    }

    /// What is taken of each quarter, as it is counted and as these links have it.
    pub fn usage<'a>(&self, grants: impl Iterator<Item = &'a Grant>) -> [InboxUsage; 4] {
        let mut usage =
            Purpose::ALL.map(|what| InboxUsage { what, counted: 0, granted: 0, links: 0 });
        for (usage, counted) in usage.iter_mut().zip(self.windows.iter().chain(&self.frames)) {
            usage.counted = *counted;
        }
        for grant in grants {
            let window = (grant.of as usize, grant.window - FIRST_BYTES);
            for (place, bytes) in [window, (grant.whose as usize + 2, grant.frame)] {
                usage[place].granted += bytes;
                usage[place].links += usize::from(bytes > 0);
            }
        }
        usage
    }
}

/// Who gives room back for a buffer of this kind and size, as a place among these, and what is left
/// to it: who has not needed it for longest, or has so much more that the half is more as well.
pub(super) fn spare<'a>(
    grants: impl Iterator<Item = &'a Grant> + Clone,
    wanting: &Grant,
    now: Time,
) -> Option<(usize, usize)> {
    let like =
        |grant: &Grant| grant.of == wanting.of && grant.frame == 0 && grant.window > FIRST_BYTES;
    let kind = grants.enumerate().filter(|(_, grant)| like(grant));
    let idle = kind.clone().filter(|(_, grant)| now.since(grant.filled) >= IDLE);
    if let Some((place, _)) = idle.min_by_key(|(_, grant)| grant.filled) {
        return Some((place, FIRST_BYTES));
    }
    let (place, largest) = kind.max_by_key(|(_, grant)| grant.window)?;
    let half = largest.window / 2;
    (half > wanting.window).then_some((place, half))
}

/// Who has had room for a long message for longest, too long while others of the same kind wait for
/// it; as a place among these.
pub(super) fn stalled<'a>(
    grants: impl Iterator<Item = &'a Grant> + Clone,
    waited_for: Duration,
) -> Option<usize> {
    let mut waited = [false; 2];
    for grant in grants.clone().filter(|grant| grant.wanted > 0) {
        waited[grant.wanting as usize] = true;
    }
    let stalled = grants.enumerate().filter(|(_, grant)| {
        grant.frame > 0 && waited[grant.whose as usize] && waited_for - grant.since > PATIENCE
    });
    stalled.min_by_key(|(_, grant)| grant.since).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_up_only_for_those_who_can_have_it() {
        let mut inboxes = Inboxes::new(InboxRoom { usual_bytes: 64 << 10, all_bytes: 1 << 20 });
        let mut grants = [FIRST_GRANT; 5];
        let need = 200 << 10;
        // A member's is the oldest.
        let who = [Whose::Member, Whose::Client, Whose::Client];
        for (place, whose) in who.into_iter().enumerate() {
            inboxes.waited = Duration::from_nanos(1 + place as u64);
            assert_eq!(inboxes.fit(&mut grants[place], whose, need), place < 2);
        }
        let late = PATIENCE + Duration::from_nanos(10);
        assert_eq!(stalled(grants.iter(), PATIENCE), None, "in time");
        assert_eq!(stalled(grants.iter(), late), Some(1), "the member's is not waited for");
        assert!(!inboxes.fit(&mut grants[3], Whose::Member, need));
        assert_eq!(stalled(grants.iter(), late), Some(0));
    }

    #[test]
    fn only_time_in_which_the_worker_ran_is_held_against_anybody() {
        let mut inboxes = Inboxes::new(InboxRoom { usual_bytes: 64 << 10, all_bytes: 1 << 20 });
        let at = |ms: u64| Time(ms * 1_000_000);
        let link = LinkId::from_bits(7);
        inboxes.wait(link, at(50_000));
        assert_eq!(inboxes.wait_on(at(50_400)), Duration::from_millis(400));
        // A handler held it for a minute.
        assert_eq!(inboxes.wait_on(at(110_400)), Duration::from_millis(1_400));
        inboxes.waiting.clear();
        inboxes.wait(link, at(200_000));
        assert_eq!(inboxes.wait_on(at(200_100)), Duration::from_millis(1_500), "nobody waited");
    }

    #[test]
    fn long_messages_have_room_whole_or_wait_and_clients_take_none_of_members() {
        let mut inboxes = Inboxes::new(InboxRoom { usual_bytes: 64 << 10, all_bytes: 1 << 20 });
        let mut grants = [FIRST_GRANT; 4];
        let need = 100 << 10;
        let fits: Vec<bool> =
            grants.iter_mut().map(|grant| inboxes.fit(grant, Whose::Client, need)).collect();
        assert_eq!(fits, [true, true, false, false]);
        assert_eq!((grants[0].bytes(), grants[2].bytes()), (need, FIRST_BYTES));
        let mut member = FIRST_GRANT;
        assert!(inboxes.fit(&mut member, Whose::Member, 1 << 20), "more than all, alone");
        assert!(inboxes.end_frame(&mut grants[0]));
        assert!(inboxes.fit(&mut grants[2], Whose::Client, need));
        for grant in grants.iter_mut().chain([&mut member]) {
            inboxes.end(grant);
        }
        assert_eq!(inboxes.taken(), 0);
    }

    #[test]
    fn buffers_grow_to_the_usual_size_while_there_is_plenty() {
        let mut inboxes = Inboxes::new(InboxRoom { usual_bytes: 64 << 10, all_bytes: 1 << 20 });
        let mut grants = [FIRST_GRANT; 100];
        for grant in &mut grants {
            while inboxes.widen(grant, Whose::Client, Time::ZERO) == Widened::Yes {}
        }
        assert_eq!((grants[0].window, grants[99].window), (64 << 10, FIRST_BYTES));
        assert!(inboxes.taken() <= 512 << 10);
    }

    #[test]
    fn what_a_link_has_moves_to_another_account_only_where_there_is_room() {
        let mut inboxes = Inboxes::new(InboxRoom { usual_bytes: 64 << 10, all_bytes: 1 << 20 });
        let quarter = 256 << 10;
        let held = |inboxes: &Inboxes, grants: &[Grant]| {
            inboxes.usage(grants.iter()).map(|usage| {
                assert_eq!(usage.counted, usage.granted, "{usage:?}");
                assert!(usage.granted <= quarter, "{usage:?}");
                usage.granted
            })
        };
        let mut grants = [FIRST_GRANT; 100];
        for whose in [Whose::Client, Whose::Member] {
            let half = if whose == Whose::Client { 0..50 } else { 50..100 };
            for grant in &mut grants[half] {
                while inboxes.widen(grant, whose, Time::ZERO) == Widened::Yes {}
            }
        }
        // All clients become members, and all members clients.
        for place in 0..100 {
            let whose = if place < 50 { Whose::Member } else { Whose::Client };
            inboxes.widen(&mut grants[place], whose, Time::ZERO);
            held(&inboxes, &grants);
        }
        // So do those with long messages.
        let mut grants = [FIRST_GRANT; 4];
        let mut inboxes = Inboxes::new(InboxRoom { usual_bytes: 64 << 10, all_bytes: 1 << 20 });
        for (grant, whose) in grants.iter_mut().zip([Whose::Client, Whose::Client, Whose::Member]) {
            assert!(inboxes.fit(grant, whose, 100 << 10));
        }
        assert!(!inboxes.fit(&mut grants[0], Whose::Member, 200 << 10), "both would be too much");
        let [.., members, clients] = held(&inboxes, &grants);
        assert_eq!((members, clients), (96 << 10, 192 << 10));
    }

    const SECOND: u64 = 1_000_000_000;

    /// A read fills the buffer of this link; what others have is taken where need be. Returns how
    /// large it is then.
    fn fill(
        inboxes: &mut Inboxes,
        grants: &mut [Grant],
        place: usize,
        whose: Whose,
        at: u64,
    ) -> usize {
        if inboxes.widen(&mut grants[place], whose, Time(at)) == Widened::Wanted
            && let Some((from, to)) = spare(grants.iter(), &grants[place], Time(at))
        {
            assert_ne!(from, place, "from itself");
            inboxes.narrow(&mut grants[from], to);
        }
        let windows: usize = grants.iter().map(|grant| grant.window - FIRST_BYTES).sum();
        assert_eq!(inboxes.taken(), windows, "as it is counted");
        grants[place].window
    }

    #[test]
    fn buffers_that_are_not_filled_any_more_give_way_to_those_that_are() {
        let mut inboxes = Inboxes::new(InboxRoom { usual_bytes: 64 << 10, all_bytes: 1 << 20 });
        let mut grants = [FIRST_GRANT; 8];
        for _ in 0..10 {
            for place in 0..7 {
                fill(&mut inboxes, &mut grants, place, Whose::Client, 0);
            }
        }
        let before = grants[7].window;
        assert_eq!(before, FIRST_BYTES);
        // The last one comes when the others have been quiet for two seconds.
        for read in 0..40 {
            fill(&mut inboxes, &mut grants, 7, Whose::Client, 2 * SECOND + read * SECOND / 50);
        }
        assert_eq!(grants[7].window, 64 << 10);
    }

    #[test]
    fn buffers_that_are_all_filled_share_what_there_is() {
        let mut inboxes = Inboxes::new(InboxRoom { usual_bytes: 64 << 10, all_bytes: 1 << 20 });
        let mut grants = [FIRST_GRANT; 16];
        for read in 0..400 {
            // The first four have come long before the others.
            let links = if read < 100 { 4 } else { 16 };
            for place in 0..links {
                let at = SECOND + (read * 16 + place as u64) * SECOND / 1_000;
                fill(&mut inboxes, &mut grants, place, Whose::Member, at);
            }
        }
        let windows = grants.map(|grant| grant.window);
        let (least, most) = (windows.iter().min().unwrap(), windows.iter().max().unwrap());
        assert!(*most <= 4 * least, "{windows:?}");
        assert!(*least > FIRST_BYTES, "{windows:?}");
    }

    #[test]
    fn clients_leave_members_their_room() {
        let mut inboxes = Inboxes::new(InboxRoom { usual_bytes: 64 << 10, all_bytes: 1 << 20 });
        let mut grants = [FIRST_GRANT; 101];
        for _ in 0..10 {
            for place in 0..100 {
                fill(&mut inboxes, &mut grants, place, Whose::Client, 0);
            }
        }
        assert!(inboxes.taken() <= 256 << 10);
        for _ in 0..4 {
            fill(&mut inboxes, &mut grants, 100, Whose::Member, 0);
        }
        assert_eq!(grants[100].window, 64 << 10);
        // One that becomes a client takes its window along.
        fill(&mut inboxes, &mut grants, 100, Whose::Client, 0);
        for grant in &mut grants {
            inboxes.end(grant);
        }
        assert_eq!(inboxes.taken(), 0);
    }
}
