//! A probe before it runs: what it takes, what fits, and how often it can be afforded.

use super::course::{Course, share};
use super::facts::Facts;
use super::machine::{Machine, positive};
use super::memory::Memory;
use super::parts::Parts;
use super::work::{Work, check};
use crate::config::{BasisConfig, BasisDevice, BasisKind, ProbeConfig, Reorthogonalize};
use crate::error::Result;
use serde::Serialize;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// One rank's share of the model.
    pub facts: Facts,
    /// How it is to be probed.
    pub config: ProbeConfig,
    /// The machine.
    pub machine: Machine,
    /// Seconds of one gradient of the probe batch, the host's communication included.
    pub gradient_seconds: f64,
    /// Distances at which the noise is looked for, when it is due: 1 to 4.
    pub distances: u64,
    /// The share of products that are computed again.
    pub redone: f64,
    /// The share of steps at which partial reorthogonalisation goes through the basis.
    pub reorthogonalized: f64,
    /// Bytes that a rank has to spare where its parameters are.
    pub memory: Option<u64>,
    /// Seconds of one step of training.
    pub step_seconds: Option<f64>,
    /// The share of training time that probes may take.
    pub max_overhead: Option<f64>,
}

impl Question {
    /// With the defaults of everything that need not be known: the noise is found at the first distance, one product in
    /// twenty is computed again, partial reorthogonalisation is due at a quarter of the steps.
    #[must_use]
    pub fn new(facts: Facts, config: ProbeConfig, machine: Machine, gradient_seconds: f64) -> Self {
        Self {
            facts,
            config,
            machine,
            gradient_seconds,
            distances: 1,
            redone: 0.05,
            reorthogonalized: 0.25,
            memory: None,
            step_seconds: None,
            max_overhead: None,
        }
    }
}

/// One way to keep Lanczos vectors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// `slq.reorthogonalize`.
    pub reorthogonalize: Reorthogonalize,
    /// `slq.basis`.
    pub basis: BasisConfig,
    /// What it allocates.
    pub memory: Memory,
    /// Seconds of a probe that does not measure the noise.
    pub seconds: f64,
    /// Over probes that do and do not, as often as they come.
    pub mean_seconds: f64,
    /// Whether it fits into the memory that a rank has to spare; `None` where that is not known.
    pub fits: Option<bool>,
}

/// What a probe takes, by the [law](crate::cost).
///
/// ```
/// use hessian_probe::ProbeConfig;
/// use hessian_probe::cost::{Facts, Machine, Plan, Question, Types};
///
/// // A billion parameters in f32 over 8 ranks, each of which copies 20 GB/s; a gradient was seen to take 3 s.
/// let facts = Facts::planned(1_000_000_000, 125_000_000, 8, 200, Types::default())?;
/// let machine = Machine::of_bandwidth(2e10)?;
/// let config = ProbeConfig::from_toml_str("[slq]\nsteps = 20\n[hvp]\ndifference = \"central\"")?;
/// let question = Question {
///     redone: 0.0,
///     step_seconds: Some(10.0),
///     max_overhead: Some(0.01),
///     memory: Some(4_000_000_000),
///     ..Question::new(facts, config, machine, 3.0)
/// };
/// let plan = Plan::new(&question)?;
/// // θ₀, g(θ₀), one vector of work and 20 of the basis: 23 vectors of half a gigabyte.
/// assert_eq!(plan.memory.total(), 23 * 500_000_000);
/// // g(θ₀), and two gradients for each product; now and then 11 more.
/// assert_eq!((plan.work.gradients, plan.calibrating.gradients), (41, 52));
/// assert_eq!(plan.seconds.gradients, 41.0 * 3.0);
/// // The rest is vector work, much of it for the basis.
/// assert!(plan.gradient_share() > 0.6 && plan.seconds.lanczos > plan.seconds.drawing);
/// // The whole basis does not fit, two vectors do; and probes keep to 1 % of the training time.
/// let first = plan.recommended().unwrap();
/// assert!(plan.choices[0].fits == Some(false) && first.fits == Some(true));
/// assert!(plan.every.unwrap() as f64 * 10.0 * 0.01 >= first.mean_seconds);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Of the configuration as it is.
    pub memory: Memory,
    /// A probe that does not measure the noise.
    pub work: Work,
    /// One that does.
    pub calibrating: Work,
    /// The time of a probe that does not measure the noise.
    pub seconds: Parts,
    /// Of one that does.
    pub calibrating_seconds: Parts,
    /// Over both, as often as they come.
    pub mean_seconds: f64,
    /// Ways to keep Lanczos vectors, from the most to the least memory where parameters are.
    pub choices: Vec<Choice>,
    /// The smallest `schedule.every`, in steps, with which probes stay within the share of training time: probes that keep
    /// what is [recommended](Self::recommended) where there is a limit to memory, and otherwise what is configured.
    pub every: Option<u64>,
}

