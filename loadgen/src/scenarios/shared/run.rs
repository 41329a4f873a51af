//! What the scenarios share: their folder, their cores, the pair of processes, and their end.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use keyway::wire::HEADER_BYTES;
use serde::Serialize;

use crate::analysis::histogram::LogRecord;
use crate::analysis::ledger::Period;
use crate::analysis::report::{Curve, NamedAudit, Report, RunFolder};
use crate::cli::Flags;
use crate::cluster::message::SIZES;
use crate::cluster::{Books, Cluster, ClusterPlan, books};
use crate::error::{Attempt, Failure, Result};
use crate::floors::FloorPlan;
use crate::machine::{MachineCard, WindowReport, allowed_cores, resolve_cores};
use crate::output::make_run_folder;
use crate::summary::{Accounting, Setting, Summary};

/// Keys that load is spread over, unless told otherwise.
pub(crate) const DEFAULT_KEYS: u64 = 1_024;
/// The name of the histogram log.
const HISTOGRAMS: &str = "histograms";
/// With more than this share of the machine in other hands the run is marked as noisy.
const NOISY_FOREIGN_SHARE: f64 = 0.05;

/// A run that is under way.
pub(crate) struct Run {
    pub(crate) command: &'static str,
    pub(crate) folder: PathBuf,
    pub(crate) card: MachineCard,
    /// The driver's core, and the ones for nodes.
    pub(crate) driver_core: usize,
    pub(crate) node_cores: Vec<usize>,
    pub(crate) keys: u32,
    pub(crate) seed: u64,
    pub(crate) json: Option<PathBuf>,
    pub(crate) quiet: bool,
    /// Everything that was sent, over all clusters.
    pub(crate) accounting: Accounting,
    /// What does not add up, each with its phase.
    pub(crate) problems: Vec<String>,
    /// Why the run is void.
    pub(crate) voids: Vec<String>,
    /// Messages that were overtaken when their key changed its owner.
    pub(crate) overtaken_at_handover: u64,
    /// Highest shares seen of the machine's time.
    pub(crate) foreign_share: f64,
    pub(crate) steal_share: f64,
    began: Duration,
    started: Instant,
    audits: Vec<NamedAudit>,
    histograms: Vec<LogRecord>,
}

impl Run {
    /// Takes the machine's card and makes the run's folder.
    pub(crate) fn begin(command: &'static str, flags: &Flags) -> Result<Self> {
        let wished = flags.pin.as_ref().map(|list| &list.0[..]);
        let count = wished.map_or(2, <[usize]>::len).max(2);
        let cores = resolve_cores(wished, count)?;
        // Without a wish, nodes get all cores but the driver's.
        let all = allowed_cores()?;
        let node_cores = match wished {
            Some(_) => cores[1..].to_vec(),
            None => all.into_iter().filter(|core| *core != cores[0]).collect(),
        };
        let card = MachineCard::take()?;
        let folder = make_run_folder(flags.out.as_deref(), &card.commit, command)?;
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let keys = flags.keys.unwrap_or(DEFAULT_KEYS);
        let keys = u32::try_from(keys).ok().filter(|keys| *keys <= 1 << 22).ok_or_else(|| {
            Failure::new("plan the load", format!("{keys} keys")).hint("at most 4194304")
        })?;
        Ok(Self {
            command,
            folder,
            driver_core: cores[0],
            node_cores,
            keys,
            seed: flags.seed.unwrap_or(began.as_secs()),
            json: flags.json.clone(),
            quiet: flags.quiet,
            accounting: Accounting { balanced: true, ..Accounting::default() },
            problems: Vec::new(),
            voids: card.void().into_iter().collect(),
            overtaken_at_handover: 0,
            foreign_share: 0.0,
            steal_share: 0.0,
            began,
            started: Instant::now(),
            audits: Vec::new(),
            histograms: Vec::new(),
            card,
        })
    }

    /// A cluster plan with this run's cores and keys.
    pub(crate) fn cluster(&self, nodes: u32, workers: usize, spin_us: u64) -> ClusterPlan {
        ClusterPlan {
            nodes,
            workers,
            driver_core: self.driver_core,
            node_cores: self.node_cores.clone(),
            spin_us,
            keys: self.keys,
            settings: Vec::new(),
            log_folder: self.folder.clone(),
            network: None,
        }
    }

    /// A floor between the driver's core and the first node's.
    pub(crate) fn floor_plan(&self, payload_bytes: u32, duration: Duration) -> FloorPlan {
        FloorPlan {
            cores: (self.driver_core, self.node_cores[0]),
            frame_bytes: payload_bytes as usize + HEADER_BYTES,
            duration,
        }
    }

    /// Closes a cluster's books and adds them to the run's.
    pub(crate) fn close(
        &mut self,
        phase: &str,
        cluster: &mut Cluster,
        periods: &[Period],
    ) -> Result<Books> {
        let books = cluster.close_books(periods)?;
        self.add_books(phase, &books);
        Ok(books)
    }

    fn add_books(&mut self, phase: &str, one: &Books) {
        self.audits.push(NamedAudit { name: phase.to_owned(), audit: one.audit.clone() });
        books::add(&mut self.accounting, &one.accounting);
        self.overtaken_at_handover += one.overtaken_at_handover;
        self.problems.extend(one.problems.iter().map(|problem| format!("{phase}: {problem}")));
    }

    /// Notes how much the machine was disturbed.
    pub(crate) fn weather(&mut self, window: &WindowReport) {
        self.foreign_share = self.foreign_share.max(window.foreign_share);
        self.steal_share = self.steal_share.max(window.steal_share);
    }

