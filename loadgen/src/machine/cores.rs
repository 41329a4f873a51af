//! Which cores this process may use, and binding a thread to one of them.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Attempt, Failure, Result};

/// The cores that the calling thread may run on, in ascending order.
///
/// This respects containers and `taskset`: what is not listed here cannot be pinned to.
pub fn allowed_cores() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).attempting("read which cores are allowed")?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Binds the calling thread to `core`.
pub fn pin_thread(core: usize) -> Result<()> {
    let attempt = format!("pin a thread to core {core}");
    sched_setaffinity(None, &core_set(&[core])?).map_err(|cause| {
        Failure::new(attempt, cause).hint("choose a core that this process may use")
    })
}

/// Checks a wish for cores against the allowed ones; `None` takes the first `count`.
///
/// Fails when a wished core is not allowed, or when there are fewer than `count`.
pub fn resolve_cores(wished: Option<&[usize]>, count: usize) -> Result<Vec<usize>> {
    let allowed = allowed_cores()?;
    let chosen = match wished {
        Some(wished) => wished.to_vec(),
        None => allowed.iter().copied().take(count).collect(),
    };
    if let Some(core) = chosen.iter().find(|core| !allowed.contains(core)) {
        return Err(Failure::new(format!("use core {core}"), "this process may not run on it")
            .hint(format!("allowed cores: {allowed:?}")));
    }
    if chosen.len() != count {
        return Err(Failure::new(
            format!("use {count} cores"),
            format!("got {}: {chosen:?}", chosen.len()),
        )
        .hint(format!("allowed cores: {allowed:?}")));
    }
    Ok(chosen)
}

/// The kernel's form of a list of cores.
pub(crate) fn core_set(cores: &[usize]) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    for core in cores {
        if *core >= CpuSet::MAX_CPU {
            return Err(Failure::new(
                format!("use core {core}"),
                format!("core numbers end at {}", CpuSet::MAX_CPU - 1),
            ));
        }
        set.set(*core);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_stays_on_its_core() {
        let core = *allowed_cores().expect("cores").last().expect("one core");
        std::thread::spawn(move || {
            pin_thread(core).expect("pins");
            assert_eq!(allowed_cores().expect("cores"), vec![core]);
            assert_eq!(rustix::thread::sched_getcpu(), core);
        })
        .join()
        .expect("the thread asserts");
    }

    #[test]
    fn impossible_cores_are_named() {
        let failure = pin_thread(1_000_000).expect_err("no such core");
        assert!(failure.to_string().contains("core 1000000"), "{failure}");
        let failure = resolve_cores(Some(&[1_000]), 1).expect_err("not allowed");
        assert!(failure.to_string().contains("allowed cores"), "{failure}");
        let failure = resolve_cores(None, 1_025).expect_err("too many");
        assert!(failure.to_string().contains("use 1025 cores"), "{failure}");
    }
}
