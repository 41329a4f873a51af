//! A whole results folder, written, read, rebuilt, and looked at for what a reader must find.

use super::*;
use crate::analysis::histogram::{Percentiles, latency_histogram};
use crate::analysis::ledger::Lost;
use crate::analysis::timeline::{EventMark, TimelineRecorder};
use crate::summary::{Accounting, Ask, Event, Floor, Oneway, ScalePoint, Setting};

fn summary() -> Summary {
    Summary {
        commit: "1a2b3c4d5e".to_owned(),
        setting: Setting {
            nodes: 3,
            cores_per_node: 1,
            payload_bytes: 64,
            processes: 4,
            pinned: true,
        },
        floor: Some(Floor {
            echo_rtt_p50_ns: Some(16_000),
            echo_rtt_p99_ns: Some(26_000),
            oneway_msgs_per_cpu_s: Some(33e6),
            ..Floor::default()
        }),
        oneway: Some(Oneway { msgs_per_cpu_s: Some(9.9e6), ..Oneway::default() }),
        ask: Some(Ask { p50_ns: Some(32_000), p99_ns: Some(78_000), ..Ask::default() }),
        accounting: Some(Accounting {
            sent: 100,
            delivered: 97,
            unknown: 3,
            reordered: 2,
            balanced: true,
            ..Accounting::default()
        }),
        events: Some(vec![Event {
            kind: "kill".to_owned(),
            at_ms: 500.0,
            gap_ms: Some(41.5),
            moved_keys_share: Some(0.333),
            ..Event::default()
        }]),
        scale: Some(vec![ScalePoint { nodes: 2, msgs_per_s: Some(3e6), ..ScalePoint::default() }]),
        ..Summary::default()
    }
}

fn report() -> Report {
    let load = |step: u32| LoadPoint {
        offered_per_s: f64::from(step) * 1e5,
        delivered_per_s: f64::from(step.min(9)) * 1e5,
        latency: Percentiles {
            samples: 100_000,
            p50_ns: Some(20_000 * u64::from(step)),
            max_ns: 900_000,
            ..Percentiles::default()
        },
        void: false,
    };
    let sample = |nodes: u32| ScaleSample { nodes, msgs_per_s: 3e6, msgs_per_cpu_s: 1e6 };
    let curve = |tag: &str| Curve {
        name: format!("{tag} latency"),
        file: "ask".to_owned(),
        tag: tag.to_owned(),
    };
    Report {
        title: "Quick look at a <cluster>".to_owned(),
        setting: "64 B, 4 processes, 1 hop, TCP loopback, 1 in flight, pinned".to_owned(),
        plots: vec![
            Plot::Ratios { title: "Ratio to the floor".to_owned() },
            Plot::Load {
                title: "Latency over load".to_owned(),
                points: (1..=11).map(load).collect(),
                saturation_per_s: Some(9e5),
                floor_p50_ns: Some(16_000),
            },
            Plot::Scaling {
                title: "Scaling".to_owned(),
                samples: [1, 2, 3, 4, 6, 8].map(sample).to_vec(),
                cores: 2,
            },
            Plot::Timeline { title: "Timeline".to_owned() },
            Plot::Percentiles {
                title: "Ask".to_owned(),
                curves: vec![curve("ask"), curve("floor")],
            },
        ],
        rounds: vec![RoundSet {
            name: "ask p50".to_owned(),
            unit: Unit::Ns,
            rounds: [(31_000.0, 0.0), (32_000.0, 0.031), (35_000.0, 0.001)]
                .map(|(value, steal_share)| Round { value, steal_share })
                .to_vec(),
        }],
        audits: vec![NamedAudit {
            name: "kill".to_owned(),
            audit: Audit {
                sent: 10,
                delivered: 8,
                missing: 2,
                unknown_but_delivered: 5,
                unaccounted: 2,
                lost: vec![Lost { sender: 1, key: 7, first: 4, last: 5 }],
                ..Audit::default()
            },
        }],
        notes: vec!["Nodes outnumber cores & that shows.".to_owned()],
    }
}

