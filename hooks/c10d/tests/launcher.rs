//! The launcher starts ranks, says who failed, and leaves no process behind.

mod common;

use common::{TIMEOUT, expect_success, launcher};
use hessian_probe_c10d::{Error, Forward, Launcher, Output, ProcessGroup, StoreServer, is_launched};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn shell(world_size: usize, script: &str) -> Launcher {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Launcher::new(world_size).command(command).output(Output::Captured)
}

#[test]
fn when_a_rank_fails_the_others_are_killed_after_the_grace_period() {
    let script = "if [ $RANK = 1 ]; then exit 7; fi; exec sleep 60";
    let started = Instant::now();
    let outcome = shell(3, script).grace(Duration::from_millis(300)).run().unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300) && started.elapsed() < Duration::from_secs(20));
    let (rank, status) = outcome.first_failure().unwrap();
    assert_eq!((rank, status.code()), (1, Some(7)));
    assert_eq!(outcome.statuses().len(), 3);
    let error = outcome.into_result().unwrap_err();
    assert!(matches!(error, Error::RankFailed { rank: 1, .. }), "{error}");
}

#[test]
fn a_rank_that_ends_within_the_grace_period_keeps_its_own_status() {
    let script = "if [ $RANK = 0 ]; then exit 1; fi; sleep 0.3; exit 3";
    let outcome = shell(2, script).run().unwrap();
    assert_eq!(
        outcome.statuses().iter().map(std::process::ExitStatus::code).collect::<Vec<_>>(),
        [Some(1), Some(3)]
    );
}

#[test]
fn ranks_are_told_their_place() {
    let script = "echo $RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $OWN; echo threads $OMP_NUM_THREADS >&2";
    let outcome = shell(2, script).env("OWN", "mine").env("OMP_NUM_THREADS", "3").run().unwrap();
    assert!(outcome.success());
    for rank in 0..2 {
        let output = outcome.output(rank);
        assert!(output.contains(&format!("{rank} {rank} 2 127.0.0.1 mine\n")), "{output}");
        assert!(output.contains("threads 3\n"), "{output}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_given_to_the_launcher_reaches_all_ranks() {
    let directory = tempfile::tempdir().unwrap();
    // Not SIGINT: a shell cannot trap what was ignored when it started, as it is in jobs that a script has in the background.
    let script = "trap 'exit 9' USR1; touch $DIRECTORY/$RANK; while true; do sleep 0.01; done";
    let forward = Forward::default();
    let launcher = shell(2, script).env("DIRECTORY", directory.path()).forward(&forward);
    let ready = directory.path().to_owned();
    std::thread::spawn(move || {
        while !(0..2).all(|rank| ready.join(rank.to_string()).exists()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        forward.send(libc::SIGUSR1);
    });
    let outcome = launcher.run().unwrap();
    let codes: Vec<_> = outcome.statuses().iter().map(std::process::ExitStatus::code).collect();
    assert_eq!(codes, [Some(9), Some(9)]);
}

#[test]
fn a_program_that_does_not_exist_is_an_error() {
    let error = Launcher::new(2).command(Command::new("/no/such/program")).run().unwrap_err();
    assert!(matches!(error, Error::Spawn { rank: 0, .. }), "{error}");
}

#[test]
fn a_group_forms_whether_the_launcher_or_rank_0_hosts_the_store() {
    if is_launched() {
        ProcessGroup::from_env(TIMEOUT).unwrap().barrier().unwrap();
        return;
    }
    let test = a_group_forms_whether_the_launcher_or_rank_0_hosts_the_store;
    expect_success(&launcher(2, &test).run().unwrap());
    // As torchrun: some other process hosts it.
    let store = StoreServer::host(0).unwrap();
    let agent = launcher(2, &test).env("MASTER_PORT", store.port().to_string());
    expect_success(&agent.env("TORCHELASTIC_RESTART_COUNT", "1").run().unwrap());
    // As a job script without an agent.
    let port = StoreServer::host(0).unwrap().port().to_string();
    let rank_0 = launcher(2, &test).env("MASTER_PORT", port).env("TORCHELASTIC_USE_AGENT_STORE", "False");
    expect_success(&rank_0.run().unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn ranks_die_with_a_launcher_that_is_killed() {
    const ROLE: &str = "TEST_IS_THE_LAUNCHER";
    if std::env::var_os(ROLE).is_some() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo pid $$; exec sleep 60"]);
        let _ = Launcher::new(2).command(command).output(Output::PrefixedAll).run();
        return;
    }
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["ranks_die_with_a_launcher_that_is_killed", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let pids: Vec<String> = lines
        .map_while(Result::ok)
        // Within the line, because the first follows the test's name.
        .filter_map(|line| Some(line.split_once("] pid ")?.1.to_owned()))
        .take(2)
        .collect();
    assert_eq!(pids.len(), 2);
    let alive = || {
        pids.iter().any(|pid| {
            // A zombie, which nobody may be there to reap, is dead.
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
        })
    };
    assert!(alive());
    parent.kill().unwrap();
    parent.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while alive() {
        assert!(Instant::now() < deadline, "ranks outlive their launcher");
        std::thread::sleep(Duration::from_millis(20));
    }
}
