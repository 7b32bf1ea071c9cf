//! Ctrl-C: the probe ends at its next product, on all ranks together.

use hessian_probe::Interrupter;
use hessian_probe_c10d::{Forward, is_launched};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::thread;

/// Signals that ask for the end.
pub const ENDING: [i32; 2] = [SIGINT, SIGTERM];

/// What a shell reports of a program that a signal ended.
pub fn exit_code(signal: i32) -> ExitCode {
    ExitCode::from(code(signal))
}

fn code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Whether this process was asked to end, and the probe that is to hear of it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(AtomicI32, OnceLock<Interrupter>)>);

impl Stop {
    /// Listens from now on. A second signal ends the process at once, unless a launcher watches over it, which
    /// does that itself (and sends a signal again that all ranks have had from the terminal).
    pub fn listen() -> io::Result<Self> {
        let stop = Self::default();
        let heard = stop.clone();
        let launched = is_launched();
        on_signal(move |signal, times| {
            if times > 1 && !launched {
                std::process::exit(code(signal).into());
            }
            heard.0.0.store(signal, Relaxed);
            if let Some(interrupter) = heard.0.1.get() {
                interrupter.interrupt();
            }
        })?;
        Ok(stop)
    }

    /// The probe to interrupt, also by a signal that came before.
    pub fn attach(&self, interrupter: Interrupter) {
        let interrupter = self.0.1.get_or_init(|| interrupter);
        if self.0.0.load(Relaxed) != 0 {
            interrupter.interrupt();
        }
    }

    /// How a process ends that was interrupted: by its own signal, or by that of another rank.
    pub fn exit_code(&self) -> ExitCode {
        match self.0.0.load(Relaxed) {
            0 => exit_code(SIGINT),
            signal => exit_code(signal),
        }
    }
}

/// Passes signals on to the ranks that this process started; a second one ends it, and with it the ranks.
pub fn forward_to_ranks(forward: &Forward) -> io::Result<()> {
    let forward = forward.clone();
    on_signal(move |signal, times| {
        if times > 1 {
            std::process::exit(code(signal).into());
        }
        forward.send(signal);
    })
}

/// On a thread of its own, with the number of the signal and how many there were.
fn on_signal(mut handle: impl FnMut(i32, u64) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new(ENDING)?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for (times, signal) in (1..).zip(signals.forever()) {
            handle(signal, times);
        }
    })?;
    Ok(())
}
