//! The program; see [`tallyhook::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    give_memory_back();
    tallyhook::cli::main()
}

/// Has glibc give back what is freed. As it is set up, each of its arenas keeps
/// whatever bodies and answers it ever held, so that a server that was once
/// under load holds twice what it needs.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_memory_back() {
    /// What is at least as long is mapped by itself, and unmapped when it is freed.
    const MAPPED_BYTES_MIN: libc::c_int = 128 * 1_024;
    const ARENAS_MAX: libc::c_int = 2;
    // SAFETY: it sets two numbers of the allocator, and no other thread runs
    // yet. If it refuses them, its own stay.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_memory_back() {}
