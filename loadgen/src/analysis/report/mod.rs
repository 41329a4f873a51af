//! What a run leaves behind: the raw files, the plots drawn from them, and one page that shows
//! both.
//!
//! A scenario writes its raw files through a [`RunFolder`], describes the page as a [`Report`]
//! and calls [`RunFolder::finish`]. Everything on the page comes from files in the folder, so that
//! [`rebuild`] makes it again from them, long after the run.

mod figures;
mod page;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::histogram::{self, LogRecord};
use super::ledger::Audit;
use super::plots::{self, Caption, LoadPoint, ScalePlot, ScaleSample};
use super::rounds::Round;
use super::timeline::Timeline;
use super::usl::{self, Point};
use crate::error::{Attempt, Failure, Result};
use crate::machine::MachineCard;
use crate::summary::Summary;

pub use figures::{FigureRow, figure_table, figures};

const REPORT: &str = "report.json";
const SUMMARY: &str = "summary.json";
const TIMELINE: &str = "timeline.csv";

/// Bootstrap rounds behind the confidence of a scaling law.
const RESAMPLES: usize = 1_000;
/// The seed of that bootstrap, fixed so that a rebuilt page shows the same numbers.
const FIT_SEED: u64 = 1;

/// What the page shows besides the summary; stored as `report.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was measured.
    pub title: String,
    /// The full setting: message size, processes, hops, loopback or network, in-flight window,
    /// batching, pinning, commit, machine. Stands in the headline and below each plot's title.
    pub setting: String,
    /// The plots, in order.
    pub plots: Vec<Plot>,
    /// The rounds behind quoted figures.
    pub rounds: Vec<RoundSet>,
    /// The full account of each part of the run.
    pub audits: Vec<NamedAudit>,
    /// Reservations and explanations, one paragraph each.
    pub notes: Vec<String>,
}

/// A plot and where its data is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Plot {
    /// Latency over offered load.
    Load {
        /// Title of the plot.
        title: String,
        /// At least ten loads.
        points: Vec<LoadPoint>,
        /// Messages per second that the run itself found to be its limit.
        saturation_per_s: Option<f64>,
        /// The echo floor.
        floor_p50_ns: Option<u64>,
    },
    /// Throughput over nodes, with the fitted law.
    Scaling {
        /// Title of the plot.
        title: String,
        /// Every round.
        samples: Vec<ScaleSample>,
        /// Cores of the machine.
        cores: u32,
    },
    /// `timeline.csv`.
    Timeline {
        /// Title of the plot.
        title: String,
    },
    /// Distributions from histogram logs in the folder.
    Percentiles {
        /// Title of the plot.
        title: String,
        /// The curves.
        curves: Vec<Curve>,
    },
    /// The summary's ratios to its floors.
    Ratios {
        /// Title of the plot.
        title: String,
    },
}

/// One distribution of a percentile plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// The name that [`RunFolder::write_histograms`] was given.
    pub file: String,
    /// The record's tag; all records with this tag are merged.
    pub tag: String,
}

/// What the values of a round are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Anything per second, or a count.
    Count,
    /// A factor.
    Ratio,
}

/// The rounds behind one figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundSet {
    /// The figure, as `ask p50`.
    pub name: String,
    /// What the values are.
    pub unit: Unit,
    /// In the order in which they ran.
    pub rounds: Vec<Round>,
}

