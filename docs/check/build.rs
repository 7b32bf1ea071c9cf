//! Lets every binary, test and example of this package find libtorch at run time:
//! link arguments reach neither dependents nor their binaries, so each package says it for itself.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
