//! The flags that all commands share, and how their values are written.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// The fixed flags. A command fills in its own default for what is not given, and says so
/// when a given flag has no meaning for it.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// Cluster nodes, each a process
    #[arg(long, value_name = "N")]
    pub nodes: Option<u32>,
    /// Worker cores of each node
    #[arg(long, value_name = "N")]
    pub cores: Option<u32>,
    /// Payload bytes per message
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub size: Option<u32>,
    /// Messages per second to offer, as 250000, 250k or 1.5M
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// How long to measure, as 500ms, 10s or 2m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Distinct keys
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub keys: Option<u64>,
    /// Folder for the raw data and the report [default: a new one in results/local]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Also write the summary to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The processor cores to use, as 0,1 or 0-3 [default: the first allowed ones]
    #[arg(long, value_name = "LIST", value_parser = parse_core_list)]
    pub pin: Option<CoreList>,
    /// Interleaved rounds; a figure needs five to be quoted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,
    /// Seed of everything that is drawn, such as the order of rounds [default: the time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
}

/// Processor cores, as numbered by the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreList(pub Vec<usize>);

/// Reads `500ms`, `10s`, `2m`, or plain seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit {
        "" | "s" => number,
        "ms" => number / 1e3,
        "us" => number / 1e6,
        "m" | "min" => number * 60.0,
        _ => return Err(format!("unknown unit {unit:?}: use us, ms, s or m")),
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be more than nothing and less than forever".to_owned()),
    }
}

/// Reads `1000`, `250k` or `1.5M`.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = parse_scaled(text, 1_000.0)?;
    if rate > 0.0 { Ok(rate) } else { Err("must be more than nothing".to_owned()) }
}

/// Reads `1000`, `10k` or `1M`.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let count = parse_scaled(text, 1_000.0)?;
    if count >= 1.0 && count.fract() == 0.0 && count < 1e15 {
        Ok(count as u64)
    } else {
        Err("must be a whole number from 1".to_owned())
    }
}

/// Reads `64`, `64B`, `4k` or `1M`, in powers of 1024.
pub fn parse_bytes(text: &str) -> Result<u32, String> {
    let plain = text.trim_end_matches("iB").trim_end_matches('B');
    let bytes = parse_scaled(plain, 1_024.0)?;
    if bytes.fract() == 0.0 && bytes <= f64::from(u32::MAX) {
        Ok(bytes as u32)
    } else {
        Err("must be a whole number of bytes below 4 GiB".to_owned())
    }
}

/// Reads `0,1`, `0-3` or `0,2-3`; a core may be named once.
pub fn parse_core_list(text: &str) -> Result<CoreList, String> {
    let number = |text: &str| {
        text.trim()
            .parse::<usize>()
            .ok()
            .filter(|core| *core < 1024)
            .ok_or_else(|| format!("{text:?} is not a core's number"))
    };
    let mut cores = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => cores.extend(number(first)?..=number(last)?),
            None => cores.push(number(part)?),
        }
    }
    let mut sorted = cores.clone();
    sorted.sort_unstable();
    if sorted.is_empty() || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("name each core once, ranges from low to high".to_owned());
    }
    Ok(CoreList(cores))
}

fn parse_scaled(text: &str, thousand: f64) -> Result<f64, String> {
    let (number, unit) = split_unit(text)?;
    match unit {
        "" => Ok(number),
        "k" | "K" => Ok(number * thousand),
        "M" => Ok(number * thousand * thousand),
        "G" => Ok(number * thousand * thousand * thousand),
        _ => Err(format!("unknown unit {unit:?}: use k, M or G")),
    }
}

fn split_unit(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.parse().map_err(|_| format!("{text:?} is not a number"))?;
    Ok((number, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "0s", "-1s", "1h", "1e99s", "1.2.3s", "99999999999999999999999s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_counts_and_bytes() {
        assert_eq!(parse_rate("250k"), Ok(250_000.0));
        assert_eq!(parse_rate("1.5M"), Ok(1_500_000.0));
        assert_eq!(parse_count("10k"), Ok(10_000));
        assert_eq!(parse_bytes("64"), Ok(64));
        assert_eq!(parse_bytes("64B"), Ok(64));
        assert_eq!(parse_bytes("4KiB"), Ok(4_096));
        assert!(parse_rate("0").is_err() && parse_rate("1x").is_err());
        assert!(parse_count("1.5").is_err() && parse_count("0").is_err());
        assert!(parse_bytes("9G").is_err() && parse_bytes("1.5B").is_err());
    }

    #[test]
    fn core_lists() {
        assert_eq!(parse_core_list("0,1"), Ok(CoreList(vec![0, 1])));
        assert_eq!(parse_core_list("4,0-2"), Ok(CoreList(vec![4, 0, 1, 2])));
        for wrong in ["", "0,0", "0-2,1", "3-1", "a", "0-", "5000", "0-18446744073709551615"] {
            assert!(parse_core_list(wrong).is_err(), "{wrong}");
        }
    }
}
