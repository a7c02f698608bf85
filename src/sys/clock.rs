//! The CPU time of a thread.

use std::time::Duration;

/// CPU time that the calling thread has used; zero where the system does not tell. One system call.
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer to a plain struct that the call fills.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_uses_cpu_time_and_sleep_does_not() {
        let start = thread_cpu_time();
        std::thread::sleep(Duration::from_millis(200));
        let slept = thread_cpu_time();
        assert!(slept - start < Duration::from_millis(100), "{:?}", slept - start);
        while thread_cpu_time() - slept < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
    }
}
