//! The command channel, the child's end.

use std::io::{self, BufRead, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::channel::{Answer, MAX_LINE_BYTES, Outcome, Request};

/// Answers commands from standard input on standard output until the input is closed.
///
/// `handle` does what a command says; its error goes to the parent as text. Standard output
/// belongs to the channel: whatever else the child has to say goes to standard error.
pub fn serve<C: DeserializeOwned, A: Serialize, E: ToString>(
    handle: impl FnMut(C) -> Result<A, E>,
) -> io::Result<()> {
    serve_on(io::stdin().lock(), io::stdout().lock(), handle)
}

fn serve_on<C: DeserializeOwned, A: Serialize, E: ToString>(
    mut input: impl BufRead,
    mut output: impl Write,
    mut handle: impl FnMut(C) -> Result<A, E>,
) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut input).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_slice::<Request<C>>(&line) {
            Ok(Request { id, command }) => {
                let outcome = match handle(command) {
                    Ok(answer) => Outcome::Ok(answer),
                    Err(reason) => Outcome::Error(reason.to_string()),
                };
                Answer { id, outcome }
            }
            Err(cause) => {
                // Unknown command, known number: the parent shall learn why.
                let Request::<serde::de::IgnoredAny> { id, .. } = serde_json::from_slice(&line)?;
                Answer { id, outcome: Outcome::Error(format!("unknown command: {cause}")) }
            }
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        output.write_all(&text)?;
        output.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(input: &str) -> io::Result<String> {
        let mut output = Vec::new();
        serve_on(input.as_bytes(), &mut output, |number: u32| {
            if number == 0 { Err("zero is not allowed") } else { Ok(number * 2) }
        })?;
        Ok(String::from_utf8(output).expect("text"))
    }

    #[test]
    fn each_line_gets_its_numbered_answer() {
        let output =
            answers("{\"id\":1,\"command\":4}\n{\"id\":2,\"command\":0}\n").expect("serves");
        assert_eq!(
            output,
            "{\"id\":1,\"outcome\":{\"ok\":8}}\n\
             {\"id\":2,\"outcome\":{\"error\":\"zero is not allowed\"}}\n"
        );
    }

    #[test]
    fn an_unknown_command_is_answered_and_noise_ends_the_service() {
        let output = answers("{\"id\":7,\"command\":\"what\"}\n").expect("serves");
        assert!(
            output.starts_with("{\"id\":7,\"outcome\":{\"error\":\"unknown command: "),
            "{output}"
        );
        assert!(answers("noise\n").is_err());
        assert_eq!(answers("").expect("serves"), "");
    }
}
