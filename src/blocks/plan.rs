//! What a measurement costs, before it starts.

use super::config::{BlocksConfig, Method};
use super::partition::Partition;
use std::fmt;

/// What is measured, and with how many Hessian-vector products.
///
/// With B blocks each vector takes 1 + B products by the exact method, 1 + `draws` by the stochastic one. The
/// gradient is one vector, on which as many draws are spent as on all others together; where that is no less than
/// B, it is compared along exactly by either method: 1 + min(B, `vectors` · `draws`) products. The spectrum of a
/// block of n_b parameters takes min(`spectrum_steps`, n_b). Where all that is more than `max_hvps`, things are left
/// out in this order, only as far as needed:
/// 1. spectra, from the smallest block on;
/// 2. the exact method, for the stochastic one, where that is cheaper;
/// 3. vectors, down to one;
/// 4. the comparison along the gradient;
/// 5. draws, down to two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether each block takes a product of its own.
    pub exact: bool,
    /// Rademacher vectors.
    pub vectors: usize,
    /// Draws of signs for each of them, by the stochastic method.
    pub draws: usize,
    /// Whether the gradient is compared along, too.
    pub along_gradient: bool,
    /// For each block the Lanczos steps of its spectrum; 0 where it has none.
    pub spectrum_steps: Vec<u64>,
    /// What was left out, in words.
    pub left_out: Vec<String>,
    max_hvps: Option<u64>,
}

impl Plan {
    /// The plan for these blocks.
    #[must_use]
    pub fn new(config: &BlocksConfig, partition: &Partition) -> Self {
        let blocks = partition.blocks();
        let exact = match config.method {
            Method::Auto => blocks.len() <= config.draws,
            Method::Exact => true,
            Method::Stochastic => false,
        };
        let steps = config.spectrum_steps as u64;
        let mut plan = Self {
            exact,
            vectors: config.vectors,
            draws: config.draws,
            along_gradient: config.along_gradient,
            spectrum_steps: blocks.iter().map(|block| steps.min(block.parameters)).collect(),
            left_out: Vec::new(),
            max_hvps: config.max_hvps,
        };
        if let Some(most) = config.max_hvps {
            let sizes: Vec<u64> = blocks.iter().map(|block| block.parameters).collect();
            plan.keep_to(most, &sizes);
        }
        plan
    }

    fn keep_to(&mut self, most: u64, sizes: &[u64]) {
        let mut by_size: Vec<usize> = (0..sizes.len()).filter(|&b| self.spectrum_steps[b] > 0).collect();
        by_size.sort_by_key(|&b| sizes[b]);
        let mut without = 0;
        for &b in &by_size {
            if self.hvps() <= most {
                break;
            }
            self.spectrum_steps[b] = 0;
            without += 1;
        }
        if without > 0 {
            self.left_out.push(format!("the spectra of {without} of {} blocks, the smallest", by_size.len()));
        }
        if self.hvps() > most && self.exact && self.draws < sizes.len() {
            self.exact = false;
            self.left_out.push("the exact method: signs are drawn instead".into());
        }
        let vectors = self.vectors;
        while self.hvps() > most && self.vectors > 1 {
            self.vectors -= 1;
        }
        if self.vectors < vectors {
            self.left_out.push(format!("{} of {vectors} vectors", vectors - self.vectors));
        }
        if self.hvps() > most && self.along_gradient {
            self.along_gradient = false;
            self.left_out.push("the comparison along the gradient".into());
        }
        if self.hvps() > most && self.exact {
            // As many draws as blocks or more: fewer will do.
            self.exact = false;
            self.left_out.push("the exact method: signs are drawn instead".into());
        }
        let draws = self.draws;
        while self.hvps() > most && self.draws > 2 {
            self.draws -= 1;
        }
        if self.draws < draws {
            self.left_out.push(format!("{} of {draws} draws of signs", draws - self.draws));
        }
    }

    /// The products that it takes, each counted once.
    #[must_use]
    pub fn hvps(&self) -> u64 {
        let blocks = self.spectrum_steps.len();
        let each = 1 + if self.exact { blocks } else { self.draws } as u64;
        let drawn = self.vectors.saturating_mul(self.draws);
        let gradient = 1 + if self.gradient_is_exact() { blocks } else { drawn } as u64;
        let gradient = if self.along_gradient { gradient } else { 0 };
        (self.vectors as u64).saturating_mul(each) + gradient + self.spectrum_steps.iter().sum::<u64>()
    }

