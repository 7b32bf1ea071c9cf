//! A Python with the libraries that `bench --peers` compares us with, in `.venv-peers`, apart from that of the tests: it
//! holds PyTorch, and nothing but that benchmark needs it.

use std::path::PathBuf;

use super::pinned::Pinned;
use crate::failure::Result;
use crate::workspace::Workspace;

const ADVICE: &str = "\
The Python environment of the peers (.venv-peers) could not be made. After a remedy, run the same command again.
- No network, or a proxy is needed: pip uses your usual settings (HTTPS_PROXY, pip.conf, PIP_INDEX_URL).
- The disk is full: about 8 GB are needed while unpacking, 5 GB afterwards.
- \"No matching distribution\": the versions are those for Python 3.11 or later on x86_64.
- Or bring your own Python with the packages of benches/peers/requirements.txt (a PyTorch without CUDA is smaller) and
  `export HESSIAN_PROBE_PEERS_PYTHON=/absolute/path/to/python`.
";

/// Returns the Python that the benchmark is to use.
pub fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    let python = Pinned {
        of: "the peers",
        folder: workspace.peers_venv(),
        requirements: workspace.peers_requirements(),
        // The file is a lock: it names all packages, also those that others need, and leaves out what no part of the
        // benchmark imports.
        pip: &["--no-compile", "--no-deps", "--only-binary=:all:"],
        size: "3 GB to download, 5 GB on disk",
        import: "import transformers, hessian_eigenthings, curvlinops, pyhessian, torch",
        // It takes seconds, and the benchmark does it anyway.
        always_tried: false,
        own: "HESSIAN_PROBE_PEERS_PYTHON",
        own_advice: "HESSIAN_PROBE_PEERS_PYTHON must name a Python with the packages of benches/peers/requirements.txt. \
                     Install them there, or unset it and let `cargo xtask bench --peers` make an environment.",
        advice: ADVICE,
    };
    python.prepare(workspace)
}
