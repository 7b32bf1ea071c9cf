//! How far a product is from the reference.

use crate::Result;
use std::collections::HashMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// ‖w − r‖ / ‖r‖ of two vectors in files, one tensor a parameter, in f64.
///
/// # Errors
/// Where a file cannot be read, or they have not the same parameters.
pub fn relative_error(product: &Path, reference: &Path) -> Result<f64> {
    let read = |path: &Path| -> Result<HashMap<String, Tensor>> {
        let tensors =
            Tensor::read_safetensors(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(tensors.into_iter().collect())
    };
    let (product, reference) = (read(product)?, read(reference)?);
    if product.len() != reference.len() {
        return Err(format!("{} parameters, and the reference has {}", product.len(), reference.len()).into());
    }
    let (mut off, mut whole) = (0.0, 0.0);
    for (name, expected) in &reference {
        let found = product.get(name).ok_or_else(|| format!("no product for {name}"))?;
        let flat = |tensor: &Tensor| tensor.f_reshape([-1])?.f_to_kind(Kind::Double);
        let (found, expected) = (flat(found)?, flat(expected)?);
        let difference = found.f_sub(&expected)?;
        off += difference.f_dot(&difference)?.f_double_value(&[])?;
        whole += expected.f_dot(&expected)?.f_double_value(&[])?;
    }
    Ok((off / whole).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_types_may_differ_and_parameters_may_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let write =
            |name: &str, tensors: &[(&str, Tensor)]| Tensor::write_safetensors(tensors, path(name)).unwrap();
        let one = Tensor::from_slice(&[3.0_f64]);
        write("reference", &[("a", Tensor::from_slice(&[0.0_f64, 4.0, 0.0, 0.0])), ("b", one)]);
        let matrix = Tensor::from_slice(&[0.0_f32, 4.0, 0.5, 0.0]).view([2, 2]);
        write("product", &[("b", Tensor::from_slice(&[3.0_f32])), ("a", matrix.copy())]);
        assert_eq!(relative_error(&path("product"), &path("reference")).unwrap(), 0.1);
        write("other", &[("c", Tensor::from_slice(&[3.0_f32])), ("a", matrix)]);
        assert!(relative_error(&path("other"), &path("reference")).is_err());
        write("fewer", &[("b", Tensor::from_slice(&[3.0_f32]))]);
        assert!(relative_error(&path("fewer"), &path("reference")).is_err());
    }
}
