//! What is wrong with model, data or flags is said on one line, by one rank, at once.

mod common;

use common::llama::{Example, Shape, write_weights};
use common::{Case, line, text, tokens};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

fn case() -> Case {
    let shape = Shape::small(6);
    Case::new(&shape, &[Example::new(&tokens(1, 9, shape.vocabulary), None).line()])
}

fn says(message: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
}

#[test]
fn data_that_cannot_be_used_is_named_by_file_line_and_reason() {
    let case = case();
    let good = line(&tokens(1, 9, 29), None);
    let huge = format!("{{\"input_ids\": [{}1]}}", "1, ".repeat(200_000));
    let cases: &[(&str, &str, &str)] = &[
        ("", "data.jsonl: ", "is empty"),
        ("\n  \n\r\n", "data.jsonl: ", "is empty"),
        ("{\"input_ids\": [3]}\n", "data.jsonl: ", "no target is counted"),
        ("{\"input_ids\": [1, 2], \"labels\": [1, -100]}", "data.jsonl: ", "no target is counted"),
        ("{\"input_ids\": [1, 29]}", "line 2: ", "`input_ids[1]` is 29"),
        ("{\"input_ids\": [-3, 2]}", "line 2: ", "`input_ids[0]` is -3"),
        ("{\"input_ids\": [1, 2], \"labels\": [1, 2, 3]}", "line 2: ", "`labels` has 3 entries"),
        ("{\"input_ids\": [1, 2], \"labels\": [1, 77]}", "line 2: ", "`labels[1]` is 77"),
        ("{\"input_ids\": [1.5, 2]}", "line 2: ", "1.5"),
        ("{\"input_ids\": [1, 2]", "line 2: ", "is not JSON"),
        ("After the meeting ended", "line 2: ", "is not JSON"),
        ("[1, 2, 3]", "line 2: ", "an object with `input_ids`"),
        ("{\"tokens\": [1, 2]}", "line 2: ", "missing field `input_ids`"),
        (&huge, "line 2: ", "200001 tokens"),
    ];
    for &(bad, place, reason) in cases {
        // A second line, unless the file as a whole is at fault.
        case.write_data(if place == "line 2: " {
            format!("{good}\n{bad}\n{good}\n")
        } else {
            bad.to_owned()
        });
        let message = case.error(&[]);
        says(&message, &["data.jsonl: ", place, reason]);
    }
    case.write_data(b"{\"input_ids\": [1, 2]}\n{\"input_ids\": [1, 2], \"\xff\": 3}\n");
    says(&case.error(&[]), &["line 2", "is not JSON"]);
    // What is only unusual is no error.
    case.write_data(format!("\u{feff}{good}\r\n\n{{\"input_ids\": [4]}}\n{{\"input_ids\": []}}"));
    assert_eq!(case.report(&["--steps", "1", "--probes", "1"]).tokens, Some(8));
}

#[test]
fn with_several_ranks_one_says_it_and_none_waits() {
    let case = case();
    case.write_data("{\"input_ids\": [1, 2]}\n{\"input_ids\": [1, 99]}\n");
    let started = Instant::now();
    says(&case.error(&["--ranks", "3"]), &["line 2: `input_ids[1]` is 99"]);
    case.write_data(line(&[1, 2, 3], None));
    fs::write(case.path("model/model.safetensors"), [0; 40]).unwrap();
    says(&case.error(&["--ranks", "2"]), &["model.safetensors", "not a whole safetensors file"]);
    fs::remove_dir_all(case.path("model")).unwrap();
    says(&case.error(&["--ranks", "2"]), &["/model", "No such file"]);
    // Three starts; far less than any timeout of the group.
    assert!(started.elapsed() < Duration::from_secs(45), "{:?}", started.elapsed());
}

