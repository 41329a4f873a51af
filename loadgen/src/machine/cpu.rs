//! CPU time of this thread, this process and any other process, in nanoseconds.

use std::io;

use crate::error::{Failure, Result};

/// CPU time that process `pid` has used so far, all threads, user and system.
///
/// Reads the process's own CPU clock, which the kernel brings up to date at the moment of
/// the call; `/proc/<pid>/stat` would give steps of 10 ms and `/proc/<pid>/schedstat` only
/// the first thread as of its last tick.
pub fn process_cpu_ns(pid: u32) -> Result<u64> {
    // The kernel's number for "CPU clock of process pid": the inverted pid above three bits,
    // of which the value 2 selects the scheduler's precise count.
    let clock = (!(pid as libc::clockid_t) << 3) | 2;
    read_clock(clock).map_err(|cause| {
        Failure::new(format!("read the CPU time of process {pid}"), cause)
            .hint("the process may have ended")
    })
}

/// CPU time that the calling thread has used so far.
pub fn thread_cpu_ns() -> u64 {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID).expect("the calling thread has a CPU clock")
}

fn read_clock(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, exclusively borrowed timespec for the length of the call, and
    // the call writes nothing else; an unknown clock is an error, not undefined.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn the_own_clocks_advance_with_work_and_not_with_sleep() {
        let pid = std::process::id();
        let (thread_before, process_before) = (thread_cpu_ns(), process_cpu_ns(pid).expect("own"));
        let started = Instant::now();
        while thread_cpu_ns() - thread_before < 20_000_000 {
            assert!(started.elapsed() < Duration::from_secs(30), "no CPU time was counted");
        }
        assert!(process_cpu_ns(pid).expect("own") - process_before >= 20_000_000);

        let before = thread_cpu_ns();
        std::thread::sleep(Duration::from_millis(50));
        assert!(thread_cpu_ns() - before < 25_000_000, "sleep must not count");
    }

    #[test]
    fn another_process_is_seen_running_and_its_end_is_an_error() {
        let mut child = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .spawn()
            .expect("a shell");
        let started = Instant::now();
        while process_cpu_ns(child.id()).expect("lives") < 5_000_000 {
            assert!(started.elapsed() < Duration::from_secs(30), "no CPU time was counted");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("kills");
        child.wait().expect("ends");
        let failure = process_cpu_ns(child.id()).expect_err("gone");
        assert!(failure.to_string().contains("may have ended"), "{failure}");
    }
}