    /// Whether each block takes a product of its own along the gradient.
    #[must_use]
    pub fn gradient_is_exact(&self) -> bool {
        self.exact || self.spectrum_steps.len() <= self.vectors.saturating_mul(self.draws)
    }

    /// How many products may be taken again without exceeding `max_hvps`; `None`: any number.
    #[must_use]
    pub fn spare(&self) -> Option<u64> {
        self.max_hvps.map(|most| most.saturating_sub(self.hvps()))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = self.spectrum_steps.len();
        let spectra = self.spectrum_steps.iter().filter(|steps| **steps > 0).count();
        write!(f, "{} Hessian-vector products for {blocks} blocks: {} vectors", self.hvps(), self.vectors)?;
        if self.along_gradient {
            write!(f, " and the gradient")?;
        }
        if self.exact {
            write!(f, ", block by block")?;
        } else {
            write!(f, ", by {} draws of signs", self.draws)?;
        }
        write!(f, "; {spectra} spectra")?;
        if !self.left_out.is_empty() {
            write!(f, "; left out for blocks.max_hvps: {}", self.left_out.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::config::LEAST_HVPS;
    use proptest::prelude::*;

    fn plan(config: &BlocksConfig, sizes: &[u64]) -> Plan {
        Plan::new(config, &Partition::of_sizes(sizes))
    }

    #[test]
    fn things_are_left_out_in_the_order_of_the_documentation() {
        let config = BlocksConfig {
            vectors: 4,
            draws: 6,
            spectrum_steps: 5,
            method: Method::Exact,
            ..BlocksConfig::default()
        };
        let sizes = [100, 3, 50, 70, 90, 80, 60, 40, 30, 20];
        // 5 · 11 for vectors and gradient, 9 · 5 + 3 for spectra.
        assert_eq!(plan(&config, &sizes).hvps(), 103);
        assert!(plan(&config, &sizes).left_out.is_empty());
        let within = |most| plan(&BlocksConfig { max_hvps: Some(most), ..config.clone() }, &sizes);
        assert_eq!(within(103), Plan { max_hvps: Some(103), ..plan(&config, &sizes) });
        let fewer = within(96);
        assert_eq!((fewer.exact, fewer.vectors, fewer.hvps()), (true, 4, 95));
        assert_eq!(fewer.spectrum_steps, [5, 0, 5, 5, 5, 5, 5, 5, 5, 0]);
        let none = within(55);
        assert_eq!((none.exact, none.vectors, none.hvps()), (true, 4, 55));
        let drawn = within(54);
        // Four draws for each vector are more than there are blocks: the gradient stays exact.
        assert_eq!(
            (drawn.exact, drawn.gradient_is_exact(), drawn.vectors, drawn.hvps()),
            (false, true, 4, 39)
        );
        let vectors = within(30);
        assert_eq!((vectors.vectors, vectors.along_gradient, vectors.hvps()), (2, true, 25));
        let last = within(14);
        assert_eq!((last.vectors, last.gradient_is_exact(), last.hvps()), (1, false, 14));
        let one = within(10);
        assert_eq!((one.vectors, one.along_gradient, one.draws, one.hvps()), (1, false, 6, 7));
        let least = within(LEAST_HVPS);
        assert_eq!((least.draws, least.hvps(), least.left_out.len()), (2, 3, 5), "{least}");
    }

    proptest! {
        #[test]
        fn the_limit_is_kept_and_what_is_missing_is_told(
            sizes in prop::collection::vec(1_u64..50, 1..12), most in LEAST_HVPS..200, draws in 2_usize..9,
            vectors in 1_usize..6, steps in 0_usize..9, method in 0_usize..3,
        ) {
            let method = [Method::Auto, Method::Exact, Method::Stochastic][method];
            let config =
                BlocksConfig { method, vectors, draws, spectrum_steps: steps, ..BlocksConfig::default() };
            let whole = plan(&config, &sizes);
            let limited = plan(&BlocksConfig { max_hvps: Some(most), ..config.clone() }, &sizes);
            prop_assert!(limited.hvps() <= most, "{} {}", limited, most);
            prop_assert_eq!(limited.hvps() + limited.spare().unwrap(), most);
            prop_assert_eq!(whole.hvps() > most, !limited.left_out.is_empty());
            prop_assert_eq!(whole.spare(), None);
        }
    }
}
