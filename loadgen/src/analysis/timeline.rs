//! What happened when: delivered messages, latency and faults in buckets of 100 ms, and how long
//! each event silenced the messages it touched.
//!
//! Every process records on the machine's monotonic clock, against a start that the parent chose.
//! Merging adds counts and histograms; a silence of the whole is a time in which every part was
//! silent.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::histogram::{self, latency_histogram};
use crate::error::{Failure, Result};

/// The width of a bucket: 100 ms.
pub const BUCKET_NS: u64 = 100_000_000;

/// The shortest time without a success that is remembered: 1 ms.
pub const SHORTEST_SILENCE_NS: u64 = 1_000_000;

/// How many samples a bucket needs for its p99. Far fewer than for a quoted percentile: a bucket
/// is a dot on a curve. Below this, p99 would be the maximum by another name.
pub const BUCKET_SAMPLES_FOR_P99: u64 = 100;

/// How a message ended that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Returned to the sender with an error.
    Refused,
    /// Became a dead letter.
    Dead,
    /// Its link was lost.
    Unknown,
}

/// Records one process's part of the timeline.
pub struct TimelineRecorder {
    start_ns: u64,
    duration_ns: u64,
    open: u64,
    counts: Counts,
    latency: Histogram<u64>,
    buckets: Vec<BucketRecord>,
    silences: Vec<(u64, u64)>,
    last_success_ns: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    delivered: u64,
    refused: u64,
    dead: u64,
    unknown: u64,
}

/// One bucket of one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct BucketRecord {
    index: u64,
    #[serde(flatten)]
    counts: Counts,
    /// Base64 of the V2 encoding.
    latency: String,
}

/// One process's part of the timeline; goes to the parent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimelineRecord {
    duration_ns: u64,
    buckets: Vec<BucketRecord>,
    silences: Vec<(u64, u64)>,
}

impl TimelineRecorder {
    /// Records from `start_ns` for `duration_ns`. What comes later goes to the last bucket, so
    /// that memory is bounded and nothing is lost.
    pub fn new(start_ns: u64, duration_ns: u64) -> Self {
        Self {
            start_ns,
            duration_ns,
            open: 0,
            counts: Counts::default(),
            latency: latency_histogram(),
            buckets: Vec::with_capacity((duration_ns / BUCKET_NS + 1) as usize),
            silences: Vec::new(),
            last_success_ns: 0,
        }
    }

    /// Records a delivered message with its latency, at the time of its completion.
    #[inline]
    pub fn success(&mut self, now_ns: u64, latency_ns: u64) {
        self.delivered(now_ns, 1);
        self.latency.saturating_record(latency_ns);
    }

    /// Records delivered messages whose latency was not taken.
    #[inline]
    pub fn delivered(&mut self, now_ns: u64, messages: u64) {
        let at_ns = self.turn_to(now_ns);
        self.counts.delivered += messages;
        if at_ns > self.last_success_ns + SHORTEST_SILENCE_NS {
            self.silences.push((self.last_success_ns, at_ns));
        }
        self.last_success_ns = at_ns.max(self.last_success_ns);
    }

    /// Records messages that were not delivered.
    #[inline]
    pub fn fault(&mut self, now_ns: u64, fault: Fault, messages: u64) {
        self.turn_to(now_ns);
        match fault {
            Fault::Refused => self.counts.refused += messages,
            Fault::Dead => self.counts.dead += messages,
            Fault::Unknown => self.counts.unknown += messages,
        }
    }

    /// Opens the bucket of this time and returns the time from the start.
    #[inline]
    fn turn_to(&mut self, now_ns: u64) -> u64 {
        let at_ns = now_ns.saturating_sub(self.start_ns).min(self.duration_ns);
        // A time before the open bucket, from a clock read a little earlier, stays in it.
        if at_ns / BUCKET_NS > self.open {
            self.close();
            self.open = at_ns / BUCKET_NS;
        }
        at_ns
    }

    /// Ten times a second: encodes the bucket, so that memory follows the samples instead of the
    /// width of a histogram.
    #[cold]
    fn close(&mut self) {
        if self.counts != Counts::default() {
            self.buckets.push(BucketRecord {
                index: self.open,
                counts: self.counts,
                latency: histogram::to_base64(&self.latency),
            });
            self.counts = Counts::default();
            self.latency.reset();
        }
    }

