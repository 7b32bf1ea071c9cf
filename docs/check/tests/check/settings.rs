//! The table of settings has every key, and its defaults are the program's.

use crate::page::{Page, spans};
use hessian_probe::ProbeConfig;
use std::collections::BTreeMap;

const PAGE: &str = "docs/guide/settings.md";

/// What stands for "not set".
const UNSET: &str = "–";

/// A configuration with one key set, and what parsing says.
fn with(section: &str, key: &str, value: &str) -> Result<ProbeConfig, String> {
    let head = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
    toml::from_str(&format!("{head}{key} = {value}")).map_err(|error| error.to_string())
}

/// What a section without any key means: `[blocks]` is wanted where it is written, and all others are at their defaults.
fn alone(section: &str) -> ProbeConfig {
    let head = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
    let config = toml::from_str(&head).unwrap();
    assert!(section == "blocks" || config == ProbeConfig::default(), "[{section}]");
    config
}

/// The keys that a section takes, from the error that an unknown one gives.
fn keys(section: &str) -> Vec<String> {
    let error = with(section, "no_such_key", "0").unwrap_err();
    let (_, expected) = error.split_once("expected").unwrap_or_else(|| panic!("{section}: {error}"));
    let keys = spans(expected);
    assert!(!keys.is_empty(), "{section}: {error}");
    keys
}

/// Whether a key is a section of its own.
fn is_section(section: &str, key: &str) -> bool {
    let path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
    with(&path, "no_such_key", "0").unwrap_err().contains("unknown field")
}

/// The rows of each section's table.
fn documented() -> BTreeMap<String, Vec<Vec<String>>> {
    let tables = Page::read(PAGE).tables.into_iter().filter(|table| table.rows[0][0] == "key");
    let sections = tables.map(|table| {
        let section =
            spans(&table.heading).first().map_or("", |name| name.trim_matches(['[', ']'])).to_owned();
        (section, table.rows[1..].to_vec())
    });
    sections.collect()
}

#[test]
fn every_key_is_documented_and_no_other() {
    let documented = documented();
    let mut sections = vec![String::new()];
    let mut seen = 0;
    while let Some(section) = sections.pop() {
        let mut expected = Vec::new();
        for key in keys(&section) {
            if is_section(&section, &key) {
                sections.push(if section.is_empty() { key } else { format!("{section}.{key}") });
            } else {
                expected.push(key);
            }
        }
        let rows = documented.get(&section).unwrap_or_else(|| panic!("{PAGE} lacks [{section}]"));
        let mut found: Vec<String> = rows.iter().flat_map(|row| spans(&row[0])).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "[{section}]");
        seen += 1;
    }
    assert_eq!(documented.len(), seen, "{PAGE} has sections that the configuration lacks");
}

/// The whole default configuration, with the sections that its own serialised form leaves out while they are off.
fn default_values() -> serde_json::Value {
    let default = ProbeConfig::default();
    let mut whole = serde_json::to_value(&default).unwrap();
    whole["directions"] = serde_json::to_value(default.directions).unwrap();
    whole["sharpness"] = serde_json::to_value(&default.sharpness).unwrap();
    whole["triggers"] = serde_json::to_value(&default.triggers).unwrap();
    whole
}

/// A key that is set to its documented default changes nothing; one without is not there.
#[test]
fn documented_defaults_are_the_program_s() {
    let whole = default_values();
    for (section, rows) in documented() {
        let part = section.split('.').filter(|name| !name.is_empty()).fold(&whole, |part, name| &part[name]);
        assert!(part.is_object(), "[{section}]");
        for row in rows {
            let (key, value) = (&spans(&row[0])[0], &row[1]);
            // What is empty is left out of the serialised form as what is not set is.
            if value == UNSET {
                assert!(part[key.as_str()].is_null(), "[{section}] {key} is set by default");
                continue;
            }
            let config = with(&section, key, &spans(value)[0]).unwrap();
            assert_eq!(config, alone(&section), "[{section}] {key} = {value} is not the default");
        }
    }
}

#[test]
fn what_a_key_may_also_be_is_understood_and_is_not_the_default() {
    let mut tried = 0;
    for (section, rows) in documented() {
        for row in rows {
            let key = &spans(&row[0])[0];
            for value in spans(&row[2]) {
                let config =
                    with(&section, key, &value).unwrap_or_else(|error| panic!("[{section}] {key}: {error}"));
                assert_ne!(config, alone(&section), "[{section}] {key} = {value}");
                tried += 1;
            }
        }
    }
    assert!(tried > 50, "{tried} values");
}
