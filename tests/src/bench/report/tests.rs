//! The forms of a report, whole.

use super::*;
use Verdict::{Met, Missed, Shown, Unproven};

fn report() -> Report {
    let duel = Duel {
        ratio: Spread { low: 1.11, middle: 1.12, high: 1.14 },
        control: Spread { low: 0.99, middle: 1.001, high: 1.01 },
        base: 2_000.0,
        tested: 2_240.0,
    };
    let strayed = Duel { control: Spread { middle: 1.05, ..duel.control }, ..duel.clone() };
    let machine = Machine {
        processor: "A <Processor>".to_owned(),
        processors: 2,
        kernel: "6.1".to_owned(),
        iptables: "v1.8.9".to_owned(),
        ipset: "v7.17".to_owned(),
    };
    let rows = vec![
        Row::of_duel("flow", "packet of a new flow", Backend::Nft, &duel)
            .aiming(Target::AtMost(1.27)),
        Row::of_duel("flow", "packet of a new flow", Backend::Legacy, &duel)
            .aiming(Target::AtMost(1.1)),
        Row::of_duel("steady", "round trip", Backend::Nft, &strayed).aiming(Target::AtMost(1.27)),
        Row::of_duel("flow", "  the same, linear layout", Backend::Nft, &duel),
        Row::of_figure("rules", "rules", Unit::Count, 1_061.0)
            .aiming(Target::AtMost(1_100.0))
            .against("6000 of the linear layout"),
        Row::of_figure("peer", "peer pod event, median", Unit::Micros, 80.4)
            .under(Backend::Nft)
            .aiming(Target::AtMost(100.0)),
        Row::of_figure("peer", "the same", Unit::Times, 2_000.0).aiming(Target::AtLeast(1_000.0)),
    ];
    Report { machine, quick: true, rows }
}

#[test]
fn a_row_is_judged_by_its_target_and_only_beside_a_control_that_held() {
    let verdicts: Vec<Verdict> = report().rows.iter().map(Row::verdict).collect();
    assert_eq!(verdicts, [Met, Missed, Unproven, Shown, Met, Met, Met]);
    let nan = Row::of_figure("rules", "nothing was measured", Unit::Ratio, f64::NAN);
    assert_eq!(nan.aiming(Target::AtMost(1.0)).verdict(), Unproven);
}

#[test]
fn the_table_is_as_it_was() {
    golden("bench.table", &report().table());
}

#[test]
fn the_table_of_markdown_is_as_it_was() {
    golden("bench.md", &report().markdown());
}

#[test]
fn the_json_is_as_it_was() {
    golden("bench.json", &format!("{:#}\n", report().json()));
}

#[test]
fn the_chart_is_as_it_was() {
    golden("bench.svg", &report().chart());
}

/// Compares with the file; `BLESS=1` writes it.
fn golden(name: &str, text: &str) {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/report/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(text == expected, "{} differs; BLESS=1 writes it:\n{text}", path.display());
}
