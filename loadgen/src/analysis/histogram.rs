//! Latency histograms: recorded whole, merged by adding counts, never averaged, and kept in files
//! that the standard HdrHistogram tools read.
//!
//! All values are nanoseconds. A histogram covers 1 ns to one hour with three significant digits,
//! so two of them always add up without loss and nothing realistic is clamped at the top.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer, V2Serializer};
use serde::{Deserialize, Serialize};

/// The highest latency a histogram holds, in nanoseconds: one hour.
pub const HIGHEST_NS: u64 = 3_600_000_000_000;

/// How many samples must lie beyond a percentile before it is stated: 200 samples for the median,
/// 10,000 for p99, 100,000 for p99.9.
pub const SAMPLES_BEYOND: u64 = 100;

/// An empty latency histogram in nanoseconds. Recording into it does not allocate.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, 3)
        .expect("the bounds are constants that hdrhistogram takes")
}

/// Adds histograms up into one. Counts are added; no percentile of a part is ever used.
pub fn merge<'a>(parts: impl IntoIterator<Item = &'a Histogram<u64>>) -> Histogram<u64> {
    let mut whole = latency_histogram();
    for part in parts {
        // A part with other bounds can exceed these only by lasting more than an hour; it is
        // clamped rather than lost.
        if whole.add(part).is_err() {
            for step in part.iter_recorded() {
                whole.saturating_record_n(step.value_iterated_to(), step.count_at_value());
            }
        }
    }
    whole
}

/// Records latencies and throws the warm-up away.
pub struct LatencyRecorder {
    histogram: Histogram<u64>,
    warm_up_ends_ns: u64,
    discarded: u64,
}

impl LatencyRecorder {
    /// Keeps only samples that were due at or after `warm_up_ends_ns`.
    pub fn new(warm_up_ends_ns: u64) -> Self {
        Self { histogram: latency_histogram(), warm_up_ends_ns, discarded: 0 }
    }

    /// Records a message that was due at `due_ns` and was complete at `done_ns`, on one clock.
    ///
    /// The cut is by due time, not completion, so that a message that was due in the measured
    /// period counts however late it came.
    #[inline]
    pub fn record(&mut self, due_ns: u64, done_ns: u64) {
        if due_ns < self.warm_up_ends_ns {
            self.discarded += 1;
        } else {
            self.histogram.saturating_record(done_ns.saturating_sub(due_ns));
        }
    }

    /// What was recorded after the warm-up.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// How many samples fell into the warm-up.
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Ends recording.
    pub fn into_histogram(self) -> Histogram<u64> {
        self.histogram
    }
}

/// The value at a quantile (0.99 is p99), or `None` when fewer than [`SAMPLES_BEYOND`] samples lie
/// beyond it.
pub fn quantile(histogram: &Histogram<u64>, quantile: f64) -> Option<u64> {
    // Rounded, because 1 - 0.999 is slightly more than 0.001 in binary.
    let beyond = ((1.0 - quantile) * histogram.len() as f64 + 1e-6).floor() as u64;
    (beyond >= SAMPLES_BEYOND).then(|| histogram.value_at_quantile(quantile))
}

/// The figures quoted from a histogram, in nanoseconds. A percentile without enough samples behind
/// it is absent; the maximum is always there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Number of samples.
    pub samples: u64,
    /// Median.
    pub p50_ns: Option<u64>,
    /// 90 of 100 samples are at most this.
    pub p90_ns: Option<u64>,
    /// 99 of 100 samples are at most this.
    pub p99_ns: Option<u64>,
    /// 999 of 1,000 samples are at most this.
    pub p999_ns: Option<u64>,
    /// 9,999 of 10,000 samples are at most this.
    pub p9999_ns: Option<u64>,
    /// The largest sample; 0 without samples.
    pub max_ns: u64,
}

impl Percentiles {
    /// Reads the figures off a histogram.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            samples: histogram.len(),
            p50_ns: quantile(histogram, 0.5),
            p90_ns: quantile(histogram, 0.9),
            p99_ns: quantile(histogram, 0.99),
            p999_ns: quantile(histogram, 0.999),
            p9999_ns: quantile(histogram, 0.9999),
            max_ns: if histogram.is_empty() { 0 } else { histogram.max() },
        }
    }
}

/// Why a histogram could not be read.
#[derive(Debug)]
pub struct HistogramError(String);

impl fmt::Display for HistogramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HistogramError {}

/// The histogram in HdrHistogram's V2 encoding, not compressed.
pub fn to_bytes(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    V2Serializer::new()
        .serialize(histogram, &mut bytes)
        .expect("a Vec takes every write and the counts array is small");
    bytes
}