#[test]
fn a_model_that_cannot_be_used_is_named_by_file_tensor_and_reason() {
    let shape = Shape::small(6);
    let fresh = || {
        let case = case();
        let model = case.path("model");
        (case, model)
    };
    let change_config = |key: &str, value: serde_json::Value| {
        let (case, model) = fresh();
        let mut config = shape.config();
        config[key] = value;
        fs::write(model.join("config.json"), config.to_string()).unwrap();
        case.error(&[])
    };
    says(
        &change_config("model_type", json!("gpt_neox_moe")),
        &["config.json", "`model_type`", "gpt_neox_moe"],
    );
    says(
        &change_config("vocab_size", json!(30)),
        &["model.safetensors", "`model.embed_tokens.weight`", "[29, 8]"],
    );
    says(&change_config("hidden_act", json!("cos")), &["config.json", "`hidden_act`", "cos"]);
    says(&change_config("num_hidden_layers", json!(2)), &["`model.layers.1.", "missing"]);
    says(&change_config("num_attention_heads", json!("two")), &["config.json", "`num_attention_heads`"]);

    type Weights = Vec<(String, tch::Tensor)>;
    let change_weights = |change: &dyn Fn(&mut Weights)| {
        let (case, model) = fresh();
        let mut weights = shape.weights();
        change(&mut weights);
        write_weights(&model.join("model.safetensors"), &weights);
        case.error(&[])
    };
    let position = |weights: &[(String, tch::Tensor)], name: &str| {
        weights.iter().position(|(other, _)| other == name).unwrap()
    };
    let up = "model.layers.0.mlp.up_proj.weight";
    says(
        &change_weights(&|weights| {
            let _ = weights.remove(position(weights, up));
        }),
        &["/model/model.safetensors: ", &format!("`{up}` is missing")],
    );
    says(
        &change_weights(&|weights| {
            let index = position(weights, up);
            weights[index].1 = weights[index].1.tr();
        }),
        &["model.safetensors", &format!("`{up}` has shape [8, 34], not [34, 8]")],
    );
    says(
        &change_weights(&|weights| weights.push(("extra.weight".into(), tch::Tensor::from_slice(&[1.0])))),
        &["/model/model.safetensors: ", "`extra.weight`"],
    );
    says(
        &change_weights(&|weights| {
            let index = position(weights, up);
            weights[index].1 = &weights[index].1 * f64::NAN;
        }),
        &["not finite"],
    );

    let (case, model) = fresh();
    let whole = fs::read(model.join("model.safetensors")).unwrap();
    for length in [0, 4, whole.len() / 2, whole.len() - 1] {
        fs::write(model.join("model.safetensors"), &whole[..length]).unwrap();
        says(&case.error(&[]), &["model.safetensors", "not a whole safetensors file"]);
    }
    fs::write(model.join("config.json"), "{").unwrap();
    says(&case.error(&[]), &["config.json", "EOF"]);
}

#[test]
fn of_a_model_in_parts_the_part_or_the_index_is_named() {
    let case = case();
    let model = case.path("model");
    fs::remove_file(model.join("model.safetensors")).unwrap();
    let weights = Shape::small(6).weights();
    let up = "model.layers.0.mlp.up_proj.weight";
    let part = |index: usize| format!("model-0000{}-of-00002.safetensors", index % 2 + 1);
    for number in [0, 1] {
        let own = weights.iter().enumerate().filter(|(index, _)| index % 2 == number);
        let own: Vec<_> = own.map(|(_, (name, values))| (name.clone(), values.shallow_clone())).collect();
        write_weights(&model.join(part(number)), &own);
    }
    let index = model.join("model.safetensors.index.json");
    let write_index = |leave_out: &str| {
        let named = weights.iter().enumerate().filter(|(_, (name, _))| name != leave_out);
        let map: serde_json::Map<_, _> =
            named.map(|(number, (name, _))| (name.clone(), json!(part(number)))).collect();
        fs::write(&index, json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
    };
    write_index("");
    case.report(&["--steps", "1", "--probes", "1"]);
    fs::remove_file(case.path("report.json")).unwrap();

    write_index(up);
    says(&case.error(&[]), &["/model/model.safetensors.index.json: ", &format!("`{up}` is missing")]);
    write_index("");
    let second = model.join(part(1));
    let whole = fs::read(&second).unwrap();
    for length in [0, 7, whole.len() / 2, whole.len() - 1] {
        fs::write(&second, &whole[..length]).unwrap();
        says(&case.error(&[]), &["model-00002-of-00002.safetensors: ", "not a whole safetensors file"]);
    }
    fs::remove_file(&second).unwrap();
    says(&case.error(&["--ranks", "2"]), &["model-00002-of-00002.safetensors", "No such file"]);
}

#[test]
fn flags_that_cannot_be_honoured_are_named_before_anything_is_read() {
    let case = case();
    fs::remove_dir_all(case.path("model")).unwrap();
    for (flags, parts) in [
        (&["--reorthogonalize", "1"][..], &["slq.reorthogonalize", "window of 1"][..]),
        (&["--step-size", "absolute=-1"], &["hvp.step_size", "-1"]),
    ] {
        says(&case.error(flags), parts);
    }
    for flags in [&["--steps", "0"][..], &["--difference", "sideways"], &["--unknown"]] {
        let output = case.command(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        says(&text(&output.stderr), &[flags[0]]);
    }
    let mut command = case.command(&[]);
    command.arg("--logdir").arg("/proc/nowhere");
    let message = text(&command.output().unwrap().stderr);
    assert!(message.contains("/model: No such file"), "the model is missing, too: {message}");
}

#[test]
fn a_report_that_cannot_be_written_is_found_out_before_the_work() {
    let case = case();
    fs::create_dir(case.path("taken")).unwrap();
    for out in [case.path("taken"), "/proc/report.json".into()] {
        let output = common::program()
            .args(["spectrum", "--model", "/nowhere", "--data", "/nowhere", "--out"])
            .arg(&out)
            .output()
            .unwrap();
        says(&case.error_of(&output), &["--out", out.to_str().unwrap()]);
    }
    // A missing directory is made.
    let mut command = case.command(&["--steps", "1", "--probes", "1"]);
    command.arg("--logdir").arg("/proc/nowhere");
    says(&case.error_of(&command.output().unwrap()), &["/proc/nowhere"]);
}