    /// Ends the recording.
    pub fn finish(mut self) -> TimelineRecord {
        self.close();
        if self.duration_ns > self.last_success_ns + SHORTEST_SILENCE_NS {
            self.silences.push((self.last_success_ns, self.duration_ns));
        }
        TimelineRecord {
            duration_ns: self.duration_ns,
            buckets: self.buckets,
            silences: self.silences,
        }
    }
}

/// One bucket of the whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Start of the bucket, from the start of the run.
    pub at_ms: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Median latency of those whose latency was taken.
    pub p50_ns: Option<u64>,
    /// 99th percentile; absent below [`BUCKET_SAMPLES_FOR_P99`] samples.
    pub p99_ns: Option<u64>,
    /// The slowest.
    pub max_ns: Option<u64>,
    /// Returned to the sender with an error.
    pub refused: u64,
    /// Dead letters.
    pub dead: u64,
    /// Lost with a link.
    pub unknown: u64,
}

/// Something done to the cluster on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventMark {
    /// `join`, `leave`, `kill`, ... ; letters, digits and `-`.
    pub kind: String,
    /// When, from the start of the run, in microseconds.
    pub at_us: u64,
}

impl EventMark {
    /// An event at a time in nanoseconds from the start of the run.
    pub fn new(kind: impl Into<String>, at_ns: u64) -> Self {
        Self { kind: kind.into(), at_us: at_ns / 1_000 }
    }

    fn at_ns(&self) -> u64 {
        self.at_us * 1_000
    }
}

/// How an event showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The longest time without a success between this event and the next (or the end). 0 if
    /// there was none of at least 1 ms.
    pub gap_ns: u64,
    /// From the event to the first success after it; `None` if none followed before the end. 0 if
    /// successes never paused for 1 ms.
    pub resumed_ns: Option<u64>,
}

impl Gap {
    /// The longest time without a success, in milliseconds.
    pub fn gap_ms(&self) -> f64 {
        self.gap_ns as f64 / 1e6
    }
}

/// The timeline of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Every bucket of the run without holes, also empty ones.
    pub buckets: Vec<Bucket>,
    /// In order of time.
    pub events: Vec<EventMark>,
    duration_ns: u64,
    silences: Vec<(u64, u64)>,
}

impl Timeline {
    /// Puts the parts of all processes together.
    ///
    /// For the silence after an event, record the messages that it touches (the keys of a killed
    /// node, say) with recorders of their own and merge those: what goes on undisturbed elsewhere
    /// would hide the silence.
    pub fn merge(parts: &[TimelineRecord], mut events: Vec<EventMark>) -> Result<Self> {
        events.sort_by_key(|event| event.at_us);
        let duration_ns = parts.iter().map(|part| part.duration_ns).max().unwrap_or(0);
        let mut merged: Vec<(Counts, Option<Histogram<u64>>)> = Vec::new();
        for bucket in parts.iter().flat_map(|part| &part.buckets) {
            let latency = histogram::from_base64(&bucket.latency)
                .map_err(|error| Failure::new("merge the timeline of a process", error))?;
            let index = bucket.index as usize;
            // Ten per second: a number above a week's is damage, and would exhaust the memory.
            if index > 7 * 86_400 * 10 {
                return Err(Failure::new(
                    "merge the timeline of a process",
                    "a bucket lies weeks off",
                ));
            }
            if merged.len() <= index {
                merged.resize_with(index + 1, Default::default);
            }
            let (counts, whole) = &mut merged[index];
            counts.delivered += bucket.counts.delivered;
            counts.refused += bucket.counts.refused;
            counts.dead += bucket.counts.dead;
            counts.unknown += bucket.counts.unknown;
            *whole = Some(match whole.take() {
                Some(whole) => histogram::merge([&whole, &latency]),
                None => latency,
            });
        }
        let buckets = merged
            .into_iter()
            .enumerate()
            .map(|(index, (counts, latency))| {
                let latency = latency.filter(|latency| !latency.is_empty());
                let at_least = |samples| latency.as_ref().filter(|part| part.len() >= samples);
                Bucket {
                    at_ms: index as u64 * BUCKET_NS / 1_000_000,
                    delivered: counts.delivered,
                    p50_ns: at_least(1).map(|part| part.value_at_quantile(0.5)),
                    p99_ns: at_least(BUCKET_SAMPLES_FOR_P99)
                        .map(|part| part.value_at_quantile(0.99)),
                    max_ns: at_least(1).map(Histogram::max),
                    refused: counts.refused,
                    dead: counts.dead,
                    unknown: counts.unknown,
                }
            })
            .collect();
        let silences = parts
            .iter()
            .map(|part| part.silences.clone())
            .reduce(|a, b| intersect(&a, &b))
            .unwrap_or_default();
        Ok(Self { buckets, events, duration_ns, silences })
    }

