//! What a waiting person sees: a bar on a terminal, a line per phase elsewhere.
//!
//! Everything goes to standard error, so that standard output can be piped. The bar is
//! redrawn twice a second at most: it must not disturb what is being measured.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Runs that are expected to be shorter than this need no progress.
const WORTH_SHOWING: Duration = Duration::from_secs(2);
const REDRAWS_PER_S: u8 = 2;

/// Progress through a known number of steps, grouped into named phases.
///
/// Disappears from the terminal when dropped.
#[derive(Debug)]
pub struct Progress {
    form: Form,
}

#[derive(Debug)]
enum Form {
    Silent,
    Lines,
    Bar(ProgressBar),
}

impl Progress {
    /// Progress of something with `steps` steps that takes about `expected`.
    pub fn new(steps: u64, expected: Duration, quiet: bool) -> Self {
        let form = if quiet || expected < WORTH_SHOWING {
            Form::Silent
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(
                Some(steps),
                ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_S),
            );
            let style = ProgressStyle::with_template(
                "{bar:24} {pos}/{len}  {prefix}  {msg}  {elapsed}, about {eta} left",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(1_000 / u64::from(REDRAWS_PER_S)));
            Form::Bar(bar)
        } else {
            Form::Lines
        };
        Self { form }
    }

    /// Begins a phase: one line where there is no terminal.
    pub fn phase(&self, name: &str) {
        match &self.form {
            Form::Silent => {}
            Form::Lines => eprintln!("{name}"),
            Form::Bar(bar) => bar.set_prefix(name.to_owned()),
        }
    }

    /// Begins a step within the phase; shown on a terminal only.
    pub fn step(&self, name: &str) {
        if let Form::Bar(bar) = &self.form {
            bar.set_message(name.to_owned());
        }
    }

    /// Ends a step.
    pub fn done(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.inc(1);
        }
    }

    /// Says something that must be seen, without tearing the bar.
    pub fn note(&self, text: &str) {
        match &self.form {
            Form::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            Form::Silent | Form::Lines => eprintln!("{text}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_quiet_runs_show_nothing() {
        let second = Duration::from_secs(1);
        assert!(matches!(Progress::new(3, second, false).form, Form::Silent));
        assert!(matches!(Progress::new(3, 60 * second, true).form, Form::Silent));
        assert!(!matches!(Progress::new(3, 60 * second, false).form, Form::Silent));
    }
}
