//! What a node knows of another one's load is what that life of it has said, never anything older
//! than it knew before, and soon the latest. Who asks a node is told once: an answer that this node
//! gave, in the order of the questions, or why there is none.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::base::{NodeRef, Time};
use crate::part::load::{Load, LoadError, Loads, Reading};
use crate::sim::clocks::LocalClock;
use crate::sim::events::LifeId;
use crate::sim::world::World;

/// The invariant's name.
pub const NAME: &str = "what is known of a node's load is what it said";

/// How much the busy share differs from what was said last, at least, when it is said anew.
const WORTH_TELLING: u16 = 50;
/// A node that is connected knows what another one has said so long ago.
pub const FRESH: Duration = Duration::from_secs(2);
/// And who has just joined, a little later.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// By when a process that runs has said that there was no answer.
const TOLD_WITHIN: Duration = Duration::from_millis(2_100);
/// For how long it is remembered what a node could have answered.
const REMEMBERED: Duration = Duration::from_secs(20);

/// Names a question.
pub type QuestionId = usize;

/// What one life has read, said and heard.
struct Known {
    me: NodeRef,
    clock: LocalClock,
    /// Readings with which its present measurement may have begun: that of the one that was shown
    /// last, and of those that came to the same.
    bases: Vec<Reading>,
    /// The last one.
    last: Reading,
    /// What it could say of itself, by its readings.
    figures: VecDeque<(Time, Load)>,
    /// As shown last.
    own: Load,
    said: Vec<(Time, Load)>,
    /// What it knows of others: the place of each word among those that were said.
    places: BTreeMap<NodeRef, usize>,
    shown: Loads,
    /// How often that was another.
    version: u64,
    /// By life: which of its words is the oldest that this one may know, and that it knew that or a
    /// later one as of this version.
    fresh: Vec<Option<(usize, u64)>>,
    /// Questions that went over channels.
    asked: Vec<QuestionId>,
    open: Vec<QuestionId>,
    /// When a connection in control's hands ended last without being handed on.
    broke: Option<Time>,
    /// When it was last told that something may be lost.
    told_loss: Option<Time>,
    /// More is due in its control than it has come to.
    behind: bool,
}

impl Known {
    /// Whether a question of then may end as lost: its way has broken since, or before, and that is
    /// told a little later, also to who asks meanwhile.
    fn may_tell_loss(&mut self, asked: Time, now: Time) -> bool {
        let told = self.told_loss.replace(now).filter(|told| *told < now);
        self.broke >= Some(asked) || self.broke.is_some() && told <= self.broke
    }
}

/// One question.
pub struct Question {
    asker: LifeId,
    /// Whom.
    pub to: NodeRef,
    at: Time,
    member: bool,
    ended: bool,
    /// The question was written to a channel.
    pub written: bool,
    /// An answer to it was.
    pub answered: bool,
    /// Since when it may be lost, which its asker hears at once.
    pub lost: Option<Time>,
}

/// What nodes say of their load, and are asked.
#[derive(Default)]
pub struct Truth {
    lives: Vec<Known>,
    by_node: BTreeMap<NodeRef, LifeId>,
    questions: Vec<Question>,
    /// By asker and asked: the latest question that was answered.
    answered: BTreeMap<(LifeId, NodeRef), QuestionId>,
    /// Those that ended because the asked node is no member, and were not looked at since.
    no_members: Vec<QuestionId>,
    /// How often a node learned what another one had said.
    pub words: u64,
    /// How often it was looked whether one knew what another one had said.
    pub fresh: u64,
    /// Questions that another node answered.
    pub answers: u64,
    /// Questions that were lost, and their askers heard so.
    pub losses: u64,
}

impl Truth {
    /// A process has begun.
    pub fn add_life(&mut self, me: NodeRef, clock: LocalClock) {
        self.by_node.insert(me, self.lives.len());
        self.lives.push(Known {
            me,
            clock,
            bases: Vec::new(),
            last: Reading::default(),
            figures: VecDeque::new(),
            own: Load { busy_per_mille: 0, stuck: false },
            said: Vec::new(),
            places: BTreeMap::new(),
            shown: Loads::default(),
            version: 0,
            fresh: Vec::new(),
            asked: Vec::new(),
            open: Vec::new(),
            broke: None,
            told_loss: None,
            behind: false,
        });
    }

    // ---- what is said to all ----

    /// A process reads what its workers did.
    pub fn read(&mut self, life: LifeId, now: Time, reading: Reading) {
        let known = &mut self.lives[life];
        let figures = known.bases.iter().map(|base| between(base, &reading, known.own));
        let figures: Vec<Load> = figures.collect();
        if known.bases.is_empty() || figures.contains(&known.own) {
            known.bases.push(reading);
        }
        known.figures.extend(figures.into_iter().map(|figure| (now, figure)));
        known.last = reading;
        while known.figures.front().is_some_and(|(at, _)| now.since(*at) > REMEMBERED) {
            known.figures.pop_front();
        }
    }

