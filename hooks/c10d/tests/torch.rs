//! The bindings beside c10d: gradients and generator states.

use hessian_probe_c10d::{Error, GradOptions, generator, grad};
use std::sync::Mutex;
use tch::{Device, Kind, Tensor};

/// Tests of one process share its default generator.
static GENERATOR: Mutex<()> = Mutex::new(());

const ALLOW_UNUSED: GradOptions =
    GradOptions { allow_unused: true, retain_graph: false, create_graph: false };

fn leaf(values: &[f64]) -> Tensor {
    Tensor::from_slice(values).set_requires_grad(true)
}

#[test]
fn a_generator_repeats_its_numbers_after_set_state() {
    let _guard = GENERATOR.lock().unwrap();
    tch::manual_seed(7);
    let randn = || Tensor::randn([1001], (Kind::Float, Device::Cpu));
    // One normal number may wait in the generator: an odd count keeps it there.
    let _ = randn();
    let state = generator::state(Device::Cpu).unwrap();
    let first = randn();
    assert_ne!(first, randn());
    generator::set_state(Device::Cpu, &state).unwrap();
    assert_eq!(first, randn());
    assert_ne!(state, generator::state(Device::Cpu).unwrap());
}

#[test]
fn bytes_that_are_no_generator_state_are_an_error_and_change_nothing() {
    let _guard = GENERATOR.lock().unwrap();
    let state = generator::state(Device::Cpu).unwrap();
    for bad in [&[][..], &[1, 2, 3], &state[1..]] {
        let error = generator::set_state(Device::Cpu, bad).unwrap_err();
        assert!(matches!(error, Error::Generator { .. }), "{error}");
    }
    assert_eq!(state, generator::state(Device::Cpu).unwrap());
}

#[test]
fn a_device_without_a_generator_is_an_error() {
    assert!(generator::state(Device::Mps).is_err());
    if !tch::Cuda::is_available() {
        assert!(generator::state(Device::Cuda(0)).is_err());
    }
}

#[test]
fn unused_inputs_have_no_gradient_where_that_is_allowed() {
    let (x, unused) = (leaf(&[1.0, 2.0]), leaf(&[3.0]));
    let loss = (&x * &x).sum(Kind::Double);
    let gradients = grad(&[&loss], &[&x, &unused], &[], ALLOW_UNUSED).unwrap();
    assert_eq!(gradients, [Some(Tensor::from_slice(&[2.0, 4.0])), None]);
    let loss = (&x * &x).sum(Kind::Double);
    assert!(grad(&[&loss], &[&x, &unused], &[], GradOptions::default()).is_err());
    assert!(!x.grad().defined());
}

#[test]
fn output_gradients_are_summed_over_outputs() {
    let x = leaf(&[1.0, 2.0]);
    let (square, total) = (&x * &x, x.sum(Kind::Double));
    let v = Tensor::from_slice(&[10.0, 100.0]);
    let gradients = grad(&[&square, &total], &[&x], &[Some(&v), None], GradOptions::default()).unwrap();
    assert_eq!(gradients, [Some(Tensor::from_slice(&[21.0, 401.0]))]);
}

#[test]
fn a_graph_can_be_kept_and_gradients_differentiated() {
    let x = leaf(&[2.0]);
    let cube = &x * &x * &x;
    let keep = GradOptions { create_graph: true, ..GradOptions::default() };
    let first = grad(&[&cube], &[&x], &[], keep).unwrap().remove(0).unwrap();
    let second = grad(&[&first], &[&x], &[], GradOptions { retain_graph: true, ..keep }).unwrap();
    assert_eq!(second, [Some(Tensor::from_slice(&[12.0]))]);
    assert!(grad(&[&cube], &[&x], &[], GradOptions::default()).is_ok());
    let freed = grad(&[&cube], &[&x], &[], GradOptions::default()).unwrap_err();
    assert!(freed.to_string().contains("second time"), "{freed}");
}

#[test]
fn what_cannot_be_differentiated_is_an_error() {
    let x = leaf(&[1.0, 2.0]);
    let square = || &x * &x;
    let (constant, undefined, wrong) =
        (Tensor::from_slice(&[1.0]), Tensor::new(), Tensor::from_slice(&[1.0, 2.0, 3.0]));
    let options = GradOptions::default();
    let errors = [
        grad(&[&constant], &[&x], &[], options),
        grad(&[&square()], &[&x], &[], options),
        grad(&[&square()], &[&x], &[Some(&wrong)], options),
        grad(&[&square()], &[&x], &[None, None], options),
        grad(&[&undefined], &[&x], &[], options),
        grad(&[], &[&x], &[], options),
        grad(&[&square()], &[&constant], &[Some(&x)], options),
    ];
    for (case, result) in errors.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::Autograd { .. })), "case {case}: {result:?}");
    }
}