/// Reads a histogram in V2 encoding, compressed or not, and brings it to the bounds used here.
pub fn from_bytes(bytes: &[u8]) -> Result<Histogram<u64>, HistogramError> {
    let mut reader = bytes;
    let read: Histogram<u64> = Deserializer::new().deserialize(&mut reader).map_err(|error| {
        HistogramError(format!(
            "reading a histogram of {} bytes failed: {error}; expected HdrHistogram V2 encoding",
            bytes.len()
        ))
    })?;
    Ok(merge([&read]))
}

/// A histogram as one line of text: base64 over the V2 encoding.
pub fn to_base64(histogram: &Histogram<u64>) -> String {
    STANDARD.encode(to_bytes(histogram))
}

/// Reads what [`to_base64`] or a V2 log wrote.
pub fn from_base64(text: &str) -> Result<Histogram<u64>, HistogramError> {
    let bytes = STANDARD.decode(text.trim()).map_err(|error| {
        HistogramError(format!("reading a histogram failed: not base64 ({error})"))
    })?;
    from_bytes(&bytes)
}

/// Carries a histogram through serde, for fields marked `#[serde(with = "histogram::text")]`.
pub mod text {
    use hdrhistogram::Histogram;
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes base64 text.
    pub fn serialize<S: Serializer>(
        histogram: &Histogram<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::to_base64(histogram))
    }

    /// Reads base64 text.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Histogram<u64>, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::from_base64(&text).map_err(de::Error::custom)
    }
}

/// One named histogram with the stretch of the run it covers, as stored in a V2 log.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// What was measured; must not contain commas, spaces or line breaks.
    pub tag: String,
    /// Start of the stretch, from the start of the run.
    pub start: Duration,
    /// Length of the stretch.
    pub length: Duration,
    /// The samples.
    pub histogram: Histogram<u64>,
}

/// Writes histograms as a V2 interval log (compressed, as the standard tools expect).
///
/// `started` is the wall time of the run's start, from the Unix epoch.
pub fn write_log(path: &Path, started: Duration, records: &[LogRecord]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("values in nanoseconds")
        .with_start_time(UNIX_EPOCH + started)
        .with_base_time(UNIX_EPOCH + started)
        // The log's readable maximum is in milliseconds, which is the format's habit.
        .with_max_value_divisor(1_000_000.0)
        .begin_log_with(&mut file, &mut serializer)?;
    for record in records {
        let tag = Tag::new(&record.tag).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "writing a histogram log failed: tag {:?} holds a comma, space or line break",
                    record.tag
                ),
            )
        })?;
        log.write_histogram(&record.histogram, record.start, record.length, Some(tag))
            .map_err(|error| io::Error::other(format!("writing a histogram failed: {error:?}")))?;
    }
    drop(log);
    file.flush()
}

/// Reads a V2 interval log back.
pub fn read_log(path: &Path) -> Result<Vec<LogRecord>, HistogramError> {
    let name = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| HistogramError(format!("reading histogram log {name} failed: {error}")))?;
    let mut records = Vec::new();
    for entry in IntervalLogIterator::new(&bytes) {
        let entry = entry.map_err(|error| {
            HistogramError(format!("reading histogram log {name} failed: {error:?}"))
        })?;
        if let LogEntry::Interval(interval) = entry {
            records.push(LogRecord {
                tag: interval.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default(),
                start: interval.start_timestamp(),
                length: interval.duration(),
                histogram: from_base64(interval.encoded_histogram())?,
            });
        }
    }
    Ok(records)
}

