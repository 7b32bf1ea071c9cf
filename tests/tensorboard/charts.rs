//! Charts of what is measured, and the configuration.

use crate::{PARAMETERS, read_events, session, snapshot, value, with_blocks, write};
use hessian_probe::ProbeConfig;
use hessian_probe::log::{Record, Session};

#[test]
fn tensorboard_draws_the_layout_and_shows_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[session(0), snapshot(0)]);
    let read = read_events(dir.path());
    let values = read["files"][0]["events"][2]["values"].as_array().unwrap();
    assert_eq!(value(values, "custom_scalars__config__")["plugin"], "custom_scalars");
    let config = value(values, "probe/config");
    assert_eq!(config["plugin"], "text");
    let text = config["value"].as_str().unwrap();
    let toml = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(ProbeConfig::from_toml_str(toml).unwrap(), ProbeConfig::default());
    assert!(text.contains("124000000 parameters on 2 ranks"), "{text}");

    let layout = value(values, "custom_scalars__config__")["value"].as_array().unwrap();
    let titles: Vec<&str> = layout.iter().map(|category| category["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["Curvature", "Trust", "Cost"]);
    // The one that TensorBoard draws first: it goes through a category from the end.
    let first = layout[0]["charts"].as_array().unwrap().last().unwrap();
    assert_eq!(first["title"], "largest eigenvalue ± residual");
    assert_eq!(
        first["margin"][0],
        serde_json::json!([
            "curvature/lambda_max",
            "curvature_band/lambda_max/lower",
            "curvature_band/lambda_max/upper"
        ])
    );
    let charts: usize = layout.iter().map(|category| category["charts"].as_array().unwrap().len()).sum();
    assert_eq!(charts, 18);
    // Asked for each tag of the layout, the plugin finds it and, where a chart draws what matches, no other.
    let drawn = read["run"]["drawn"].as_object().unwrap();
    assert!(drawn.len() > 40, "{}", drawn.len());
    for (tag, found) in drawn {
        match tag.strip_prefix('^').and_then(|tag| tag.strip_suffix('$')) {
            Some(tag) => assert_eq!(*found, serde_json::json!([tag])),
            None => assert!(found.as_array().unwrap().contains(&tag.as_str().into()), "{tag}: {found}"),
        }
    }
}

#[test]
fn tensorboard_draws_the_charts_of_blocks_and_of_the_optimizer_where_they_are_measured() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        ProbeConfig::from_toml_str("[blocks]\nby = \"layer\"\n[slq]\noperator = \"both\"").unwrap().to_toml();
    let session = Record::Session(Session { start_step: 0, world_size: 2, parameters: PARAMETERS, config });
    write(dir.path(), &[session, with_blocks(0)]);
    let read = read_events(dir.path());
    let values = read["files"][0]["events"][2]["values"].as_array().unwrap();
    let layout = value(values, "custom_scalars__config__")["value"].as_array().unwrap();
    let titles: Vec<&str> = layout.iter().map(|category| category["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["Curvature", "Trust", "Cost", "Stability", "Blocks"]);
    assert_eq!(layout[3]["charts"].as_array().unwrap().len(), 5);
    assert_eq!(layout[4]["charts"].as_array().unwrap().len(), 9);
    // Of a quantity of all blocks a chart draws those of each, and nothing else.
    let drawn = read["run"]["drawn"].as_object().unwrap();
    for what in ["share", "trace", "lambda_max", "lambda_min"] {
        let mut found: Vec<&str> = drawn[&format!("^blocks/.+/{what}$")]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| tag.as_str().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, [format!("blocks/layers.0/{what}"), format!("blocks/other things/{what}")]);
    }
    for name in ["relative_error", "cosine", "off_diagonal_share", "gradient/relative_error"] {
        for tag in [format!("blocks/{name}"), format!("blocks_band/{name}/upper")] {
            assert!(drawn[&tag].as_array().unwrap().contains(&tag.as_str().into()), "{tag}");
        }
    }
}