    fn could_say(&self, life: LifeId, load: Load, since: Time) -> bool {
        let figures = &self.lives[life].figures;
        let first = figures.partition_point(|(at, _)| *at < since);
        figures.range(first..).any(|(_, figure)| *figure == load)
    }

    /// A process shows what it knows.
    ///
    /// # Errors
    /// What it cannot know.
    pub fn shown(&mut self, life: LifeId, now: Time, loads: &Loads) -> Result<(), String> {
        let before = Loads::clone(&self.lives[life].shown);
        // Both are in the nodes' order.
        let mut known = before.iter().peekable();
        for (node, load) in loads.iter() {
            while known.next_if(|(before, _)| *before < node).is_some() {}
            if known.peek() == Some(&(node, load)) {
                continue;
            }
            match *node == self.lives[life].me {
                true => self.measured(life, now, *load)?,
                false => self.learned(life, *node, *load)?,
            }
        }
        self.lives[life].shown = Loads::clone(loads);
        self.lives[life].version += 1;
        Ok(())
    }

    fn measured(&mut self, life: LifeId, now: Time, load: Load) -> Result<(), String> {
        if !self.could_say(life, load, now) {
            return Err(format!("life {life} took itself for {load:?}, which it never was"));
        }
        let known = &mut self.lives[life];
        known.own = load;
        known.bases = vec![known.last];
        let news = known.said.last().is_none_or(|(_, last)| {
            let differs = last.busy_per_mille.abs_diff(load.busy_per_mille);
            differs >= WORTH_TELLING || last.stuck != load.stuck
        });
        if news {
            known.said.push((now, load));
        }
        Ok(())
    }

    fn learned(&mut self, life: LifeId, node: NodeRef, load: Load) -> Result<(), String> {
        let Some(of) = self.by_node.get(&node).copied() else {
            return Err(format!("life {life} knows a load of {node}, which never was"));
        };
        let before = self.lives[life].places.get(&node).copied();
        let said = self.lives[of].said.iter().map(|(_, said)| *said).enumerate();
        let later = said.skip(before.map_or(0, |place| place + 1));
        let Some((place, _)) = later.into_iter().find(|(_, said)| *said == load) else {
            let last = self.lives[of].said.last();
            return Err(format!(
                "life {life} knows {load:?} of life {of} after its word {before:?}, the last of \
                 which is {last:?}"
            ));
        };
        self.lives[life].places.insert(node, place);
        self.words += 1;
        Ok(())
    }

    /// Of whom a process shows loads.
    pub fn known(&self, life: LifeId) -> impl Iterator<Item = NodeRef> {
        self.lives[life].shown.keys().copied()
    }

    /// Whether a process has ever shown a load of another.
    pub fn has_known(&self, life: LifeId, node: NodeRef) -> bool {
        self.lives[life].places.contains_key(&node)
    }

    /// Whether all of these processes know what another one said [`FRESH`] before, or later.
    ///
    /// # Errors
    /// What one knows instead.
    fn are_fresh(&mut self, all: &[LifeId], of: LifeId, now: Time) -> Result<(), String> {
        let due = self.lives[of].said.iter().rposition(|(at, _)| now.since(*at) >= FRESH);
        let Some(due) = due else { return Ok(()) };
        for life in all.iter().filter(|life| **life != of) {
            let known = &self.lives[*life];
            let seen = Some((due, known.version));
            if known.fresh.get(of) != Some(&seen) {
                self.is_fresh(*life, of, due)?;
                let fresh = &mut self.lives[*life].fresh;
                fresh.resize(fresh.len().max(of + 1), None);
                fresh[of] = seen;
            }
            self.fresh += 1;
        }
        Ok(())
    }

    fn is_fresh(&self, life: LifeId, of: LifeId, due: usize) -> Result<(), String> {
        let (known, other) = (&self.lives[life], &self.lives[of]);
        let knows = known.shown.get(&other.me);
        if other.said[due..].iter().any(|(_, said)| Some(said) == knows) {
            return Ok(());
        }
        let said = other.said[due];
        Err(format!("life {life} knows {knows:?} of life {of}, which said {said:?}"))
    }

    // ---- questions ----

    /// A process asks; `member` is whether it takes the asked one for a member.
    pub fn asked(&mut self, at: Time, asker: LifeId, to: NodeRef, member: bool) -> QuestionId {
        let id = self.questions.len();
        let (ended, written, answered, lost) = (false, false, false, None);
        self.questions.push(Question { asker, to, at, member, ended, written, answered, lost });
        let known = &mut self.lives[asker];
        known.open.push(id);
        if member && to != known.me {
            known.asked.push(id);
        }
        id
    }

    /// The question that a process sent under this number of its own.
    pub fn question(&mut self, asker: LifeId, token: u64) -> Option<&mut Question> {
        let place = usize::try_from(token).ok()?.checked_sub(1)?;
        let id = *self.lives.get(asker)?.asked.get(place)?;
        self.questions.get_mut(id)
    }