/// Writes the percentile distribution in the `.hgrm` text format, values in nanoseconds.
pub fn write_hgrm(out: &mut impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    writeln!(out)?;
    if !histogram.is_empty() {
        let mut total = 0;
        for step in histogram.iter_quantiles(5) {
            total += step.count_since_last_iteration();
            let quantile = step.quantile_iterated_to();
            write!(out, "{:>12.3} {quantile:>14.12} {total:>10}", step.value_iterated_to() as f64)?;
            if quantile < 1.0 {
                writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile))?;
            } else {
                writeln!(out)?;
            }
        }
    }
    let (mean, deviation, max) = if histogram.is_empty() {
        (0.0, 0.0, 0)
    } else {
        (histogram.mean(), histogram.stdev(), histogram.max())
    };
    writeln!(out, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]")?;
    writeln!(out, "#[Max     = {:>12.3}, Total count    = {:>12}]", max as f64, histogram.len())?;
    writeln!(
        out,
        "#[Buckets = {:>12}, SubBuckets     = {:>12}]",
        histogram.buckets(),
        2_u64.pow(u32::from(histogram.sigfig()) * 10 / 3 + 1)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = latency_histogram();
        for value in values {
            histogram.record(value).unwrap();
        }
        histogram
    }

    #[test]
    fn merging_adds_counts_instead_of_averaging() {
        // Averaging the parts' p99 would give 500_000.
        let fast = filled(std::iter::repeat_n(1_000, 990_000));
        let slow = filled(std::iter::repeat_n(1_000_000, 10_000));
        let whole = merge([&fast, &slow]);
        assert_eq!(whole.len(), 1_000_000);
        assert_eq!(quantile(&whole, 0.99), Some(1_000));
        assert_eq!(quantile(&whole, 0.9901), Some(whole.highest_equivalent(1_000_000)));
    }

    #[test]
    fn percentiles_wait_for_enough_samples() {
        let just_short = Percentiles::of(&filled(1..=99_999));
        assert_eq!(just_short.p999_ns, None);
        assert!(just_short.p99_ns.is_some());
        let enough = Percentiles::of(&filled(1..=100_000));
        assert!(enough.p999_ns.is_some());
        assert_eq!(enough.p9999_ns, None);
        assert_eq!(Percentiles::of(&filled(1..=9_999)).p99_ns, None);
        assert!(Percentiles::of(&filled(1..=10_000)).p99_ns.is_some());
        let few = Percentiles::of(&filled([5, 7]));
        assert_eq!((few.samples, few.p50_ns, few.max_ns), (2, None, 7));
        assert_eq!(Percentiles::of(&latency_histogram()).max_ns, 0);
    }

    #[test]
    fn warm_up_is_cut_by_due_time() {
        let mut recorder = LatencyRecorder::new(1_000);
        recorder.record(999, 5_000);
        recorder.record(1_000, 5_000);
        recorder.record(2_000, 1_500);
        assert_eq!(recorder.discarded(), 1);
        assert_eq!(recorder.histogram().len(), 2);
        assert_eq!(recorder.into_histogram().max(), 4_001);
    }

    #[test]
    fn bytes_and_text_carry_every_count() {
        let original = filled((1..5_000).map(|value| value * value));
        assert_eq!(from_bytes(&to_bytes(&original)).unwrap(), original);
        assert_eq!(from_base64(&to_base64(&original)).unwrap(), original);
        let empty = latency_histogram();
        assert_eq!(from_bytes(&to_bytes(&empty)).unwrap(), empty);
    }

    #[test]
    fn damaged_input_is_an_error() {
        let mut bytes = to_bytes(&filled([1, 2, 3]));
        bytes.truncate(20);
        assert!(from_bytes(&bytes).unwrap_err().to_string().contains("20 bytes"));
        assert!(from_bytes(&[]).is_err());
        assert!(from_base64("no base64!").is_err());
    }

    #[test]
    fn a_log_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ask.hlog");
        let records = [
            LogRecord {
                tag: "ask".to_owned(),
                start: Duration::from_secs(2),
                length: Duration::from_secs(10),
                histogram: filled(1..10_000),
            },
            LogRecord {
                tag: "floor.echo".to_owned(),
                start: Duration::from_secs(12),
                length: Duration::from_secs(1),
                histogram: filled([9]),
            },
        ];
        write_log(&path, Duration::from_secs(1_700_000_000), &records).unwrap();
        let read = read_log(&path).unwrap();
        assert_eq!(read.len(), 2);
        for (read, written) in read.iter().zip(&records) {
            assert_eq!(read.tag, written.tag);
            assert_eq!(read.start, written.start);
            assert_eq!(read.length, written.length);
            assert_eq!(read.histogram, written.histogram);
        }
    }

    #[test]
    fn a_tag_that_would_break_the_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let record = LogRecord {
            tag: "two words".to_owned(),
            start: Duration::ZERO,
            length: Duration::ZERO,
            histogram: latency_histogram(),
        };
        let path = folder.path().join("log");
        assert!(write_log(&path, Duration::ZERO, &[record]).is_err());
    }

    #[test]
    fn hgrm_ends_at_the_maximum_with_all_counts() {
        let histogram = filled(1..=1_000);
        let mut text = Vec::new();
        write_hgrm(&mut text, &histogram).unwrap();
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<&str> =
            text.lines().skip(2).take_while(|line| !line.starts_with('#')).collect();
        let last: Vec<&str> = rows.last().unwrap().split_whitespace().collect();
        assert_eq!(last, ["1000.000", "1.000000000000", "1000"]);
        let median = rows.iter().find(|row| row.contains(" 0.500000000000 ")).unwrap();
        let median: Vec<&str> = median.split_whitespace().collect();
        assert_eq!(median, ["500.000", "0.500000000000", "500", "2.00"]);
        assert!(text.contains("Total count    =         1000]"));
        write_hgrm(&mut Vec::new(), &latency_histogram()).unwrap();
    }
}
