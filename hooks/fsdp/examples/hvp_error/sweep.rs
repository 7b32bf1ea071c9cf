//! Central differences over steps of eight orders of magnitude.

use super::Result;
use super::vectors::Vectors;
use hessian_probe::Host;
use hessian_probe_fsdp::Trainer;
use tch::Kind;

/// One product: what the forward pass really saw of the step, and what came out.
struct Product {
    /// `⟨(θ₊ − θ₋)/2, v⟩`, of the parameters as the forward pass uses them.
    realised: f64,
    /// `‖(θ₊ − θ₋)/2h̄ − v‖`: what rounding adds in other directions.
    stray: f64,
    /// `(g₊ − g₋)/2h̄`.
    product: Vectors,
    /// `‖g₊ + g₋ − 2g‖ / ‖g₊ − g₋‖`.
    parity: f64,
}

fn central(trainer: &mut Trainer, theta: &Vectors, g: &Vectors, v: &Vectors, h: f64) -> Result<Product> {
    let mut side = |h: f64| {
        theta.plus(h, v)?.write(trainer)?;
        let used = Vectors::as_used(trainer)?;
        Ok((used, Vectors::new(trainer.gradient()?.tensors, Kind::Double)?))
    };
    let sides: Result<_> = side(h).and_then(|plus| Ok((plus, side(-h)?)));
    theta.write(trainer)?;
    let ((plus, g_plus), (minus, g_minus)) = sides?;
    let step = plus.plus(-1.0, &minus)?.times(0.5)?;
    let realised = step.dot(v)?;
    let odd = g_plus.plus(-1.0, &g_minus)?;
    Ok(Product {
        realised,
        stray: step.times(1.0 / realised)?.plus(-1.0, v)?.norm()?,
        parity: g_plus.plus(1.0, &g_minus)?.plus(-2.0, g)?.norm()? / odd.norm()?,
        product: odd.times(0.5 / realised)?,
    })
}

/// A table of h against the error of Hv, for one unit vector.
pub fn sweep(name: &str, trainer: &mut Trainer, v: &Vectors, expected: &Vectors) -> Result<()> {
    let norm = expected.norm()?;
    println!("\n{name}: ‖Hv‖ = {norm:.4e}, vᵀHv = {:.4e}", v.dot(expected)?);
    println!("{:>9} {:>9} {:>9} {:>9} {:>10} {:>11}", "h", "error", "h̄/h", "ρ", "parity", "vᵀHv");
    let theta = Vectors::of(trainer)?;
    let g = Vectors::new(trainer.gradient()?.tensors, Kind::Double)?;
    for exponent in -8..=4 {
        let h = 10_f64.powf(f64::from(exponent) / 2.0);
        let Product { realised, stray, product, parity } = central(trainer, &theta, &g, v, h)?;
        let error = product.plus(-1.0, expected)?.norm()? / norm;
        let curvature = v.dot(&product)?;
        println!(
            "{h:>9.1e} {:>8.3}% {:>9.4} {stray:>9.2e} {parity:>10.2e} {curvature:>11.4e}",
            100.0 * error,
            realised / h
        );
    }
    Ok(())
}
