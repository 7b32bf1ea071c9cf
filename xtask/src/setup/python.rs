//! A Python with TensorBoard and Selenium in `.venv`: tests read our event files back with the real reader, and our pages in
//! a real browser.

use std::path::PathBuf;

use super::pinned::Pinned;
use crate::failure::Result;
use crate::workspace::Workspace;

const ADVICE: &str = "\
The Python environment of the tests (.venv) could not be made. After a remedy, run the same command again.
- No network, or a proxy is needed: pip uses your usual settings (HTTPS_PROXY, pip.conf, PIP_INDEX_URL).
- The disk is full: 0.2 GB are needed.
- Or bring your own Python with the packages of tests/python/requirements.txt and
  `export HESSIAN_PROBE_PYTHON=/absolute/path/to/python`.
";

/// Returns the Python that the tests are to use.
pub fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    let python = Pinned {
        of: "the tests",
        folder: workspace.venv(),
        requirements: workspace.requirements(),
        pip: &[],
        size: "0.2 GB",
        // The part of TensorBoard that the tests use, and what drives a browser.
        import: "import tensorboard.backend.event_processing.event_accumulator, selenium",
        always_tried: true,
        own: "HESSIAN_PROBE_PYTHON",
        own_advice: "HESSIAN_PROBE_PYTHON must name a Python with the packages of tests/python/requirements.txt. \
                     Install them there, or unset it and let `cargo xtask setup` make an environment.",
        advice: ADVICE,
    };
    python.prepare(workspace)
}