    /// Keeps a histogram for the log and the plots.
    pub(crate) fn keep(&mut self, tag: &str, histogram: &Histogram<u64>) {
        self.histograms.push(LogRecord {
            tag: tag.to_owned(),
            start: Duration::ZERO,
            length: self.started.elapsed(),
            histogram: histogram.clone(),
        });
    }

    /// A curve of a percentile plot, of what was kept under this tag.
    pub(crate) fn curve(name: &str, tag: &str) -> Curve {
        Curve { name: name.to_owned(), file: HISTOGRAMS.to_owned(), tag: tag.to_owned() }
    }

    /// Says which flags have no meaning for this command.
    pub(crate) fn ignore(command: &str, flags: &[(&str, bool)]) {
        for (flag, given) in flags {
            if *given {
                eprintln!("note: {flag} has no meaning for {command}");
            }
        }
    }

    /// The payload size that was asked for.
    pub(crate) fn payload_bytes(flags: &Flags) -> Result<u32> {
        let bytes = flags.size.unwrap_or(SIZES[0]);
        if SIZES.contains(&bytes) {
            return Ok(bytes);
        }
        Err(Failure::new("make the messages", format!("there are none of {bytes} bytes"))
            .hint(format!("give one of {SIZES:?}")))
    }

    /// Writes a file of the run.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(self.folder.join(name), text).attempting(&format!("write {name}"))
    }

    /// Writes raw data as JSON.
    pub(crate) fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let attempt = format!("write {name}");
        let text = serde_json::to_string_pretty(value).attempting(&attempt)?;
        std::fs::write(self.folder.join(name), text).attempting(&attempt)
    }

    /// Makes the run void for something that happened at some of its measurements.
    pub(crate) fn void_some(&mut self, reasons: &[(String, String)], of: usize) {
        let Some((at, reason)) = reasons.first() else { return };
        let others = match reasons.len() {
            1 => String::new(),
            more => format!(", and {} more of {of}", more - 1),
        };
        self.voids.push(format!("{at}{others}: {reason}"));
    }

    /// Why the run is void, if it is.
    pub(crate) fn void(&self) -> Option<String> {
        let reasons: Vec<String> = self.voids.iter().chain(&self.problems).cloned().collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// The summary with what every scenario fills in.
    pub(crate) fn summary(&self, setting: Setting) -> Summary {
        Summary {
            commit: self.card.commit.clone(),
            void: self.void(),
            setting,
            accounting: Some(self.accounting.clone()),
            ..Summary::default()
        }
    }

    /// Writes everything, draws the page, and tells where it is.
    pub(crate) fn finish(
        &self,
        asked: &impl Serialize,
        summary: &Summary,
        mut report: Report,
    ) -> Result<()> {
        let folder = RunFolder::new(&self.folder);
        self.remove_empty_logs();
        folder.write_plan(asked)?;
        folder.write_machine(&self.card)?;
        if !self.histograms.is_empty() {
            folder.write_histograms(HISTOGRAMS, self.began, &self.histograms)?;
        }
        report.audits.extend(self.audits.iter().cloned());
        report.notes.push(self.weather_line());
        if self.overtaken_at_handover > 0 {
            report.notes.push(self.handover_line());
        }
        let page = folder.finish(&report, summary)?;
        if let Some(path) = &self.json {
            summary.write(path)?;
        }
        println!();
        println!("{}", self.books_line());
        if self.overtaken_at_handover > 0 {
            println!("{}", self.handover_line());
        }
        println!("{}", self.weather_line());
        println!("machine     {}", self.machine_line());
        if let Some(reason) = &summary.void {
            println!("VOID        {reason}");
        }
        println!("raw data    {}", self.folder.display());
        println!("report      {}", page.display());
        Ok(())
    }

    /// A node that had nothing to say leaves no log.
    fn remove_empty_logs(&self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let is_log = entry.path().extension().is_some_and(|extension| extension == "log");
            if is_log && entry.metadata().is_ok_and(|metadata| metadata.len() == 0) {
                // A log that stays is no harm.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// What no order is promised for, as a line to print.
    fn handover_line(&self) -> String {
        format!(
            "{} messages overtook one of their key while it changed its owner: the order is kept \
             between a sender and one routee, not across two",
            self.overtaken_at_handover
        )
    }

    /// What the machine was doing besides, as a line to print.
    pub(crate) fn weather_line(&self) -> String {
        let noisy = if self.foreign_share > NOISY_FOREIGN_SHARE { "NOISY: " } else { "" };
        format!(
            "{noisy}others used up to {:.0} % of the machine, the hypervisor took up to {:.1} %",
            self.foreign_share * 100.0,
            self.steal_share * 100.0
        )
    }

    /// The machine, as a line to print.
    pub(crate) fn machine_line(&self) -> String {
        format!(
            "{}, {} cores, {}, commit {}",
            self.card.cpu_model,
            self.card.cores.len(),
            self.card.kernel.split(' ').take(2).collect::<Vec<_>>().join(" "),
            self.card.commit
        )
    }

    /// The books as a line to print.
    pub(crate) fn books_line(&self) -> String {
        let Accounting { sent, delivered, refused, dead, unknown, .. } = self.accounting;
        let sign = if delivered + refused + dead + unknown == sent { "=" } else { "!=" };
        format!(
            "sent {sent} {sign} delivered {delivered} + refused {refused} + dead {dead} + unknown \
             {unknown}; duplicated {}, reordered {}, misrouted {}",
            self.accounting.duplicated, self.accounting.reordered, self.accounting.misrouted
        )
    }

    /// Fails when the books do not balance: no figure is worth anything then.
    pub(crate) fn verdict(&self) -> Result<()> {
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(Failure::new("account for every message", self.problems.join("; "))
            .hint(format!("the raw data is in {}", self.folder.display())))
    }
}