    /// How the event with this index showed.
    ///
    /// # Panics
    /// If there is no such event.
    pub fn gap_after(&self, event: usize) -> Gap {
        let at_ns = self.events[event].at_ns();
        let next =
            self.events[event + 1..].iter().find(|next| next.at_us > self.events[event].at_us);
        let until_ns = next.map_or(self.duration_ns, EventMark::at_ns);
        let gap_ns = self
            .silences
            .iter()
            .map(|&(from, until)| until.min(until_ns).saturating_sub(from.max(at_ns)))
            .max()
            .unwrap_or(0);
        let around = self.silences.iter().find(|(from, until)| (*from..*until).contains(&at_ns));
        let resumed_ns = match around {
            Some(&(_, until)) => (until < self.duration_ns).then_some(until - at_ns),
            None => (at_ns < self.duration_ns).then_some(0),
        };
        Gap { gap_ns, resumed_ns }
    }

    /// The timeline as `timeline.csv`: one line per bucket, empty fields where nothing was
    /// measured, events as `kind@ms` in the line of their bucket.
    pub fn to_csv(&self) -> String {
        let mut text =
            String::from("at_ms,delivered,p50_ns,p99_ns,max_ns,refused,dead,unknown,events\n");
        let optional = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
        for (index, bucket) in self.buckets.iter().enumerate() {
            let from_us = bucket.at_ms * 1_000;
            let last = index + 1 == self.buckets.len();
            let here = self.events.iter().filter(|event| {
                event.at_us >= from_us && (last || event.at_us < from_us + BUCKET_NS / 1_000)
            });
            let events: Vec<String> = here
                .map(|event| {
                    let kind: String = event
                        .kind
                        .chars()
                        .map(|c| if c.is_alphanumeric() || c == '-' || c == '_' { c } else { ' ' })
                        .collect();
                    format!("{kind}@{}.{:03}", event.at_us / 1_000, event.at_us % 1_000)
                })
                .collect();
            writeln!(
                text,
                "{},{},{},{},{},{},{},{},{}",
                bucket.at_ms,
                bucket.delivered,
                optional(bucket.p50_ns),
                optional(bucket.p99_ns),
                optional(bucket.max_ns),
                bucket.refused,
                bucket.dead,
                bucket.unknown,
                events.join(";"),
            )
            .expect("a String takes every write");
        }
        text
    }

    /// Reads `timeline.csv` back, for drawing. Silences are not in the file.
    pub fn from_csv(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        lines.next();
        let mut timeline = Self::default();
        for (index, line) in lines.enumerate() {
            let fail = || {
                Failure::new(
                    format!("read line {} of timeline.csv", index + 2),
                    format!("{line:?} does not have nine fields of numbers and events"),
                )
            };
            let fields: Vec<&str> = line.split(',').collect();
            let [at_ms, delivered, p50, p99, max, refused, dead, unknown, events] = fields[..]
            else {
                return Err(fail());
            };
            let number = |field: &str| field.parse::<u64>().map_err(|_| fail());
            let optional =
                |field: &str| if field.is_empty() { Ok(None) } else { number(field).map(Some) };
            timeline.buckets.push(Bucket {
                at_ms: number(at_ms)?,
                delivered: number(delivered)?,
                p50_ns: optional(p50)?,
                p99_ns: optional(p99)?,
                max_ns: optional(max)?,
                refused: number(refused)?,
                dead: number(dead)?,
                unknown: number(unknown)?,
            });
            for event in events.split(';').filter(|event| !event.is_empty()) {
                let (kind, at_ms) = event.split_once('@').ok_or_else(fail)?;
                let at_ms: f64 = at_ms.parse().map_err(|_| fail())?;
                timeline.events.push(EventMark {
                    kind: kind.to_owned(),
                    at_us: (at_ms * 1_000.0).round() as u64,
                });
            }
        }
        timeline.duration_ns = timeline.buckets.len() as u64 * BUCKET_NS;
        Ok(timeline)
    }
}

