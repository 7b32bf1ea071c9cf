//! Compiles the C++ shim against the libtorch that torch-sys found, and lets this package's binaries,
//! tests and examples find libtorch at run time: link arguments reach neither dependents nor their
//! binaries, so each package says it for itself.

use std::path::{Path, PathBuf};
use std::{env, process};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=shim");
    for variable in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI", "CUDA_HOME", "NCCL_HOME"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    if env::var_os("CARGO_FEATURE_DOC_ONLY").is_some() {
        return;
    }
    let Ok(lib) = env::var("DEP_TCH_LIBTORCH_LIB") else {
        fail(
            "torch-sys did not say where libtorch is; c10d needs Linux or macOS, or else the feature `doc-only`",
        );
    };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");

    // torch-sys, too, takes LIBTORCH_INCLUDE for the directory that contains `include`.
    let root = env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
    let Some(root) = root.or_else(|| Path::new(&lib).parent().map(Path::to_path_buf)) else {
        fail(&format!("no directory above libtorch's libraries at {lib}"));
    };
    let include = root.join("include");
    if !include.join("torch/csrc/distributed/c10d/ProcessGroupGloo.hpp").is_file() {
        fail(&format!(
            "{} has no torch/csrc/distributed/c10d/ProcessGroupGloo.hpp; \
             set LIBTORCH_INCLUDE to the directory that contains libtorch's `include`",
            include.display()
        ));
    }

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .pic(true)
        // The headers are long and the shim is short: little is gained by -O2, and a build takes longer.
        .opt_level(1)
        .debug(false)
        .warnings(false)
        .define("USE_DISTRIBUTED", None)
        .define("USE_C10D_GLOO", None)
        .include("shim/stubs")
        .flag("-isystem")
        .flag(include.display().to_string())
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include").display().to_string());
    if let Ok(abi) = env::var("LIBTORCH_CXX11_ABI") {
        build.define("_GLIBCXX_USE_CXX11_ABI", abi.as_str());
    }
    if env::var_os("CARGO_FEATURE_NCCL").is_some() {
        build.define("HESSIAN_PROBE_NCCL", None).define("USE_C10D_NCCL", None).define("USE_CUDA", None);
        for directory in cuda_includes() {
            build.flag("-idirafter").flag(directory.display().to_string());
        }
        println!("cargo:rustc-link-lib=torch_cuda");
        println!("cargo:rustc-link-lib=c10_cuda");
    }
    build.files(["shim/c10d.cpp", "shim/torch.cpp"]).compile("hessian_probe_c10d_shim");
    println!("cargo:rustc-link-search=native={lib}");
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    if let Ok(out) = env::var("OUT_DIR") {
        // For the test that looks for symbols of Gloo in it.
        println!("cargo:rustc-env=HESSIAN_PROBE_C10D_SHIM={out}/libhessian_probe_c10d_shim.a");
    }
}

/// Where the CUDA and NCCL headers are; toolkits come with or without the latter.
fn cuda_includes() -> Vec<PathBuf> {
    let home = |variable: &str| env::var_os(variable).map(|home| PathBuf::from(home).join("include"));
    let cuda = home("CUDA_HOME").unwrap_or_else(|| PathBuf::from("/usr/local/cuda/include"));
    let nccl = [home("NCCL_HOME"), Some(cuda.clone()), Some(PathBuf::from("/usr/include"))];
    if !cuda.join("cuda_runtime.h").is_file() {
        fail(&format!(
            "the feature `nccl` needs cuda_runtime.h, which is not in {}; \
             set CUDA_HOME to a CUDA toolkit, or build without the feature",
            cuda.display()
        ));
    }
    match nccl.into_iter().flatten().find(|directory| directory.join("nccl.h").is_file()) {
        Some(nccl) if nccl != cuda => vec![cuda, nccl],
        Some(_) => vec![cuda],
        None => fail(
            "the feature `nccl` needs nccl.h, which is neither in CUDA_HOME/include nor /usr/include; \
             set NCCL_HOME to the directory that contains NCCL's `include`, or build without the feature",
        ),
    }
}

fn fail(reason: &str) -> ! {
    println!("cargo:warning=hessian-probe-c10d: {reason}");
    eprintln!("hessian-probe-c10d: {reason}");
    process::exit(1);
}
