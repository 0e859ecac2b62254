//! The number of forks that made this process. The threads of a tier exist only in the process that
//! started it, so in a child no check can be decided by it.
#![expect(unsafe_code, reason = "pthread_atfork is a function of C")]

use std::sync::{
    Once,
    atomic::{AtomicUsize, Ordering},
};

static FORKS: AtomicUsize = AtomicUsize::new(0);

/// Counts forks from now on.
pub(crate) fn count_forks() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the handler is a function that lives as long as the process, because this library
        // is not unloaded (it has thread-local data with destructors). In the child it does nothing
        // but an atomic addition, which is async-signal-safe.
        let _without_memory = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
    });
}

/// Returns the number of forks between this process and the one that first counted them.
pub(crate) fn forks() -> usize {
    FORKS.load(Ordering::Relaxed)
}

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
