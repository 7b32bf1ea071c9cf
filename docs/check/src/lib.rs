//! What the README and the pages of the docs show, as tests: each block of Rust is a doc test of this crate, and
//! `tests/check` looks at everything else in them. A block that compiles only with context would tell a reader nothing, so
//! blocks are whole items.

/// Makes the blocks of pages doc tests.
macro_rules! pages {
    ($($name:ident = $path:literal)*) => {$(
        #[cfg(doctest)]
        #[doc = include_str!($path)]
        pub struct $name;
    )*};
}

pages! {
    Readme = "../../../README.md"
    C10d = "../../../hooks/c10d/README.md"
    Fsdp = "../../../hooks/fsdp/README.md"
    RustTorch = "../../../hooks/rusttorch/README.md"
    VarStore = "../../../hooks/var_store/README.md"
    YourLoop = "../../guide/your-loop.md"
    YourHost = "../../guide/your-host.md"
    Spectrum = "../../guide/spectrum.md"
    Checkpoints = "../../guide/checkpoints.md"
    Ranks = "../../guide/ranks.md"
    Logging = "../../guide/logging.md"
}
