//! Counts the system calls of another process with the kernel's own tracepoint.
//!
//! `/proc/<pid>/io` is of no use here: it counts `read` and `write`, but neither `recv`,
//! `send` nor `epoll_wait`. Instead a perf counter is opened on `raw_syscalls:sys_enter` for
//! each thread. That is not free: measured on a virtual machine, a counted call takes 0.13 us
//! more, and while any such counter is open every other call of the machine 0.03 us more.
//! Calls are therefore counted in rounds of their own and never in those that are timed.
//!
//! Needs root or `CAP_PERFMON`, and `tracefs`. Where that is missing, [`SyscallCounter::attach`]
//! says so, and the summary shows `null`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::{Attempt, Failure, Result};

/// Counts the system calls of one process while it exists.
#[derive(Debug)]
pub struct SyscallCounter {
    pid: u32,
    threads: Vec<File>,
}

impl SyscallCounter {
    /// Begins to count the calls of all threads of `pid`, and of those that they start.
    ///
    /// Attach when the process has started its threads: one that another thread starts during
    /// this call may be missed.
    pub fn attach(pid: u32) -> Result<Self> {
        let tracepoint = tracepoint_id()?;
        let attempt = format!("count the system calls of process {pid}");
        let mut threads = Vec::new();
        let listing = std::fs::read_dir(format!("/proc/{pid}/task"))
            .map_err(|cause| Failure::new(&*attempt, cause).hint("the process may have ended"))?;
        for thread in listing {
            let name = thread.attempting(&attempt)?.file_name();
            let Some(tid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            match open_counter(tracepoint, tid) {
                Ok(counter) => threads.push(File::from(counter)),
                // The thread ended since the listing.
                Err(cause) if cause.raw_os_error() == Some(libc::ESRCH) => {}
                Err(cause) => {
                    return Err(
                        Failure::new(attempt, cause).hint("run as root or with CAP_PERFMON")
                    );
                }
            }
        }
        Ok(Self { pid, threads })
    }

    /// System calls begun since the counter was attached.
    pub fn count(&mut self) -> Result<u64> {
        let mut sum = 0;
        for counter in &mut self.threads {
            let mut value = [0; 8];
            counter.read_exact(&mut value).map_err(|cause| {
                Failure::new(format!("read the call counter of process {}", self.pid), cause)
            })?;
            sum += u64::from_ne_bytes(value);
        }
        Ok(sum)
    }
}

/// The number of `raw_syscalls:sys_enter`, which differs from kernel to kernel.
fn tracepoint_id() -> Result<u64> {
    const ID: &str = "events/raw_syscalls/sys_enter/id";
    for mounted in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
        if let Ok(text) = std::fs::read_to_string(format!("{mounted}/{ID}")) {
            return text.trim().parse().attempting("read the tracepoint's number");
        }
    }
    // Not mounted: read it through a mount that no folder shows and that ends with this scope.
    let read = || -> io::Result<String> {
        let context = rustix::mount::fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        let mount = rustix::mount::fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )?;
        let file = rustix::fs::openat(&mount, ID, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        File::from(file).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|cause| {
        Failure::new("find the tracepoint for system calls", cause)
            .hint("run as root, or mount tracefs at /sys/kernel/tracing")
    })?;
    text.trim().parse().attempting("read the tracepoint's number")
}

/// The head of `struct perf_event_attr` and zeros for the rest, in its fifth published size.
#[repr(C)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    rest: [u64; 8],
}

fn open_counter(tracepoint: u64, tid: libc::pid_t) -> io::Result<OwnedFd> {
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    const INHERIT: u64 = 1 << 1;
    let attr = PerfEventAttr {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<PerfEventAttr>() as u32,
        config: tracepoint,
        sample_period: 0,
        sample_type: 0,
        read_format: 0,
        flags: INHERIT,
        rest: [0; 8],
    };
    const ANY_CORE: libc::c_int = -1;
    const NO_GROUP: libc::c_int = -1;
    const CLOSE_ON_EXEC: libc::c_ulong = 8;
    // SAFETY: `attr` lives through the call, has the size it states, and is only read; the
    // other arguments are plain numbers.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            tid,
            ANY_CORE,
            NO_GROUP,
            CLOSE_ON_EXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this descriptor to us and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// `dd` makes one read and one write per block: a known number of calls.
    #[test]
    fn a_known_number_of_calls_is_counted() {
        let mut child = Command::new("sh")
            .args(["-c", "read go; exec dd if=/dev/zero of=/dev/null bs=1 count=5000 2>/dev/null"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let attached = SyscallCounter::attach(child.id());
        child.stdin.take().expect("piped").write_all(b"go\n").expect("goes");
        child.wait().expect("ends");
        match attached {
            Ok(mut counter) => {
                let count = counter.count().expect("counts");
                assert!((10_000..11_000).contains(&count), "{count} calls");
            }
            // Without the right to count, the reason must tell what to do.
            Err(failure) => assert!(failure.to_string().contains("run as root"), "{failure}"),
        }
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        let failure = SyscallCounter::attach(u32::MAX).expect_err("no such process");
        assert!(failure.to_string().starts_with("could not"), "{failure}");
    }
}
