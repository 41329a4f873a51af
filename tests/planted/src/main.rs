//! A test of the tests: plants known mistakes in a copy of keyway, one build for all of them, turns
//! on one after the other, and fails when one goes unnoticed.

mod bounded;
mod edits;
mod mistakes;
mod report;
#[cfg(test)]
mod tests;
mod tree;
mod trial;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use mistakes::{Mistake, Noticer};
use report::{Progress, Row};
use tree::Places;
use trial::{Trials, Verdict};

/// Plant mistakes in a copy of keyway, and see whether its simulator and tests notice them.
///
/// Each mistake of tests/planted/mistakes is tried by who shall notice it: the simulator, or a
/// named test. Exits with 1 if one goes unnoticed, or hangs and is not known to, or if something fails
/// without any.
///
/// To look into one by hand: KEYWAY_PLANTED=NAME target/planted/target/release/keyway-sim.
#[derive(Parser)]
#[command(name = "keyway-planted", version)]
struct Arguments {
    /// Try only these.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,

    /// Name the mistakes and who shall notice each, and try none.
    #[arg(long)]
    list: bool,

    /// For how many seeds the simulator may go on without noticing.
    #[arg(long, default_value_t = 200)]
    seeds: u64,

    /// From how many first seeds the simulator begins anew; the table shows the middle.
    #[arg(long, default_value_t = 1)]
    starts: u64,

    /// Write what came of each mistake as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all were noticed.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let root = root();
    let all = mistakes::load(&root)?;
    let chosen = choose(&all, &arguments.only)?;
    if arguments.list {
        for Mistake { layer, name, what, test, because, .. } in chosen {
            print!("{layer}: {name}: {what}");
            match (test, because) {
                (Some(test), Some(because)) => println!(" [{test}: {because}]"),
                _ => println!(" [simulator]"),
            }
        }
        return Ok(true);
    }
    let places = Places::of(&root);
    places.copy(&edits::apply(&all, |file| read(&root, file))?)?;
    // All targets, whichever are chosen, so that it is one build.
    let programs = places.build(&targets(&all))?;
    let Arguments { seeds, starts, .. } = *arguments;
    let trials = Trials { places: &places, programs: &programs, seeds, starts };
    try_without(&trials, &chosen)?;
    let rows = try_each(&trials, &chosen)?;
    print!("{}", report::table(&rows));
    let unnoticed: Vec<&Row> = rows.iter().filter(|row| !row.is_noticed()).collect();
    for row in &unnoticed {
        println!("{}", row.line());
    }
    println!("{}", report::sum(&rows));
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&rows).expect("rows are plain data");
        std::fs::write(path, text + "\n")
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(unnoticed.is_empty())
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this package stands in tests/planted").to_owned()
}

fn read(root: &Path, file: &str) -> Result<String, String> {
    std::fs::read_to_string(root.join(file)).map_err(|error| format!("cannot read {file}: {error}"))
}

fn choose<'a>(all: &'a [Mistake], only: &[String]) -> Result<Vec<&'a Mistake>, String> {
    if let Some(name) = only.iter().find(|name| !all.iter().any(|one| one.name == **name)) {
        return Err(format!("there is no mistake '{name}'; --list names them"));
    }
    Ok(all.iter().filter(|one| only.is_empty() || only.contains(&one.name)).collect())
}

fn targets(all: &[Mistake]) -> BTreeSet<&str> {
    all.iter()
        .filter_map(|mistake| match mistake.noticer() {
            Noticer::Test { target, .. } => Some(target),
            Noticer::Simulator { .. } => None,
        })
        .collect()
}

/// With no mistake on nothing may fail: what fails always notices nothing.
fn try_without(trials: &Trials, chosen: &[&Mistake]) -> Result<(), String> {
    let mut noticers: Vec<Noticer> = Vec::new();
    for noticer in chosen.iter().map(|mistake| mistake.noticer()) {
        if !noticers.contains(&noticer) {
            noticers.push(noticer);
        }
    }
    for noticer in noticers {
        eprintln!("without any mistake: {noticer:?}");
        let verdict = match noticer {
            Noticer::Simulator { flapping } => trials.simulate(None, flapping)?,
            Noticer::Test { target, filter } => trials.test(None, target, filter)?,
        };
        match verdict {
            Verdict::Unnoticed => {}
            Verdict::Noticed { by, .. } => {
                return Err(format!("{noticer:?} fails without any mistake: {by}"));
            }
            Verdict::Hangs { what, .. } => {
                return Err(format!("{noticer:?} hangs without any mistake: {what}"));
            }
        }
    }
    Ok(())
}

fn try_each<'a>(trials: &Trials, chosen: &[&'a Mistake]) -> Result<Vec<Row<'a>>, String> {
    let mut progress = Progress::new(chosen.len());
    let mut rows = Vec::new();
    for mistake in chosen {
        progress.begins(&mistake.name);
        let began = Instant::now();
        let verdict = trials.try_mistake(mistake)?;
        let row = Row::new(mistake, verdict, began.elapsed());
        progress.ended(&row);
        rows.push(row);
    }
    progress.clear();
    Ok(rows)
}
