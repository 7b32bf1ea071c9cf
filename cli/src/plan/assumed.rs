//! What a plan rests on, in words.

use super::arguments::PlanArguments;
use crate::calibrate::precision::Precision;
use crate::number::{digits, percent, seconds, volume};
use hessian_probe::config::{Difference, Reorthogonalize};
use hessian_probe::cost::Machine;

/// Every assumption, one line each.
pub fn assumptions(arguments: &PlanArguments, machine: &Machine) -> Vec<String> {
    let mut all = Vec::new();
    let mut say = |line: String| all.push(line);
    say(match arguments.precision {
        Precision::F32 => "parameters, passes and what is sent in f32".into(),
        Precision::F64 => "parameters, passes and what is sent in f64".into(),
        Precision::Bf16 => {
            "parameters, passes and what is sent in bf16, without masters; Lanczos vectors in f32".into()
        }
        Precision::Bf16Compute => {
            "parameters (masters) in f32, of which θ₀ is a copy; gathered, computed and reduced in bf16"
                .into()
        }
    });
    match (arguments.gradient_seconds, arguments.flops, arguments.bandwidth) {
        (None, Some(flops), Some(bandwidth)) => {
            say(format!(
                "a gradient: {} operations for each parameter and token, at {} a second on each rank",
                if arguments.keep_activations { "6" } else { "8 (blocks run again for their backward pass)" },
                digits(flops)
            ));
            say(match arguments.model {
                Some(_) => {
                    format!("attention over sequences of {} tokens, no half of it saved", arguments.sequence)
                }
                None => {
                    "attention and what is no matrix take nothing: only the number of parameters is known"
                        .into()
                }
            });
            say(format!(
                "parameters are gathered twice and gradients reduced once for each of {} micro-batch(es), at {} a second, as if computing waited for it",
                arguments.micro_batches,
                volume(bandwidth)
            ));
        }
        _ => say("a gradient takes what was measured, on the same ranks and batch".into()),
    }
    say(match arguments.difference {
        Difference::Auto => "forward differences are accurate enough, but for every eighth product (in bf16 they seldom are: --difference central)".into(),
        Difference::Forward => "forward differences, but for every eighth product".into(),
        Difference::Exact => "an exact product takes three gradients".into(),
        Difference::Central | Difference::Central4 => "every product by the formula asked for".into(),
    });
    if arguments.difference != Difference::Exact {
        say(format!("{} of the products are computed again with a better step", percent(arguments.redone)));
        say(format!(
            "the noise is measured in one of {} probes, at {} distance(s)",
            arguments.recalibrate_every, arguments.distances
        ));
    }
    if arguments.reorthogonalize == Reorthogonalize::Partial {
        say("partial reorthogonalisation goes through the basis at a quarter of the steps".into());
    }
    say(format!(
        "vector work moves {} a second in products, {} in Lanczos steps, {} in copies; each piece of a pass takes {} besides",
        volume(machine.product_bandwidth),
        volume(machine.lanczos_bandwidth),
        volume(machine.copy_bandwidth),
        seconds(machine.piece_seconds)
    ));
    if arguments.accelerator {
        say(format!("a basis in the CPU's memory moves at {} a second", volume(machine.link_bandwidth)));
    }
    say(format!(
        "an all_reduce takes {} for each doubling of ranks; {} entries of a probe vector are drawn a second",
        seconds(machine.all_reduce_seconds),
        digits(machine.drawn)
    ));
    say(match arguments.machine {
        Some(_) => "these constants were fitted to measured probes".into(),
        None => "these constants are guessed from --memory-bandwidth; `cargo xtask bench --scaling` fits them to a machine".into(),
    });
    say("all ranks are equally fast; no single directions, diagonal blocks, deflation or preconditioner"
        .into());
    if arguments.memory.is_some() {
        say("--memory is what is free beside training, activations of a gradient included".into());
    }
    if arguments.train_tokens.is_some() {
        say("a step of training takes as long for each token as a gradient of the probe batch, and nothing besides".into());
    }
    all
}
