//! What the C library's allocator does with memory that libtorch has freed.
//!
//! glibc maps a large block by itself and unmaps it when it is freed, but raises the size that counts as large with
//! every such block, up to 32 MiB. Activations of a language model are smaller than that: they end up in the heap,
//! in each gradient at other places, and the holes between them stay resident. Naming the size, once, switches that
//! off. What it costs is that the kernel clears pages anew for each large tensor, which is why libtorch is told to ask for
//! huge pages: a fault then brings 2 MiB in place of 4 KiB.
//!
//! Rust's own allocator goes through the same `malloc`, and so does libtorch (`posix_memalign`): a `#[global_allocator]`
//! would reach only the former.

/// Blocks from this size on are mapped by themselves, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 1 << 20;

/// Makes libtorch ask for huge pages.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HUGE_PAGES: &str = "THP_MEM_ALLOC_ENABLE";

/// Has large blocks returned to the system when they are freed, and made of huge pages, unless the user has said something of
/// that. To be called
/// before anything large is allocated, while there is one thread only.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn configure() {
    let said = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let tuned = std::env::var_os("GLIBC_TUNABLES")
        .is_some_and(|tunables| tunables.to_string_lossy().contains("glibc.malloc."));
    if said("MALLOC_MMAP_THRESHOLD_") || said("MALLOC_TRIM_THRESHOLD_") || tuned {
        return;
    }
    // SAFETY: it sets a number in the allocator, under the allocator's own lock. Where the allocator is another
    // one that was loaded before glibc's, it sets one that nobody reads.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    if !said(HUGE_PAGES) {
        // SAFETY: this is the program's first step, and no other thread is there to read the environment.
        unsafe { std::env::set_var(HUGE_PAGES, "1") };
    }
}

/// Other allocators have no such thing.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn configure() {}
