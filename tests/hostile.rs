//! Whatever bytes a parser of ours is given, it answers: it neither panics nor hangs nor asks for memory
//! that the input does not justify. (The parsers of checkpoints have such tests beside their code.)

use hessian_probe::ProbeConfig;
use hessian_probe::checkpoint::Sidecar;
use hessian_probe::log::{JSONL_FILE, drop_orphans, read_jsonl};
use hessian_probe::schedule::Duration;
use proptest::prelude::*;

const CONFIGURATION: &str = "on_error = \"stop\"\n[schedule]\nevery = \"0.1dur\"\nat = [3, \"1e6tok\"]\n\
    [slq]\nsteps = 20\nreorthogonalize = { window = 4 }\ndtype = \"f64\"\n[hvp]\nstep_size = { relative = 1e-6 }\n\
    [budget]\nmax_memory = \"2GB\"\n[resume]\nevery = 3\n[log]\ndir = \"x\"\n";

const LINE: &str = "{\"record\":\"skipped\",\"step\":7,\"reason\":\"a gradient was NaN\"}\n";

/// A text with some of its bytes replaced, removed or doubled.
fn mutated(text: &str, edits: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (place, kind, byte) in edits {
        if bytes.is_empty() {
            break;
        }
        let place = place.index(bytes.len());
        match kind % 4 {
            0 => bytes[place] = *byte,
            1 => drop(bytes.remove(place)),
            2 => bytes.insert(place, *byte),
            _ => bytes.truncate(place),
        }
    }
    bytes
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_configuration_is_valid_or_an_error_whatever_is_in_it(edits in edits(), noise in ".{0,60}") {
        let text = String::from_utf8_lossy(&mutated(CONFIGURATION, &edits)).into_owned();
        for text in [text, noise] {
            match ProbeConfig::from_toml_str(&text) {
                // What is accepted has been validated, and is written and read alike.
                Ok(config) => prop_assert_eq!(ProbeConfig::from_toml_str(&config.to_toml()).unwrap(), config),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn numbers_of_any_size_are_valid_or_an_error(number in any::<f64>(), whole in any::<i64>(), unit in "ba|dur|tok|GB|") {
        let _ = format!("{number}{unit}").parse::<Duration>();
        for key in ["[schedule]\nevery", "[slq]\nsteps", "[slq]\nprobes", "[slq]\nseed", "[budget]\nmax_memory", "[log]\nqueue"] {
            for value in [format!("{whole}"), format!("{number:e}"), format!("\"{number}{unit}\"")] {
                let _ = ProbeConfig::from_toml_str(&format!("{key} = {value}"));
            }
        }
    }

    #[test]
    fn a_log_gives_its_whole_lines_whatever_stands_between_them(edits in edits(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(JSONL_FILE);
        let mut contents = LINE.as_bytes().to_vec();
        contents.extend(mutated(&LINE.repeat(3), &edits));
        contents.extend(&bytes);
        contents.push(b'\n');
        contents.extend(LINE.as_bytes());
        std::fs::write(&path, contents).unwrap();
        let read: Vec<_> = read_jsonl(&path).unwrap().collect();
        prop_assert!(read.first().is_some_and(Result::is_ok) && read.last().is_some_and(Result::is_ok));
        let records: Vec<_> = read.into_iter().flatten().collect();
        prop_assert!(drop_orphans(records.clone()).len() <= records.len());
    }

    #[test]
    fn a_sidecar_of_any_bytes_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let directory = tempfile::tempdir().unwrap();
        let path = Sidecar::path(directory.path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        prop_assert!(Sidecar::load(directory.path()).is_err());
    }
}
