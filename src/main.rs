//! The program; see [`tallyhook::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    give_memory_back();
    tallyhook::cli::main()
}

/// Has glibc give back what is freed. As it is set up, it learns from the first
/// long bodies and answers to keep such memory, in each of its arenas, so that
/// a server that was once under load holds twice what it needs.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_memory_back() {
    /// What is at least as long is mapped by itself, and unmapped when it is freed.
    const MAPPED_BYTES_MIN: libc::c_int = 128 * 1_024;
    // SAFETY: it sets a number of the allocator, and no other thread runs yet.
    // If it refuses that, its own stays.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_memory_back() {}
