//! What is seen on stderr while a probe runs: on a terminal a bar, elsewhere nothing.

#![cfg(unix)]

mod common;

use common::llama::{Example, Shape};
use common::{Case, text, tokens};
use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Stdio;

/// Both ends of a terminal of 24 lines of 100 characters: what the program writes to the second is read from the first.
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let null = std::ptr::null_mut();
    // SAFETY: the pointers are to variables that live as long as the call, or null where that means a default.
    let result = unsafe { libc::openpty(&mut ours, &mut theirs, null, std::ptr::null_mut(), &size) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: two descriptors that were just opened and belong to nobody else.
    unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

fn case() -> Case {
    let shape = Shape { layers: 2, ..Shape::small(4) };
    Case::new(&shape, &[Example::new(&tokens(1, 12, shape.vocabulary), None).line()])
}

const FLAGS: [&str; 12] = [
    "--dtype",
    "f64",
    "--steps",
    "30",
    "--probes",
    "2",
    "--blocks",
    "layer",
    "--block-steps",
    "3",
    "--block-vectors",
    "2",
];

/// What stands between two marks, wherever they are.
fn between<'a>(shown: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    shown.split(before).skip(1).filter_map(|rest| Some(rest.split_once(after)?.0)).collect()
}

#[test]
fn a_terminal_sees_products_and_the_time_left() {
    for ranks in ["1", "2"] {
        let (mut ours, theirs) = terminal();
        let case = case();
        let mut command = case.command(&FLAGS);
        command.args(["--ranks", ranks]).env("TERM", "xterm").env_remove("NO_COLOR");
        let mut child = command.stdout(Stdio::null()).stderr(theirs).spawn().unwrap();
        // The other end, which the command still holds.
        drop(command);
        let mut shown = Vec::new();
        let mut buffer = [0; 4096];
        // The end of the last writer is an error on Linux.
        while let Ok(count @ 1..) = ours.read(&mut buffer) {
            shown.extend(&buffer[..count]);
        }
        let shown = text(&shown);
        assert!(child.wait().unwrap().success(), "{shown}");

        let steps: Vec<u64> =
            between(&shown, "/2, step ", "/30").iter().filter_map(|step| step.parse().ok()).collect();
        assert!(steps.len() > 2, "{ranks} ranks: the bar is drawn again and again: {steps:?}: {shown}");
        assert!(steps.windows(2).any(|pair| pair[0] < pair[1]), "it moves: {steps:?}");
        for part in ["probe 1/2, step ", "probe 2/2, step ", "blocks, product "] {
            assert!(shown.contains(part), "{ranks} ranks: {part}: {shown}");
        }
        // Durations as `3s` or `1m`.
        let is_duration = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(|c: char| c.is_alphabetic())
        };
        for time in between(&shown, "so far, ", " left") {
            assert!(is_duration(time), "{ranks} ranks: `{time}` left: {shown}");
        }
        let elapsed = shown.lines().flat_map(|line| line.split('\r')).filter(|line| line.contains(" left"));
        let mut frames = 0;
        for frame in elapsed {
            frames += 1;
            let elapsed = frame.split_once(" so far").and_then(|(before, _)| before.split(' ').next_back());
            assert!(elapsed.is_some_and(is_duration), "{ranks} ranks: {frame}");
        }
        assert!(frames > 2, "{shown}");
    }
}

#[test]
fn a_pipe_sees_nothing_of_a_bar() {
    let case = case();
    for ranks in ["1", "2"] {
        let output = case.command(&[&FLAGS[..], &["--ranks", ranks]].concat()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let notes = text(&output.stderr);
        assert!(notes.lines().all(|line| line.starts_with("note: ")), "{ranks} ranks: {notes}");
        let shown = notes + &text(&output.stdout);
        for part in ["so far", " left", ", step ", "\u{1b}", "\r"] {
            assert!(!shown.contains(part), "{ranks} ranks: {part:?}: {shown}");
        }
    }
}
