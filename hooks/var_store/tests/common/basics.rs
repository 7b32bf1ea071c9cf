//! Probes, tensors, a dense Hessian, and what several ranks find: for the tests of hooks whose loss is a closure's.

use super::processes::{TIMEOUT, expect_success, launcher};
use hessian_probe::{HessianProbe, ProbeConfig, Snapshot};
use hessian_probe_c10d::{ProcessGroup, is_launched};
use std::borrow::Borrow;
use std::path::Path;
use tch::Tensor;

/// A probe without logs.
pub fn probe(toml: &str) -> HessianProbe {
    let toml = format!("{toml}\n[log]\ntensorboard = false\njsonl = false");
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

/// The bytes of a tensor.
pub fn bits(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

pub fn flat(tensors: &[Tensor]) -> Tensor {
    Tensor::cat(&tensors.iter().map(|tensor| tensor.reshape([-1])).collect::<Vec<_>>(), 0)
}

/// H by tch's own double backward, row by row.
pub fn dense_hessian(loss: &Tensor, parameters: &[impl Borrow<Tensor>]) -> Tensor {
    let gradient = flat(&Tensor::run_backward(&[loss], parameters, true, true));
    let row = |i| {
        let rows = Tensor::run_backward(&[gradient.get(i)], parameters, true, false);
        let rows = rows.into_iter().zip(parameters);
        // Where an entry does not depend on a parameter there is no tensor.
        let whole = rows.map(|(row, p)| if row.defined() { row } else { p.borrow().zeros_like() });
        flat(&whole.collect::<Vec<_>>())
    };
    Tensor::stack(&(0..gradient.numel() as i64).map(row).collect::<Vec<_>>(), 0).detach()
}

/// In the test process, starts the calling test on each of `world_sizes` ranks and returns, for each, what `body` found on
/// every rank; in those ranks, runs `body` and returns `None`: they have nothing more to do.
pub fn snapshots_on<F, const N: usize>(world_sizes: [usize; N], body: F) -> Option<[Vec<Vec<Snapshot>>; N]>
where
    F: Fn(&ProcessGroup) -> Vec<Snapshot>,
{
    const DIRECTORY: &str = "HESSIAN_PROBE_TEST_DIRECTORY";
    let file = |directory: &Path, rank: usize| directory.join(format!("{rank}.json"));
    if is_launched() {
        tch::set_num_threads(1);
        let group = ProcessGroup::from_env(TIMEOUT).expect("a group");
        let directory = std::env::var_os(DIRECTORY).expect("a directory for what is found");
        let found = serde_json::to_vec(&body(&group)).unwrap();
        std::fs::write(file(directory.as_ref(), group.rank()), found).unwrap();
        return None;
    }
    Some(world_sizes.map(|world_size| {
        let directory = tempfile::tempdir().unwrap();
        expect_success(&launcher(world_size, &body).env(DIRECTORY, directory.path()).run().unwrap());
        let read = |rank| {
            let found = std::fs::read(file(directory.path(), rank)).unwrap();
            serde_json::from_slice(&found).unwrap()
        };
        (0..world_size).map(read).collect()
    }))
}
