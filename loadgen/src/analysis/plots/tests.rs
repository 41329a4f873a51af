//! Every plot with data as a run has it: well-formed, no text over another or over the edge.

use hdrhistogram::Histogram;
use keyway::base::Rng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::analysis::histogram::{Percentiles, latency_histogram};
use crate::analysis::timeline::{Bucket, EventMark, Timeline};
use crate::analysis::usl::{Point, fit};

fn caption(title: &str) -> Caption {
    Caption {
        title: title.to_owned(),
        setting: "64 B payload, 3 nodes x 1 core, 4 processes, 1 hop, TCP loopback, open loop \
                  (Poisson), natural batching, pinned, commit 1a2b3c4d, 2-core virtual machine, \
                  Linux 6.1"
            .to_owned(),
        void: None,
    }
}

fn latencies(median_ns: f64, samples: usize, seed: u64) -> Histogram<u64> {
    let mut rng = Rng::seed_from_u64(seed);
    let mut histogram = latency_histogram();
    for _ in 0..samples {
        let uniform: f64 = rng.random();
        // A heavy tail: a thousandth of the samples is ten times the median and more.
        let tail = (1.0 - uniform).powf(-0.33);
        histogram.record((median_ns * 0.8 * tail) as u64).unwrap();
    }
    histogram
}

fn load_curve() -> String {
    let points: Vec<LoadPoint> = (1..=12)
        .map(|step| {
            let offered_per_s = f64::from(step) * 100_000.0;
            let queueing = 1.0 / (1.0 - (offered_per_s / 1_050_000.0).min(0.995));
            let histogram = latencies(18_000.0 * queueing, 150_000, step as u64);
            LoadPoint {
                offered_per_s,
                delivered_per_s: offered_per_s.min(1_040_000.0),
                latency: Percentiles::of(&histogram),
                void: step == 12,
            }
        })
        .collect();
    latency_vs_load(
        &caption("Latency over load: ask, keyed"),
        &points,
        Some(1_040_000.0),
        Some(16_100),
    )
}

fn scaling_plot() -> String {
    let mut rng = Rng::seed_from_u64(3);
    let mut samples = Vec::new();
    for nodes in [1, 2, 3, 4, 6, 8] {
        for _ in 0..5 {
            let n = f64::from(nodes);
            let noise = 1.0 + rng.random_range(-0.06..0.06);
            let per_cpu = 1_900_000.0 / (1.0 + 0.06 * (n - 1.0) + 0.004 * n * (n - 1.0)) * noise;
            samples.push(ScaleSample {
                nodes,
                msgs_per_s: per_cpu * n.min(2.0) * 0.93,
                msgs_per_cpu_s: per_cpu,
            });
        }
    }
    let points: Vec<Point> = samples
        .iter()
        .map(|sample| Point {
            nodes: f64::from(sample.nodes),
            throughput: f64::from(sample.nodes) * sample.msgs_per_cpu_s,
        })
        .collect();
    let fit = fit(&points, 200, 1).unwrap();
    let plot = ScalePlot { samples: &samples, fit: Some(&fit), cores: 2 };
    scaling(&caption("Scaling over nodes: keyed one-way messages (8 nodes on 2 cores)"), &plot)
}

fn timeline_plot() -> String {
    let mut rng = Rng::seed_from_u64(4);
    let buckets = (0..240)
        .map(|index| {
            let at_ms = index * 100;
            let killed = (8_000..8_900).contains(&at_ms);
            let rate = if killed { 6_700.0 } else { 10_000.0 };
            let p99 = if killed { 900_000.0 } else { 85_000.0 } * rng.random_range(0.8..1.3);
            Bucket {
                at_ms,
                delivered: (rate * rng.random_range(0.97..1.03)) as u64,
                p50_ns: Some(21_000),
                p99_ns: (index != 150).then_some(p99 as u64),
                max_ns: Some((p99 * rng.random_range(1.5..12.0)) as u64),
                refused: 0,
                dead: if killed { 12 } else { 0 },
                unknown: if at_ms == 8_000 { 310 } else { 0 },
            }
        })
        .collect();
    let mark = |kind: &str, at_ms: u64| EventMark::new(kind, at_ms * 1_000_000);
    let mut run = Timeline::default();
    run.buckets = buckets;
    run.events = vec![
        mark("join", 4_000),
        mark("kill -9", 8_000),
        mark("unreachable", 8_450),
        mark("removed", 8_900),
        mark("pause", 14_000),
        mark("resume", 14_800),
        mark("leave gracefully", 23_500),
    ];
    timeline(&caption("Three nodes: join, kill -9, pause, leave at 100,000 msgs/s"), &run)
}