/// The account of one part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedAudit {
    /// Which part.
    pub name: String,
    /// Its account.
    pub audit: Audit,
}

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Writes into a folder that exists, as [`crate::output::make_run_folder`] makes it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `plan.toml`: what was asked.
    pub fn write_plan(&self, plan: &impl Serialize) -> Result<()> {
        let text = toml::to_string_pretty(plan).attempting("put the plan into TOML")?;
        self.write_file("plan.toml", &text)
    }

    /// Writes `machine.json`.
    pub fn write_machine(&self, card: &MachineCard) -> Result<()> {
        card.write(&self.path)
    }

    /// Writes `timeline.csv`.
    pub fn write_timeline(&self, timeline: &Timeline) -> Result<()> {
        self.write_file(TIMELINE, &timeline.to_csv())
    }

    /// Writes `<name>.hlog` (V2 log) with all records, and `<name>.<tag>.hgrm` (percentiles) for
    /// each tag, its records merged. `started` is the run's wall time from the Unix epoch.
    pub fn write_histograms(
        &self,
        name: &str,
        started: Duration,
        records: &[LogRecord],
    ) -> Result<()> {
        let name = file_name(name);
        let path = self.path.join(format!("{name}.hlog"));
        let attempt = format!("write {}", path.display());
        histogram::write_log(&path, started, records).attempting(&attempt)?;
        let mut tags: Vec<&str> = records.iter().map(|record| record.tag.as_str()).collect();
        tags.sort_unstable();
        tags.dedup();
        for tag in tags {
            let whole = merge_tag(records, tag);
            let mut text = Vec::new();
            histogram::write_hgrm(&mut text, &whole).attempting(&attempt)?;
            let text = String::from_utf8(text).attempting(&attempt)?;
            self.write_file(&format!("{name}.{}.hgrm", file_name(tag)), &text)?;
        }
        Ok(())
    }

    /// Writes `summary.json` and `report.json`, draws the plots from the raw files, and writes
    /// `report.html`. Returns the page's path.
    pub fn finish(&self, report: &Report, summary: &Summary) -> Result<PathBuf> {
        summary.write(&self.path.join(SUMMARY))?;
        let mut text =
            serde_json::to_string_pretty(report).attempting("put the report into JSON")?;
        text.push('\n');
        self.write_file(REPORT, &text)?;
        self.draw(report, summary)
    }

    fn draw(&self, report: &Report, summary: &Summary) -> Result<PathBuf> {
        let mut pictures = Vec::new();
        for (index, plot) in report.plots.iter().enumerate() {
            let (kind, svg) = self.draw_plot(plot, report, summary)?;
            let file = format!("plot-{}-{kind}.svg", index + 1);
            self.write_file(&file, &svg)?;
            pictures.push((file, svg));
        }
        // Listed before the page is written, so that it does not link to itself.
        let files = self.raw_files()?;
        let machine = std::fs::read_to_string(self.path.join("machine.json"))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok());
        let page = page::page(report, summary, machine.as_ref(), &pictures, &files);
        self.write_file("report.html", &page)?;
        Ok(self.path.join("report.html"))
    }

    fn draw_plot(
        &self,
        plot: &Plot,
        report: &Report,
        summary: &Summary,
    ) -> Result<(&'static str, String)> {
        let caption = |title: &String| Caption {
            title: title.clone(),
            setting: report.setting.clone(),
            void: summary.void.clone(),
        };
        Ok(match plot {
            Plot::Load { title, points, saturation_per_s, floor_p50_ns } => (
                "load",
                plots::latency_vs_load(&caption(title), points, *saturation_per_s, *floor_p50_ns),
            ),
            Plot::Scaling { title, samples, cores } => {
                let points: Vec<Point> = samples
                    .iter()
                    .map(|sample| Point {
                        nodes: f64::from(sample.nodes),
                        throughput: f64::from(sample.nodes) * sample.msgs_per_cpu_s,
                    })
                    .collect();
                let mut caption = caption(title);
                let fit = usl::fit(&points, RESAMPLES, FIT_SEED);
                if let Err(reason) = &fit {
                    caption.setting += &format!(" - no law: {reason}");
                }
                let plot = ScalePlot { samples, fit: fit.as_ref().ok(), cores: *cores };
                ("scaling", plots::scaling(&caption, &plot))
            }
            Plot::Timeline { title } => {
                let path = self.path.join(TIMELINE);
                let attempt = format!("read {}", path.display());
                let text = std::fs::read_to_string(&path).attempting(&attempt)?;
                ("timeline", plots::timeline(&caption(title), &Timeline::from_csv(&text)?))
            }
            Plot::Percentiles { title, curves } => {
                let mut merged = Vec::new();
                for curve in curves {
                    let path = self.path.join(format!("{}.hlog", file_name(&curve.file)));
                    let records =
                        histogram::read_log(&path).attempting("draw a percentile plot")?;
                    if !records.iter().any(|record| record.tag == curve.tag) {
                        return Err(Failure::new(
                            "draw a percentile plot",
                            format!("{} holds nothing tagged {:?}", path.display(), curve.tag),
                        ));
                    }
                    merged.push((curve.name.clone(), merge_tag(&records, &curve.tag)));
                }
                let series: Vec<_> =
                    merged.iter().map(|(name, whole)| (name.clone(), whole)).collect();
                ("percentiles", plots::percentiles(&caption(title), &series))
            }
            Plot::Ratios { title } => {
                let bars: Vec<_> = figures(summary).iter().filter_map(FigureRow::bar).collect();
                ("ratios", plots::ratio_bars(&caption(title), &bars))
            }
        })
    }

    /// All files in the folder but the page, by name.
    fn raw_files(&self) -> Result<Vec<String>> {
        let attempt = format!("list {}", self.path.display());
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).attempting(&attempt)? {
            let entry = entry.attempting(&attempt)?;
            if entry.file_type().attempting(&attempt)?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.retain(|name| name != "report.html");
        names.sort_unstable();
        Ok(names)
    }

    fn write_file(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path.join(name);
        std::fs::write(&path, text).attempting(&format!("write {}", path.display()))
    }
}

/// Draws plots and page of a finished run again, from the files in its folder.
pub fn rebuild(folder: &Path) -> Result<PathBuf> {
    fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
        let attempt = format!("read {}", path.display());
        let hint = "give the folder of a finished run";
        let text = std::fs::read_to_string(path)
            .map_err(|cause| Failure::new(&*attempt, cause).hint(hint))?;
        serde_json::from_str(&text).map_err(|cause| Failure::new(&*attempt, cause).hint(hint))
    }
    let report: Report = read(&folder.join(REPORT))?;
    let summary: Summary = read(&folder.join(SUMMARY))?;
    RunFolder::new(folder).draw(&report, &summary)
}

fn merge_tag(records: &[LogRecord], tag: &str) -> Histogram<u64> {
    let tagged = records.iter().filter(|record| record.tag == tag);
    histogram::merge(tagged.map(|record| &record.histogram))
}

/// A name that stays in the folder and needs no escaping in a link.
fn file_name(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.chars().map(safe).collect();
    name.trim_start_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
