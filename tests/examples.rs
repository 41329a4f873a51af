//! Runs every program in `examples/` to its end. They check themselves; here they must also say
//! what a reader was promised, and leave no process behind.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Far more than any of them takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Cargo builds the examples together with the tests, next to them.
fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let path = profile.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built; run `cargo test --workspace`, or `cargo build --examples` before a \
         single test",
        path.display()
    );
    path
}

fn run(name: &str, arguments: &[&str]) -> String {
    let mut child = Command::new(path(name))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + LIMIT;
    // What they print is far less than a pipe holds, so that it can be read when they have ended.
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("{name} did not end within {LIMIT:?}; it said:\n{}", said(&output));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{name} failed: {}\n{}", output.status, said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn assert_says(name: &str, output: &str, parts: &[&str]) {
    for part in parts {
        assert!(output.contains(part), "{name} did not say {part:?}:\n{output}");
    }
}

#[test]
fn hello_counts_every_message() {
    let output = run("hello", &[]);
    let parts = ["6 items for 16.50", "28 sent = 27 delivered + 0 refused + 1 dead + 0 unknown"];
    assert_says("hello", &output, &parts);
}

#[test]
fn keyed_moves_only_the_keys_of_the_leaver() {
    let output = run("keyed", &[]);
    let parts = ["bert leaves.", " 0 moved that need not have.", "All processes have left."];
    assert_says("keyed", &output, &parts);
}

#[test]
fn ask_shows_every_end_of_an_ask() {
    let output = run("ask", &[]);
    let parts = ["6 * 7 = 42", "no reply came within the deadline", "a node goes away"];
    assert_says("ask", &output, &parts);
}

#[test]
fn work_is_begun_once_for_all_who_ask_meanwhile() {
    let output = run("work", &[]);
    let parts = ["looked up once: 1", "a look-up that panics"];
    assert_says("work", &output, &parts);
}

#[test]
fn testing_shows_a_crash_and_a_cut_without_waiting() {
    let output = run("testing", &[]);
    let parts = ["4 items, 1 parcel", "20 clusters in which a node crashed", "has healed after"];
    assert_says("testing", &output, &parts);
}

#[test]
fn embed_answers_http_and_shuts_down_in_order() {
    let output = run("embed", &["--check"]);
    let http = output.find("HTTP takes no more requests").expect("it is interrupted");
    let node = output.find("The node has left").expect("it leaves");
    assert!(http < node, "HTTP stops before the node does:\n{output}");
}