fn percentile_plot() -> String {
    let (floor, ask, loaded) = (
        latencies(16_000.0, 400_000, 5),
        latencies(37_000.0, 400_000, 6),
        latencies(80_000.0, 30_000, 7),
    );
    percentiles(
        &caption("Ask latency, one in flight"),
        &[
            ("floor: stripped echo".to_owned(), &floor),
            ("ask, idle cluster".to_owned(), &ask),
            ("ask, 80 % load".to_owned(), &loaded),
            ("nothing".to_owned(), &latency_histogram()),
        ],
    )
}

fn ratio_plot() -> String {
    let bar = |name: &str, ratio, more_is_better, values: &str| RatioBar {
        name: name.to_owned(),
        ratio,
        more_is_better,
        values: values.to_owned(),
    };
    ratio_bars(
        &caption("Ratio to the machine's floor"),
        &[
            bar("one-way per CPU-second (F2)", 0.31, true, "10.2 M / 33.0 M msgs per CPU-s"),
            bar("ask p50 (F1)", 2.05, false, "33.0 us / 16.1 us"),
            bar("ask p99 (F1)", 3.4, false, "88.0 us / 25.9 us"),
            bar("ask, 64 in flight, per CPU-second (F7)", 0.0045, true, "14.0 k / 3.10 M"),
            bar("equal to its floor", 1.0, true, "1 / 1"),
            bar("not measured", f64::NAN, true, ""),
        ],
    )
}

fn all() -> Vec<(&'static str, String)> {
    let mut void = caption("A void run");
    void.void = Some(
        "the generator was the bottleneck: p99 of its schedule lag is 90000 ns, above 10 % of the \
         mean gap of 100000 ns between due times; more of this text so that it wraps"
            .to_owned(),
    );
    vec![
        ("load", load_curve()),
        ("scaling", scaling_plot()),
        ("timeline", timeline_plot()),
        ("percentiles", percentile_plot()),
        ("ratios", ratio_plot()),
        ("void", latency_vs_load(&void, &[], None, None)),
        ("empty-scaling", scaling(&void, &ScalePlot { samples: &[], fit: None, cores: 2 })),
        ("empty-timeline", timeline(&void, &Timeline::default())),
        ("empty-percentiles", percentiles(&void, &[])),
        ("empty-ratios", ratio_bars(&void, &[])),
    ]
}

/// The value of an attribute in a tag.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    tag[start..].split('"').next()
}