    /// A connection in the hands of a process's control is over.
    pub fn broke(&mut self, life: LifeId, now: Time) {
        self.lives[life].broke = Some(now);
    }

    /// A process's control comes to something, and whether more waits for it.
    pub fn comes_to(&mut self, life: LifeId, more: bool) {
        self.lives[life].behind = more;
    }

    /// Who this life is.
    pub fn node(&self, life: LifeId) -> NodeRef {
        self.lives[life].me
    }

    /// A question has ended.
    ///
    /// # Errors
    /// When it cannot have ended so.
    pub fn ended(
        &mut self,
        id: QuestionId,
        now: Time,
        outcome: Result<Load, LoadError>,
    ) -> Result<(), String> {
        let question = &mut self.questions[id];
        let &mut Question { asker, to, at, member, lost, .. } = question;
        if std::mem::replace(&mut question.ended, true) {
            return Err(format!("life {asker} was told the end of question {id} twice"));
        }
        self.lives[asker].open.retain(|open| *open != id);
        // Whoever asks waits by its own clock.
        let own = self.lives[asker].clock;
        let after = own.local(now).since(own.local(at));
        match outcome {
            Ok(load) => {
                let of = self.by_node.get(&to).copied();
                if !of.is_some_and(|of| self.could_say(of, load, at)) {
                    return Err(format!("{to} never gave {load:?} as answer to life {asker}"));
                }
                let before = self.answered.insert((asker, to), id);
                if let Some(before) = before.filter(|before| *before > id) {
                    return Err(format!(
                        "life {asker} had the answer to its question {before} to {to} before that \
                         to question {id}, which came first"
                    ));
                }
                self.answers += u64::from(of != Some(asker));
            }
            Err(LoadError::NotAMember) if member => self.no_members.push(id),
            Err(LoadError::NotAMember) => {}
            Err(LoadError::Lost) if self.lives[asker].may_tell_loss(at, now) => self.losses += 1,
            Err(LoadError::NoAnswer)
                if lost.is_some_and(|lost| lost < now) && !self.lives[asker].behind =>
            {
                return Err(format!(
                    "life {asker} was not told that its question {id} to {to} may be lost"
                ));
            }
            Err(LoadError::NoAnswer) if after >= ANSWER_WITHIN => {}
            Err(error) => {
                return Err(format!(
                    "question {id} of life {asker} ended {after:?} later: {error}"
                ));
            }
        }
        Ok(())
    }
}

/// The load between two readings; if no time passed, what it was.
fn between(earlier: &Reading, later: &Reading, own: Load) -> Load {
    let awake = u128::from(later.awake_ns - earlier.awake_ns);
    let all = awake + u128::from(later.asleep_ns - earlier.asleep_ns);
    let share = (awake * 1_000).checked_div(all);
    let busy_per_mille = share.map_or(own.busy_per_mille, |share| share as u16);
    Load { busy_per_mille, stuck: later.stuck }
}

impl World {
    /// Looks whether the questions of a process have ended as they should.
    pub(in crate::sim) fn check_questions(&mut self, life: LifeId) {
        let Some(body) = self.lives[life].body.as_deref() else { return };
        let view = body.control.view();
        let since = self.lives[life].clock.world(body.running_since);
        // Who stops has no more to say, and who has not come to it yet will.
        let stops = body.left.is_some() || self.is_behind(life);
        let ledger = &mut *self.ledger.lock();
        let Truth { lives, questions, no_members, .. } = &mut ledger.parts.loads;
        let mine = no_members.extract_if(.., |id| questions[*id].asker == life);
        let wrong = mine.map(|id| &questions[id]).find(|question| {
            let member = view.member(question.to.node);
            member.is_some_and(|member| member.node_ref() == question.to)
        });
        if let Some(Question { to, .. }) = wrong {
            let seen = format!("life {life} was told that {to} is no member, which it is");
            return ledger.blame(NAME, seen);
        }
        let late = lives[life]
            .open
            .iter()
            .find(|id| !stops && self.net.now.since(questions[**id].at.max(since)) > TOLD_WITHIN);
        if let Some(id) = late {
            let seen = format!("question {id} of life {life} is open {TOLD_WITHIN:?} later");
            ledger.blame(NAME, seen);
        }
    }

    /// Since `agreed` all nodes are connected: what one says the others know soon.
    pub(in crate::sim) fn check_fresh(&mut self, agreed: Time) {
        let now = self.net.now;
        if now.since(agreed) < FRESH + CATCH_UP {
            return;
        }
        let staying = self.staying();
        let ledger = &mut *self.ledger.lock();
        for of in &staying {
            if let Err(seen) = ledger.parts.loads.are_fresh(&staying, *of, now) {
                ledger.blame(NAME, seen);
            }
        }
    }
}