/// Everything a scenario would write.
fn fill(folder: &RunFolder) {
    #[derive(Serialize)]
    struct Plan {
        nodes: u32,
        name: &'static str,
    }
    folder.write_plan(&Plan { nodes: 3, name: "quick" }).unwrap();
    folder.write_machine(&MachineCard::take().unwrap()).unwrap();
    let mut recorder = TimelineRecorder::new(0, 1_000_000_000);
    for at_ms in 0..1_000_u64 {
        recorder.success(at_ms * 1_000_000, 20_000 + at_ms);
    }
    let event = EventMark::new("kill", 500_000_000);
    folder.write_timeline(&Timeline::merge(&[recorder.finish()], vec![event]).unwrap()).unwrap();
    let record = |tag: &str, from: u64| {
        let mut histogram = latency_histogram();
        for value in from..from + 20_000 {
            histogram.record(value).unwrap();
        }
        LogRecord {
            tag: tag.to_owned(),
            start: Duration::ZERO,
            length: Duration::from_secs(1),
            histogram,
        }
    };
    let records = [record("ask", 30_000), record("ask", 40_000), record("floor", 15_000)];
    folder.write_histograms("ask", Duration::from_secs(1_700_000_000), &records).unwrap();
}

fn page(void: Option<&str>) -> (tempfile::TempDir, PathBuf, String) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = RunFolder::new(temporary.path());
    fill(&folder);
    let summary = Summary { void: void.map(str::to_owned), ..summary() };
    let path = folder.finish(&report(), &summary).unwrap();
    let html = std::fs::read_to_string(&path).unwrap();
    (temporary, path, html)
}

#[test]
fn the_folder_holds_everything() {
    let (folder, path, _) = page(None);
    assert_eq!(path, folder.path().join("report.html"));
    for name in [
        "plan.toml",
        "machine.json",
        "summary.json",
        "report.json",
        "timeline.csv",
        "ask.hlog",
        "ask.ask.hgrm",
        "ask.floor.hgrm",
        "plot-1-ratios.svg",
        "plot-2-load.svg",
        "plot-3-scaling.svg",
        "plot-4-timeline.svg",
        "plot-5-percentiles.svg",
        "report.html",
    ] {
        let length = std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(length > 0, "{name} is empty");
    }
    let percentiles = std::fs::read_to_string(folder.path().join("ask.ask.hgrm")).unwrap();
    assert!(percentiles.contains("Total count    =        40000]"), "records of a tag are merged");
    let plan: toml::Table =
        std::fs::read_to_string(folder.path().join("plan.toml")).unwrap().parse().unwrap();
    assert_eq!(plan["nodes"].as_integer(), Some(3));
}

#[test]
fn the_page_stands_alone_and_its_links_exist() {
    let (folder, _, html) = page(None);
    // The namespace of SVG is a name, nothing is fetched from it.
    let without_names = html.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "src=", "<script", "@import", "url("] {
        assert!(!without_names.contains(outside), "the page refers to {outside}");
    }
    let links: Vec<&str> =
        html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(links.len() >= 14, "{links:?}");
    for link in links {
        assert!(folder.path().join(link).is_file(), "{link} is missing");
    }
    assert_eq!(html.matches("<svg").count(), 5);
    assert!(html.contains("prefers-color-scheme:dark") && html.contains("width=device-width"));
    // A foreign document's prolog inside the page would break it.
    assert!(!html.contains("<?xml"));
    let void_tags = ["meta", "!doctype"];
    let mut open: Vec<String> = Vec::new();
    for tag in html.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        let name = tag.split_whitespace().next().unwrap().to_owned();
        if let Some(closed) = name.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed));
        } else if !tag.ends_with('/') && !void_tags.contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// The page with the cells' attributes taken away.