struct Placed {
    text: String,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

fn texts(svg: &str) -> Vec<Placed> {
    svg.split("<text")
        .skip(1)
        .map(|rest| {
            let (tag, rest) = rest.split_once('>').unwrap();
            let text = rest.split("</text>").next().unwrap().trim().to_owned();
            let number = |name| attribute(tag, name).unwrap().parse::<f64>().unwrap() / 8.0;
            let (x, y, size) = (number("x"), number("y"), number("font-size"));
            let shown = text.replace("&apos;", "'").replace("&amp;", "&");
            // Narrower than the plots assume, so that only real overlaps count.
            let width = shown.chars().count() as f64 * size * 0.56;
            let from = match attribute(tag, "text-anchor").unwrap() {
                "start" => 0.0,
                "middle" => -width / 2.0,
                _ => -width,
            };
            let half = size * 0.42;
            if tag.contains("rotate(270") {
                Placed {
                    text,
                    left: x - half,
                    right: x + half,
                    top: y - from - width,
                    bottom: y - from,
                }
            } else {
                Placed {
                    text,
                    left: x + from,
                    right: x + from + width,
                    top: y - half,
                    bottom: y + half,
                }
            }
        })
        .collect()
}

#[test]
fn no_text_covers_another_or_leaves_the_picture() {
    for (name, svg) in all() {
        let texts = texts(&svg);
        let size = |name| attribute(&svg, name).unwrap().parse::<f64>().unwrap();
        let (width, height) = (size("width"), size("height"));
        for (index, a) in texts.iter().enumerate() {
            assert!(
                a.left >= 0.0 && a.right <= width && a.top >= 0.0 && a.bottom <= height,
                "{name}: {:?} at {} to {} leaves the picture",
                a.text,
                a.left,
                a.right
            );
            for b in &texts[index + 1..] {
                let apart = a.right <= b.left
                    || b.right <= a.left
                    || a.bottom <= b.top
                    || b.bottom <= a.top;
                assert!(apart, "{name}: {:?} covers {:?}", a.text, b.text);
            }
        }
    }
}

#[test]
fn pictures_are_well_formed_and_self_contained() {
    for (name, svg) in all() {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap();
            if let Some(closed) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(closed.to_owned()), "{name}");
            } else if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().unwrap().to_owned());
            }
        }
        assert!(open.is_empty(), "{name}: {open:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{name}");
        assert!(!svg.contains("href") && !svg.contains("@font-face"), "{name}");
        assert!(svg.contains("role=\"img\"") && svg.contains("<title>"), "{name}");
        assert!(svg.contains("currentColor") && svg.contains("class=\"paper\""), "{name}");
        assert!(!svg.contains("#1B1B1F\" opacity"), "{name}");
        assert!(svg.len() < 600_000, "{name} has {} bytes", svg.len());
    }
}

#[test]
fn the_setting_units_and_reservations_are_said() {
    let has = |svg: &str, needle: &str| texts(svg).iter().any(|text| text.text.contains(needle));
    let load = load_curve();
    for needle in [
        "64 B payload",
        "commit 1a2b3c4d",
        "offered load (messages/s)",
        "saturation",
        "void run",
        "floor: echo p50, 16.1 us",
    ] {
        assert!(has(&load, needle), "{needle}");
    }
    let scaling = scaling_plot();
    for needle in ["msgs per CPU-second", "msgs/s (wall)", "more nodes than the 2 cores", "kappa"] {
        assert!(has(&scaling, needle), "{needle}");
    }
    let timeline = timeline_plot();
    for needle in ["kill -9", "leave gracefully", "time (s)", "messages/s", "p99"] {
        assert!(has(&timeline, needle), "{needle}");
    }
    assert!(has(&percentile_plot(), "99.9 %"));
    assert!(!has(&percentile_plot(), "nothing"));
    assert!(has(&ratio_plot(), "0.0045"));
    assert!(!has(&ratio_plot(), "not measured"));
    let few = latency_vs_load(&caption("few"), &[], None, None);
    assert!(has(&few, "ONLY 0 LOADS"));
    assert!(all().iter().filter(|(_, svg)| has(svg, "VOID: the generator")).count() == 5);
}

#[test]
fn titles_cannot_break_out_of_the_picture() {
    let hostile = Caption {
        title: "</svg><script>alert(1)</script>".to_owned(),
        setting: "a & b < c".to_owned(),
        void: Some("\"quoted\"".to_owned()),
    };
    let svg = ratio_bars(&hostile, &[]);
    assert!(!svg.contains("<script"));
    assert!(svg.contains("a &amp; b &lt; c"));
}

/// Writes the plots of these tests into the folder `LOADGEN_PLOTS`, to be looked at.
#[test]
#[ignore = "for looking at"]
fn samples_to_look_at() {
    let folder = std::env::var_os("LOADGEN_PLOTS").expect("set LOADGEN_PLOTS to a folder");
    for (name, svg) in all() {
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.svg")), svg).unwrap();
    }
}
