//! Child processes: answers, named errors, and their end.

use std::time::{Duration, Instant};

use loadgen::process::{ProcessError, SpawnPlan, Spawned};

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str) -> SpawnPlan {
    SpawnPlan::program("the shell", "sh", ["-c", script])
}

fn spawn(script: &str) -> Spawned {
    shell(script).spawn().expect("starts")
}

/// Whether `pid` runs; one that waits to be reaped by whoever adopted it does not.
fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

fn assert_ends(pid: u32) {
    let started = Instant::now();
    while runs(pid) {
        assert!(started.elapsed() < SOON, "process {pid} was left behind");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_answer_comes_back_typed() {
    let mut child = spawn(
        r#"read -r line; echo '{"id":1,"outcome":{"ok":[1,2]}}'; read -r line
           echo '{"id":2,"outcome":{"error":"no more"}}'; cat >/dev/null"#,
    );
    let answer: Vec<u32> = child.call(&"numbers", SOON).expect("answers");
    assert_eq!(answer, [1, 2]);
    let error = child.call::<u32>(&"more", SOON).expect_err("refuses");
    assert_eq!(
        error,
        ProcessError::Refused {
            name: "the shell".into(),
            command: "\"more\"".into(),
            reason: "no more".into()
        }
    );
    assert!(child.close(SOON).expect("ends by itself").success());
}

#[test]
fn a_late_answer_is_not_taken_for_the_next() {
    let mut child = spawn(
        r#"read -r line; read -r line; echo '{"id":1,"outcome":{"ok":"late"}}'
           echo '{"id":2,"outcome":{"ok":"in time"}}'; cat >/dev/null"#,
    );
    let error = child.call::<String>(&1, Duration::from_millis(30)).expect_err("times out");
    assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
    assert_eq!(child.call::<String>(&2, SOON).expect("answers"), "in time");
}

#[test]
fn an_end_is_told_with_status_and_last_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("child.log");
    let mut child = shell("read -r line; echo the disk is full >&2; exit 3")
        .log_to(&log)
        .spawn()
        .expect("starts");
    let error = child.call::<u32>(&"work", SOON).expect_err("ends").to_string();
    assert!(error.contains("exit status: 3") && error.contains("the disk is full"), "{error}");
    let error = child.call::<u32>(&"work", SOON).expect_err("is gone").to_string();
    assert!(error.contains("exit status: 3"), "{error}");
}

#[test]
fn noise_and_wrong_numbers_are_called_garbled() {
    for noise in ["hello", r#"{"id":9,"outcome":{"ok":1}}"#, r#"{"id":1,"outcome":{"ok":"text"}}"#]
    {
        let mut child = spawn(&format!("read -r line; echo '{noise}'; cat >/dev/null"));
        let error = child.call::<u32>(&"work", SOON).expect_err("is not an answer");
        assert!(matches!(error, ProcessError::Garbled { .. }), "{error}");
    }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let plan = SpawnPlan::program("the ghost", "/no/such/program", [""; 0]);
    let error = plan.spawn().expect_err("cannot start").to_string();
    assert!(error.contains("the ghost (/no/such/program)"), "{error}");
}

#[test]
fn a_child_runs_on_the_cores_it_was_given() {
    let core = *loadgen::machine::allowed_cores().expect("cores").last().expect("one");
    let mut child = shell(
        r#"read -r line; read -r _ cores <<.
$(grep Cpus_allowed_list /proc/self/status)
.
           echo "{\"id\":1,\"outcome\":{\"ok\":$cores}}""#,
    )
    .on_cores(&[core])
    .spawn()
    .expect("starts");
    assert_eq!(child.call::<usize>(&"where", SOON).expect("answers"), core);
}

#[test]
fn dropping_ends_the_child_and_what_it_started() {
    let mut child = spawn(
        r#"sleep 1000 & read -r line; echo "{\"id\":1,\"outcome\":{\"ok\":$!}}"; sleep 1000"#,
    );
    let grandchild: u32 = child.call(&"who", SOON).expect("answers");
    let pid = child.pid();
    assert!(runs(pid) && runs(grandchild));
    drop(child);
    assert_ends(pid);
    assert_ends(grandchild);
}

#[test]
fn what_an_ended_child_left_behind_is_ended_too() {
    let mut child =
        spawn(r#"read -r line; sleep 1000 & echo "{\"id\":1,\"outcome\":{\"ok\":$!}}"; exit 0"#);
    let grandchild: u32 = child.call(&"who", SOON).expect("answers");
    assert!(child.wait(SOON).expect("ends").success());
    assert_ends(grandchild);
}

#[test]
fn a_panic_ends_the_child() {
    let child = spawn("sleep 1000");
    let pid = child.pid();
    let outcome = std::thread::spawn(move || {
        let _child = child;
        panic!("on purpose");
    })
    .join();
    assert!(outcome.is_err());
    assert_ends(pid);
}

#[test]
fn a_child_outlives_the_thread_that_asked_for_it() {
    let mut child = std::thread::spawn(|| spawn("sleep 1000")).join().expect("starts");
    std::thread::sleep(Duration::from_millis(100));
    assert!(runs(child.pid()) && child.poll_end().is_none());
}

#[test]
fn one_that_does_not_want_to_end_is_killed_and_that_is_told() {
    let mut child = spawn("sleep 1000");
    let error = child.close(Duration::from_millis(50)).expect_err("does not end");
    assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
    assert!(!runs(child.pid()));
}