/// The times that lie in a range of both lists; both sorted and disjoint.
fn intersect(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut both = Vec::new();
    while let (Some(&&(a_from, a_until)), Some(&&(b_from, b_until))) = (a.peek(), b.peek()) {
        let (from, until) = (a_from.max(b_from), a_until.min(b_until));
        if from < until {
            both.push((from, until));
        }
        if a_until <= b_until {
            a.next();
        } else {
            b.next();
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;
    /// The runs here start at an odd time of the machine's clock.
    const START: u64 = 123_456_789;

    /// Successes every `every_ms` except in the silent ranges (in ms).
    fn part(duration_ms: u64, every_ms: u64, silent: &[(u64, u64)]) -> TimelineRecord {
        let mut recorder = TimelineRecorder::new(START, duration_ms * MS);
        for at_ms in (0..duration_ms).step_by(every_ms as usize) {
            if !silent.iter().any(|&(from, until)| at_ms > from && at_ms < until) {
                recorder.success(START + at_ms * MS, at_ms + 1);
            }
        }
        recorder.finish()
    }

    #[test]
    fn buckets_add_up_over_processes() {
        let mut slow = TimelineRecorder::new(START, 1_000 * MS);
        for _ in 0..100 {
            slow.success(START + 250 * MS, 1_000_000);
        }
        slow.fault(START + 250 * MS, Fault::Refused, 3);
        slow.fault(START + 450 * MS, Fault::Dead, 2);
        slow.fault(START + 450 * MS, Fault::Unknown, 1);
        slow.success(START + 5_000 * MS, 7);
        let mut fast = TimelineRecorder::new(START, 1_000 * MS);
        for _ in 0..9_900 {
            fast.success(START + 299 * MS, 1_000);
        }
        fast.delivered(START + 300 * MS, 11);
        let timeline = Timeline::merge(&[slow.finish(), fast.finish()], Vec::new()).unwrap();
        assert_eq!(timeline.buckets.len(), 11, "the late one is in the bucket of the end");
        let third = &timeline.buckets[2];
        assert_eq!((third.at_ms, third.delivered, third.refused), (200, 10_000, 3));
        // Averaging p99 over the two processes would give half a millisecond.
        assert_eq!((third.p50_ns, third.p99_ns), (Some(1_000), Some(1_000)));
        assert!(third.max_ns.unwrap() >= 1_000_000);
        assert_eq!((timeline.buckets[3].delivered, timeline.buckets[3].p50_ns), (11, None));
        assert_eq!((timeline.buckets[4].dead, timeline.buckets[4].unknown), (2, 1));
        assert_eq!(timeline.buckets[5], Bucket { at_ms: 500, ..Bucket::default() });
        assert_eq!((timeline.buckets[10].p50_ns, timeline.buckets[10].p99_ns), (Some(7), None));
    }

    #[test]
    fn a_gap_is_the_longest_common_silence_after_the_event() {
        let a = part(2_000, 1, &[(500, 800), (1_000, 1_010)]);
        let b = part(2_000, 1, &[(600, 900), (1_002, 1_050)]);
        let events = vec![EventMark::new("kill", 550 * MS), EventMark::new("join", 990 * MS)];
        let timeline = Timeline::merge(&[a.clone(), b], events.clone()).unwrap();
        let kill = timeline.gap_after(0);
        assert_eq!((kill.gap_ns, kill.resumed_ns), (200 * MS, Some(0)));
        let join = timeline.gap_after(1);
        assert_eq!((join.gap_ms(), join.resumed_ns), (8.0, Some(0)));
        // Alone, the first part was already silent when the event came.
        let timeline = Timeline::merge(&[a], events).unwrap();
        let kill = timeline.gap_after(0);
        assert_eq!((kill.gap_ns, kill.resumed_ns), (250 * MS, Some(250 * MS)));
    }

    #[test]
    fn a_silence_to_the_end_is_not_resumed() {
        let part = part(1_000, 1, &[(400, 2_000)]);
        let events = vec![EventMark::new("kill", 400 * MS + MS / 2)];
        let timeline = Timeline::merge(&[part], events).unwrap();
        let gap = timeline.gap_after(0);
        assert_eq!((gap.gap_ns, gap.resumed_ns), (600 * MS - MS / 2, None));
    }

    #[test]
    fn the_file_is_read_back() {
        let events = vec![
            EventMark::new("kill -9, node 2", 250 * MS + 1_000),
            EventMark::new("join", 5_000 * MS),
        ];
        let timeline = Timeline::merge(&[part(1_000, 2, &[(300, 600)])], events).unwrap();
        let text = timeline.to_csv();
        assert!(text.lines().any(|line| line.starts_with("200,50,") && line.ends_with("@250.001")));
        assert!(text.lines().any(|line| line == "400,0,,,,0,0,0,"), "{text}");
        let read = Timeline::from_csv(&text).unwrap();
        assert_eq!(read.buckets, timeline.buckets);
        assert_eq!(
            read.events[0],
            EventMark { kind: "kill -9  node 2".to_owned(), at_us: 250_001 }
        );
        assert_eq!(read.events[1].kind, "join");
        let error = Timeline::from_csv("head\n1,2,3\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        assert!(Timeline::from_csv("head\n0,x,,,,0,0,0,\n").is_err());
    }

    #[test]
    fn records_travel_as_json() {
        let record = part(500, 1, &[(100, 200)]);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<TimelineRecord>(&text).unwrap(), record);
        let damaged = text.replacen("\"index\":0", "\"index\":99999999999", 1);
        let damaged: TimelineRecord = serde_json::from_str(&damaged).unwrap();
        assert!(Timeline::merge(&[damaged], Vec::new()).is_err());
    }

    #[test]
    fn nothing_recorded_is_no_panic() {
        let timeline = Timeline::merge(&[], vec![EventMark::new("kill", 5)]).unwrap();
        assert_eq!(timeline.gap_after(0), Gap { gap_ns: 0, resumed_ns: None });
        assert_eq!(timeline.to_csv().lines().count(), 1);
    }

    proptest! {
        /// Against the truth from all successes at once.
        #[test]
        fn the_gap_of_parts_is_the_gap_of_the_whole(
            successes in prop::collection::vec((0..3_usize, 0..1_000_u64), 1..60),
            event_ms in 0..1_000_u64,
        ) {
            let mut successes = successes;
            successes.sort_by_key(|&(_, at_ms)| at_ms);
            // Half a millisecond beside the event, so that nothing happens at the same instant.
            let event_ns = event_ms * MS + MS / 2;
            let mut recorders: Vec<_> =
                (0..3).map(|_| TimelineRecorder::new(START, 1_001 * MS)).collect();
            for &(part, at_ms) in &successes {
                recorders[part].success(START + at_ms * MS, 1);
            }
            let parts: Vec<_> = recorders.into_iter().map(TimelineRecorder::finish).collect();
            let timeline =
                Timeline::merge(&parts, vec![EventMark::new("kill", event_ns)]).unwrap();

            let after: Vec<u64> = successes
                .iter()
                .map(|&(_, at_ms)| at_ms * MS)
                .filter(|&at_ns| at_ns > event_ns)
                .collect();
            let mut longest = 0;
            let mut from = event_ns;
            for at_ns in after.iter().copied().chain([1_001 * MS]) {
                longest = longest.max(at_ns - from);
                from = at_ns;
            }
            let gap = timeline.gap_after(0);
            // Pauses of up to 1 ms in one part are not remembered, so a silence may end that
            // much early on either side.
            prop_assert!(gap.gap_ns <= longest, "{} > {longest}", gap.gap_ns);
            prop_assert!(gap.gap_ns + 3 * MS >= longest, "{} < {longest}", gap.gap_ns);
            match (gap.resumed_ns, after.first()) {
                (Some(resumed), Some(first)) => {
                    prop_assert!((first - event_ns).abs_diff(resumed) <= 3 * MS);
                }
                (None, Some(first)) => prop_assert!(1_001 * MS - first <= 3 * MS),
                (Some(resumed), None) => prop_assert!(resumed <= 3 * MS),
                (None, None) => {}
            }
        }
    }
}