fn without_attributes(html: &str) -> String {
    let mut parts = html.split("<td");
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        plain.push_str("<td>");
        plain.push_str(part.split_once('>').unwrap().1);
    }
    plain
}

#[test]
fn the_plots_come_before_the_accounting() {
    let (_folder, _, html) = page(None);
    let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    assert!(at("<h2>Figures") < at("<svg"));
    assert!(html.rfind("<svg").unwrap() < at("<h2>Accounting"));
    assert!(at("<h2>Accounting") < at("<details>"), "the parts are folded away");
}

#[test]
fn a_narrow_screen_can_name_each_cell() {
    let (_folder, _, html) = page(None);
    let names: Vec<&str> =
        html.split("<th>").skip(1).map(|rest| rest.split("</th>").next().unwrap()).collect();
    for cell in html.split("<td").skip(1) {
        let label = cell.split("data-label=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(names.contains(&label), "{label}");
    }
}

/// A table that is too wide scrolls by itself, a picture shrinks, a long word is broken: the page is
/// never wider than its screen.
#[test]
fn no_screen_cuts_anything_off() {
    let (_folder, _, html) = page(None);
    let (_, style) = html.split_once("<style>").unwrap();
    let (style, _) = style.split_once("</style>").unwrap();
    let has = |selector: &str, rule: &str| {
        let rules = style.split('\n').find_map(|line| line.strip_prefix(&format!("{selector}{{")));
        assert!(rules.is_some_and(|rules| rules.contains(rule)), "{selector} has no {rule}");
    };
    has(".scroll", "overflow-x:auto");
    has("svg", "width:100%;height:auto");
    assert!(style.contains("overflow-wrap:anywhere"));
    let tables = html.matches("<table").count();
    assert!(tables >= 5, "{tables} tables");
    assert_eq!(html.matches("<div class=\"scroll\"><table").count(), tables);
    for picture in html.split("<svg").skip(1) {
        assert!(picture.split('>').next().unwrap().contains("viewBox="), "it would not shrink");
    }
}

#[test]
fn messages_that_overtook_at_a_handover_are_no_fault() {
    let mut summary = summary();
    let sum = summary.accounting.as_mut().unwrap();
    sum.reordered = 0;
    let mut report = report();
    report.audits[0].audit =
        Audit { sent: 9, delivered: 9, reordered: 4, balanced: true, ..Audit::default() };
    let temporary = tempfile::tempdir().unwrap();
    let folder = RunFolder::new(temporary.path());
    fill(&folder);
    let path = folder.finish(&report, &summary).unwrap();
    let html = without_attributes(&std::fs::read_to_string(path).unwrap());
    // Balanced, duplicated, reordered, overtaken, misrouted.
    let tail = "<span class=\"good\">yes</span></td><td>0</td><td>0</td><td>4</td><td>0</td>";
    assert_eq!(html.matches(tail).count(), 2, "the whole run and its part");
}

#[test]
fn the_page_says_what_a_sceptic_asks() {
    let (_folder, _, html) = page(None);
    let html = without_attributes(&html);
    for needle in [
        "<h1>Quick look at a &lt;cluster&gt;</h1>",
        "64 B, 4 processes, 1 hop, TCP loopback, 1 in flight, pinned, commit 1a2b3c4d5e",
        // Each figure beside its floor and ratio.
        "<td>one-way, per CPU-second</td><td>9.90 M per CPU-s</td><td>33.0 M per CPU-s (F2)</td><td>0.30</td>",
        "<td>ask, 1 in flight, p50</td><td>32.0 us</td><td>16.0 us (F1)</td><td>2.00</td>",
        "<td>ask, 1 in flight, p99</td><td>78.0 us</td><td>26.0 us (F1)</td><td>3.00</td>",
        // The account, faults in red.
        "<td>whole run</td><td>100</td><td>97</td><td>0</td><td>0</td><td>3</td><td>5</td>",
        "<span class=\"bad\">2</span>",
        "<span class=\"bad\">NO</span>",
        "kill: the account does not balance: 2 accepted messages neither arrived nor were counted",
        "2 messages did not arrive (sender 1 key 7: 4 to 5)",
        // Rounds with their steal.
        "<span class=\"bad\">32.0 us [3.1 %]</span>",
        "3 (too few to quote)",
        "<td>kill</td><td>500 ms</td><td>41.5 ms</td>",
        "Nodes outnumber cores &amp; that shows.",
        "cpu_model",
    ] {
        assert!(html.contains(needle), "missing: {needle}");
    }
    assert!(!html.contains("This run is void"));
}

#[test]
fn a_void_run_is_red_with_its_reason() {
    let (folder, _, html) = page(Some("the generator was <slow>"));
    assert!(html.contains("class=\"void\" role=\"alert\">This run is void"));
    assert!(html.contains("the generator was &lt;slow&gt;"));
    assert!(html.contains("<title>VOID: "));
    let svg = std::fs::read_to_string(folder.path().join("plot-2-load.svg")).unwrap();
    assert!(svg.contains("VOID: the generator"));
}

#[test]
fn a_page_is_rebuilt_from_its_files() {
    let (folder, path, html) = page(None);
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(folder.path().join("plot-4-timeline.svg")).unwrap();
    assert_eq!(rebuild(folder.path()).unwrap(), path);
    // The timeline is drawn from the file, so the page is the same in every byte.
    assert_eq!(std::fs::read_to_string(&path).unwrap(), html);
    std::fs::write(folder.path().join("timeline.csv"), "head\nnonsense\n").unwrap();
    assert!(rebuild(folder.path()).unwrap_err().to_string().contains("line 2"));
}

#[test]
fn what_is_missing_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let error = rebuild(empty.path()).unwrap_err().to_string();
    assert!(error.contains("report.json") && error.contains("finished run"), "{error}");
    let folder = RunFolder::new(empty.path());
    let mut report = Report::default();
    report.plots.push(Plot::Percentiles {
        title: String::new(),
        curves: vec![Curve {
            name: "x".to_owned(),
            // Stays in the folder, whatever a report file says.
            file: "../../etc/ask".to_owned(),
            tag: "y".to_owned(),
        }],
    });
    let error = folder.finish(&report, &Summary::default()).unwrap_err().to_string();
    assert!(error.contains("-..-etc-ask.hlog"), "{error}");
    fill(&folder);
    let Plot::Percentiles { curves, .. } = &mut report.plots[0] else { unreachable!() };
    curves[0].file = "ask".to_owned();
    let error = folder.finish(&report, &Summary::default()).unwrap_err().to_string();
    assert!(error.contains("nothing tagged \"y\""), "{error}");
}

#[test]
fn the_terminal_gets_the_same_figures() {
    let void = Summary { void: Some("too slow".to_owned()), ..summary() };
    let text = figure_table(&void).to_string();
    assert!(text.starts_with("64 B, 3 nodes x 1 cores, 4 processes, pinned, commit 1a2b3c4d5e\n"));
    let row = text.lines().find(|line| line.contains("one-way, per CPU-second")).unwrap();
    assert!(row.ends_with("0.30"), "{row}");
    assert!(text.contains("sent 100 = delivered 97 + refused 0 + dead 0 + unknown 3"));
    assert!(text.ends_with("VOID: too slow\n"));
}

/// Writes a whole folder to `LOADGEN_PLOTS`, to be looked at.
#[test]
#[ignore = "for looking at"]
fn sample_page_to_look_at() {
    let path = std::env::var_os("LOADGEN_PLOTS").expect("set LOADGEN_PLOTS to a folder");
    let path = Path::new(&path).join("run");
    std::fs::create_dir_all(&path).unwrap();
    let folder = RunFolder::new(path);
    fill(&folder);
    folder.finish(&report(), &summary()).unwrap();
}
