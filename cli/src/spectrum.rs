//! `hessian-probe spectrum`, on one rank.

use crate::arguments::SpectrumArguments;
use crate::data::{self, Data};
use crate::display::Display;
use crate::failure::{self, Failure, agree};
use crate::launch;
use crate::options;
use crate::report::Report;
use crate::signals::Stop;
use crate::summary::Summary;
use hessian_probe::blocks::{Partition, Plan};
use hessian_probe::config::Difference;
use hessian_probe::sharded::Layout;
use hessian_probe::{Callback, HessianProbe, ProbeConfig};
use hessian_probe_c10d::{ProcessGroup, is_launched};
use hessian_probe_fsdp::{Evaluation, ModelSource};
use std::process::ExitCode;
use std::time::Duration;

/// How long a rank waits for another. Ranks read their parts of a model at different speeds; one that dies is noticed
/// at once.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Starts the ranks, or is one.
pub fn run(arguments: &SpectrumArguments) -> ExitCode {
    if let Some(ranks) = arguments.ranks.filter(|ranks| ranks.get() > 1 && !is_launched()) {
        return launch::run(ranks.get());
    }
    let display = Display::new(launch::rank(), arguments.verbose);
    let stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => return failure::say(&error),
    };
    let group = match ProcessGroup::from_env(TIMEOUT) {
        Ok(group) => group,
        Err(error) => return failure::say(&error),
    };
    let outcome = probe(arguments, &group, &display, &stop);
    display.end();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ Failure::Interrupted) => {
            failure::end(&group, &failure);
            stop.exit_code()
        }
        Err(failure) => failure::end(&group, &failure),
    }
}

fn probe(
    arguments: &SpectrumArguments,
    group: &ProcessGroup,
    display: &Display,
    stop: &Stop,
) -> Result<(), Failure> {
    let is_first = group.rank() == 0;
    agree(group, check(arguments, group))?;
    let report = if is_first { Report::at(&arguments.out).map(Some) } else { Ok(None) };
    let report = agree(group, report.map_err(Failure::from))?;
    if let Some(threads) = arguments.threads.and_then(|threads| i32::try_from(threads.get()).ok()) {
        tch::set_num_threads(threads);
    }

    let pretrained = ModelSource::open_together(&arguments.model, group)?;
    let data = agree(group, data::read(&arguments.data, pretrained.config()).map_err(Failure::from))?;
    warn(arguments, &data);
    let mut evaluation = Evaluation::new(&pretrained, group, options::evaluation(arguments)?)?;
    // Their pages were read once; they need not stay in memory.
    drop(pretrained);
    evaluation.set_sequences(&data.sequences)?;
    drop(data);

    let parameters = evaluation.parameter_count();
    let config = options::probe(arguments, parameters)?;
    let (steps, probes) = (config.slq.steps, config.slq.probes);
    if steps < arguments.steps.get() && is_first {
        display.note(&format!(
            "--steps {} is more than the model's {parameters} parameters: {steps} are taken",
            arguments.steps
        ));
    }
    let plan = plan(&evaluation, &config)?;
    if let Some(plan) = plan.as_ref().filter(|_| is_first) {
        display.note(&format!(
            "to be spent on blocks: {plan} (a product takes a gradient, or two; --max-hvps limits them)"
        ));
    }
    let products = (probes * steps) as u64 + plan.as_ref().map_or(0, Plan::hvps);
    let mut probe = HessianProbe::new(config)?;
    stop.attach(probe.interrupter());
    probe.on_progress(display.bar(products));
    let snapshot = probe.probe(0, &mut evaluation)?.clone();
    display.end();

    let written = report.map_or(Ok(()), |report| report.write(&snapshot)).map_err(Failure::from);
    let logged = probe.on_train_end(&mut evaluation).map_err(Failure::from);
    if is_first {
        println!("model            {}", arguments.model.display());
        print!("{}", Summary(&snapshot));
        if written.is_ok() {
            println!("report           {}", arguments.out.display());
        }
        if let Some(directory) = &arguments.logdir {
            println!("logs             {}", directory.display());
        }
    }
    agree(group, written.and(logged.map(drop)))
}

/// What the blocks will take. Collective.
fn plan(evaluation: &Evaluation, config: &ProbeConfig) -> Result<Option<Plan>, Failure> {
    if !config.blocks.is_on() {
        return Ok(None);
    }
    let layout = Layout::new(evaluation, config.slq.dtype)?;
    let partition = Partition::new(evaluation, &layout, &config.blocks)?;
    Ok(Some(Plan::new(&config.blocks, &partition)))
}

/// What can be said before anything is read.
fn check(arguments: &SpectrumArguments, group: &ProcessGroup) -> Result<(), Failure> {
    if let Some(ranks) = arguments.ranks.filter(|ranks| ranks.get() != group.world_size()) {
        return Err(Failure::from(format!(
            "--ranks {ranks}, but {} rank(s) were started from outside; leave --ranks out under torchrun",
            group.world_size()
        )));
    }
    if arguments.difference == Difference::Exact && group.world_size() > 1 {
        return Err(Failure::from(format!(
            "--difference exact: {} ranks share the model, and differentiating twice needs the whole of it on one; run \
             on one rank, or take another --difference",
            group.world_size()
        )));
    }
    options::evaluation(arguments)?;
    options::probe(arguments, u64::MAX)?.validate()?;
    Ok(())
}

fn warn(arguments: &SpectrumArguments, data: &Data) {
    if !data.ignored.is_empty() {
        let keys: Vec<String> = data.ignored.iter().map(|key| format!("`{key}`")).collect();
        log::warn!("{}: nothing is made of the keys {}", arguments.data.display(), keys.join(", "));
    }
}
