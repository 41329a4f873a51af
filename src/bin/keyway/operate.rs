//! The commands that show and operate a running node.

use keyway::admin::report::{
    CountsReport, HealthReport, MembersReport, RoutersReport, StrangersReport,
};
use serde::de::DeserializeOwned;

use super::cli::{Ask, At, Operate};
use super::client::{encode, get, post, strange};
use super::{FAILED, Failure, say, show};

pub(crate) fn run(command: Operate) -> Result<(), Failure> {
    match command {
        Operate::Members(at) => show_report(&at, "/members", |r: MembersReport| show::members(&r)),
        Operate::Routers(at) => show_report(&at, "/routers", |r: RoutersReport| show::routers(&r)),
        Operate::Counts(at) => show_report(&at, "/counts", |r: CountsReport| show::counts(&r)),
        Operate::Strangers(at) => {
            show_report(&at, "/strangers", |r: StrangersReport| show::strangers(&r))
        }
        Operate::Health(at) => health(&at),
        Operate::Down { node, at } => {
            order(&at, &format!("/down/{}", encode(&node)), |_| format!("removed `{node}`\n"))
        }
        Operate::Leave(at) => order(&at, "/leave", |answer| {
            format!("node `{}` is leaving\n", show::text(answer, "leaving"))
        }),
        Operate::Ask(Ask::Echo { text, at }) => {
            order(&at, &format!("/ask/echo?text={}", encode(&text)), |answer| {
                format!("{} (from {})\n", show::text(answer, "text"), show::place(answer))
            })
        }
        Operate::Ask(Ask::Counter { key, at }) => {
            order(&at, &format!("/ask/counter?key={}", encode(&key)), |answer| {
                let count = show::text(answer, "count");
                format!("{key}: {count} (on {})\n", show::place(answer))
            })
        }
    }
}

fn show_report<R: DeserializeOwned>(
    at: &At,
    path: &str,
    table: impl FnOnce(R) -> String,
) -> Result<(), Failure> {
    let body = get(&at.admin, path)?.accepted(&at.admin)?;
    let report = serde_json::from_str(&body)
        .map_err(|error| strange(&at.admin, &format!("{path} says something else ({error})")))?;
    say(if at.json { body + "\n" } else { table(report) });
    Ok(())
}

fn order(
    at: &At,
    path: &str,
    words: impl FnOnce(&serde_json::Value) -> String,
) -> Result<(), Failure> {
    let body = post(&at.admin, path)?.accepted(&at.admin)?;
    let answer = serde_json::from_str(&body)
        .map_err(|error| strange(&at.admin, &format!("{path} says something else ({error})")))?;
    say(if at.json { body + "\n" } else { words(&answer) });
    Ok(())
}

/// A node that is not up answers as well, with another status.
fn health(at: &At) -> Result<(), Failure> {
    let answer = get(&at.admin, "/health")?;
    let body = if answer.status == 503 { answer.body } else { answer.accepted(&at.admin)? };
    let report: HealthReport = serde_json::from_str(&body)
        .map_err(|error| strange(&at.admin, &format!("/health says something else ({error})")))?;
    let members = match report.usable_members {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    let mut line = format!("node `{}` is {}, {members} can be sent to", report.name, report.state);
    if let Some(obstacle) = &report.joining {
        line += &format!("; it is not in its cluster: {obstacle}");
    }
    if let Some(waits) = &report.leaving {
        line += &format!("; its leave waits for {waits}");
    }
    for trouble in &report.troubles {
        line += &format!("; {trouble}");
    }
    if let Some(warning) = &report.warning {
        line += &format!("; {warning}");
    }
    for stuck in &report.stuck {
        let path = stuck.path.as_deref().unwrap_or("an unknown path");
        line += &format!(
            "; worker {} has been in one turn for {} ms, last called: {path}",
            stuck.worker, stuck.turn_ms
        );
        if let Some(message) = &stuck.message {
            line += &format!(" with a message {message}");
        }
    }
    if at.json {
        say(body + "\n");
    } else if report.healthy {
        say(format!("{line}\n"));
    }
    if report.healthy { Ok(()) } else { Err(Failure::new(FAILED, line)) }
}