impl Plan {
    /// Answers.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with what cannot be meant: a share above 1, no steps, more bytes than there
    /// are numbers.
    pub fn new(question: &Question) -> Result<Self> {
        let Question { facts, config, machine, .. } = question;
        positive("plan.gradient_seconds", question.gradient_seconds)?;
        share("plan.redone", question.redone)?;
        share("plan.reorthogonalized", question.reorthogonalized)?;
        machine.validate()?;
        config.validate()?;
        check(&config.slq)?;
        let distances = question.distances.clamp(1, 4);
        let counted = |config: &ProbeConfig, distances: Option<u64>| {
            let course = Course::expected(config, distances, question.redone, question.reorthogonalized);
            Work::new(facts, config, &course)
        };
        let time = |work: &Work| machine.seconds(facts, work, question.gradient_seconds);
        let (work, calibrating) = (counted(config, None)?, counted(config, Some(distances))?);
        let (seconds, calibrating_seconds) = (time(&work), time(&calibrating));
        let memory = Memory::new(facts, config, 0)?;
        let rest = (config.hvp.recalibrate_every - 1) as f64;
        let mean = |seconds: f64, calibrating: f64| (calibrating + rest * seconds) / (rest + 1.0);
        let mut choices = Vec::new();
        for (reorthogonalize, basis) in ways(config, facts) {
            let mut other = config.clone();
            (other.slq.reorthogonalize, other.slq.basis) = (reorthogonalize, basis);
            let memory = Memory::new(facts, &other, 0)?;
            let times = [None, Some(distances)].map(|noise| counted(&other, noise).map(|work| time(&work)));
            let [seconds, calibrating] = times;
            let (seconds, calibrating) = (seconds?.total(), calibrating?.total());
            let mean_seconds = mean(seconds, calibrating);
            let fits = question.memory.map(|limit| memory.on_device() <= limit);
            choices.push(Choice { reorthogonalize, basis, memory, seconds, mean_seconds, fits });
        }
        choices.sort_by_key(|choice| std::cmp::Reverse(choice.memory.on_device()));
        let mean_seconds = mean(seconds.total(), calibrating_seconds.total());
        let every = None;
        let mut plan =
            Self { memory, work, calibrating, seconds, calibrating_seconds, mean_seconds, choices, every };
        if let (Some(step), Some(most)) = (question.step_seconds, question.max_overhead) {
            positive("plan.step_seconds", step)?;
            positive("plan.max_overhead", most)?;
            plan.every = Some((plan.scheduled_seconds() / (step * most)).ceil().max(1.0) as u64);
        }
        Ok(plan)
    }

    /// The way that fits and keeps the most: all vectors before a window of them before none, unrounded before rounded, on
    /// the accelerator before elsewhere.
    #[must_use]
    pub fn recommended(&self) -> Option<&Choice> {
        let rank = |choice: &&Choice| {
            let kept = match choice.reorthogonalize {
                Reorthogonalize::Full => 0,
                Reorthogonalize::Partial => 1,
                Reorthogonalize::Window(_) => 2,
                Reorthogonalize::None => 3,
            };
            (kept, choice.basis.dtype.is_some(), choice.basis.device.is_some())
        };
        self.choices.iter().filter(|choice| choice.fits != Some(false)).min_by_key(rank)
    }

    /// Seconds of the probe that [`every`](Self::every) is for, on average: of one that keeps what is recommended where there
    /// is a limit to memory, and otherwise of what is configured.
    #[must_use]
    pub fn scheduled_seconds(&self) -> f64 {
        let limited = self.recommended().filter(|choice| choice.fits.is_some());
        limited.map_or(self.mean_seconds, |choice| choice.mean_seconds)
    }

    /// The share of the probe that is gradients.
    #[must_use]
    pub fn gradient_share(&self) -> f64 {
        self.seconds.gradients / self.seconds.total()
    }
}

/// The ways to keep Lanczos vectors that are compared.
fn ways(config: &ProbeConfig, facts: &Facts) -> Vec<(Reorthogonalize, BasisConfig)> {
    let slq = &config.slq;
    let plain = BasisConfig::default();
    let rounded = BasisConfig { dtype: Some(BasisKind::Bf16), ..plain };
    let elsewhere = |basis| BasisConfig { device: Some(BasisDevice::Cpu), ..basis };
    let window = Reorthogonalize::Window(8.min(slq.steps).max(2));
    let mut ways = vec![
        (Reorthogonalize::Full, plain),
        (Reorthogonalize::Full, rounded),
        (Reorthogonalize::Partial, plain),
        (Reorthogonalize::Partial, rounded),
        (window, plain),
        (Reorthogonalize::None, plain),
    ];
    if facts.accelerated {
        ways.push((Reorthogonalize::Full, elsewhere(plain)));
        ways.push((Reorthogonalize::Full, elsewhere(rounded)));
    }
    ways
}
