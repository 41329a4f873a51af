//! Complaints that are the same again and again: they are told at once, and then ever more seldom.

use std::time::Duration;

use crate::base::Time;

/// The pause after the first time; it doubles with each.
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3_600);

/// How often one complaint came, and when it was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Repeats {
    told: Option<Time>,
    pause: Duration,
    /// How often it came since it was told.
    times: u64,
    /// What was told is another one.
    renewed: bool,
}

impl Repeats {
    /// It comes once more.
    pub fn count(&mut self) {
        self.times += 1;
    }

    /// Whether it is to be told now.
    pub fn is_due(&self, now: Time) -> bool {
        self.times > 0 && self.told.is_none_or(|told| now >= told.plus(self.pause))
    }

    /// It is told. Gives how often it came since the last time, this one included; nothing the
    /// first time.
    pub fn tell(&mut self, now: Time) -> Option<u64> {
        let renewed = std::mem::take(&mut self.renewed);
        let again = self.told.replace(now).is_some() && !renewed;
        self.pause = if again { (self.pause * 2).min(LONGEST) } else { FIRST };
        let times = std::mem::take(&mut self.times);
        again.then_some(times)
    }

    /// It is another one from now on: told at once, unless the last was told a moment ago.
    pub fn renew(&mut self) {
        *self = Self { told: self.told, pause: FIRST, times: 0, renewed: true };
    }

    /// Whether it was ever told, or what it was before.
    pub fn was_told(&self) -> bool {
        self.told.is_some()
    }
}

/// After how long one that did not come again is a new one.
const FORGOTTEN: Duration = Duration::from_secs(7_200);
/// How many are told apart.
const MOST: usize = 8;

/// Complaints by their texts.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<(String, Time, Repeats)>);

impl Complaints {
    /// Somebody complains. Gives what is to be told of it now, if the log has room; else it stays due.
    pub fn hear(&mut self, now: Time, text: &str, has_room: bool) -> Option<String> {
        self.0.retain(|(_, last, _)| now.since(*last) < FORGOTTEN);
        let place = match self.0.iter().position(|(known, ..)| known == text) {
            Some(place) => place,
            None => {
                if self.0.len() == MOST {
                    self.0.remove(0);
                }
                self.0.push((text.to_owned(), now, Repeats::default()));
                self.0.len() - 1
            }
        };
        let (text, last, repeats) = &mut self.0[place];
        *last = now;
        repeats.count();
        if !has_room || !repeats.is_due(now) {
            return None;
        }
        Some(match repeats.tell(now) {
            None => text.clone(),
            Some(times) => format!("{text} ({times} times since this was last said)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_alternates_is_held_back_as_well() {
        let mut complaints = Complaints::default();
        let told = (0..300).filter(|second| {
            let text = if second % 2 == 0 { "one" } else { "other" };
            complaints.hear(Time(second * 1_000_000_000), text, true).is_some()
        });
        assert_eq!(told.collect::<Vec<_>>(), [0, 1, 60, 61, 180, 181]);
        for text in 0..1_000 {
            complaints.hear(Time(0), &text.to_string(), true);
        }
        assert_eq!(complaints.0.len(), MOST);
    }

    #[test]
    fn what_finds_no_room_is_told_as_soon_as_there_is_some() {
        let mut complaints = Complaints::default();
        assert_eq!(complaints.hear(Time(0), "no", false), None);
        assert_eq!(complaints.hear(Time(1), "no", true).as_deref(), Some("no"));
        assert_eq!(complaints.hear(Time(2), "no", true), None);
    }

    #[test]
    fn what_repeats_is_told_at_once_and_then_ever_more_seldom() {
        let mut repeats = Repeats::default();
        let mut told = Vec::new();
        for second in 0..20_000 {
            let now = Time(second * 1_000_000_000);
            repeats.count();
            if repeats.is_due(now) {
                told.push((second, repeats.tell(now)));
            }
        }
        let at: Vec<u64> = told.iter().map(|(second, _)| *second).collect();
        assert_eq!(at, [0, 60, 180, 420, 900, 1_860, 3_780, 7_380, 10_980, 14_580, 18_180]);
        assert_eq!((told[0].1, told[1].1, told[10].1), (None, Some(60), Some(3_600)));
        // The same where it is told apart from others by its text.
        let mut complaints = Complaints::default();
        let told = (0..20_000).filter(|second| {
            complaints.hear(Time(second * 1_000_000_000), "the same", true).is_some()
        });
        assert!(told.eq(at), "one that goes on is none that came anew");
    }

    #[test]
    fn what_does_not_come_again_is_not_told_again() {
        let mut repeats = Repeats::default();
        repeats.count();
        repeats.tell(Time(0));
        assert!(!repeats.is_due(Time(3_600_000_000_000)));
    }
}
