//! The ratios as a chart: a bar for each, its quartiles, and a tick where its target is.
//!
//! Plain SVG without scripts or fonts of its own, which GitHub shows in a README, in colours of its own
//! for a dark page.

use std::fmt::Write as _;

use super::{Report, Row, Target, Unit, Verdict, WITHOUT};

const LABELS: f64 = 380.0;
const BARS: f64 = 420.0;
const FIGURES: f64 = 100.0;
const STEP: f64 = 26.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 44.0;
/// Its colours. Where a viewer does not know of dark pages it has a light ground of its own.
const STYLE: &str = "\
<style>
text { fill: #1f2328 } .faint { fill: #59636e } .page { fill: #ffffff }
.grid { stroke: #d1d9e0 } .one { stroke: #59636e } .mark { stroke: #1f2328 }
.met { fill: #1a7f37 } .missed { fill: #cf222e } .shown { fill: #8c959f }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .faint { fill: #9198a1 } .page { fill: #0d1117 }
.grid { stroke: #3d444d } .one { stroke: #9198a1 } .mark { stroke: #f0f6fc }
.met { fill: #2ea043 } .missed { fill: #f85149 } .shown { fill: #656c76 }
}
</style>
";
/// A ratio beyond this ends at the edge, with its figure beside it.
const EDGE: f64 = 2.0;

/// The rows that are ratios to no policy engine; what compares larger things has its place in the table.
pub(super) fn chart(report: &Report) -> String {
    let is_of_packets = |row: &&Row| {
        row.unit == Unit::Ratio && row.figure.is_finite() && row.against.starts_with(WITHOUT)
    };
    let rows: Vec<&Row> = report.rows.iter().filter(is_of_packets).collect();
    #[allow(clippy::cast_precision_loss, reason = "a few dozen rows")]
    let height = TOP + STEP * rows.len() as f64 + BOTTOM;
    let width = LABELS + BARS + FIGURES;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <title>What policies cost: time with policyd to time without</title>\n{STYLE}\
         <rect width=\"100%\" height=\"100%\" class=\"page\"/>\n\
         <text x=\"16\" y=\"28\" font-size=\"16\" font-weight=\"600\">\
         Time with rules, as a ratio of the time without</text>\n"
    );
    axis(&mut text, height);
    let mut top = TOP;
    for row in rows {
        bar(&mut text, row, top);
        top += STEP;
    }
    let _ = writeln!(
        text,
        "<text x=\"16\" y=\"{:.1}\" font-size=\"11\" class=\"faint\">{}</text>\n</svg>",
        height - 14.0,
        escaped(&format!(
            "{}, kernel {}, iptables {}. Line: quartiles. Tick: target. Grey: for comparison, or unproven.",
            report.machine.processor, report.machine.kernel, report.machine.iptables
        ))
    );
    text
}

fn place(ratio: f64) -> f64 {
    LABELS + BARS * ratio.clamp(0.0, EDGE) / EDGE
}

fn axis(text: &mut String, height: f64) {
    for (ratio, label) in [(0.0, "0"), (0.5, "0.5"), (1.0, "1"), (1.5, "1.5"), (2.0, "2")] {
        let (x, end) = (place(ratio), height - BOTTOM + 4.0);
        let kind = if label == "1" { "one" } else { "grid" };
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{end:.1}\" class=\"{kind}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"11\" text-anchor=\"middle\" class=\"faint\">{label}</text>",
            TOP - 6.0,
            TOP - 10.0
        );
    }
}

fn bar(text: &mut String, row: &Row, top: f64) {
    let kind = match row.verdict() {
        Verdict::Met => "met",
        Verdict::Missed => "missed",
        Verdict::Unproven | Verdict::Shown => "shown",
    };
    let label = match row.backend_word() {
        "" => row.title.clone(),
        backend => format!("{}, {backend}", row.title),
    };
    let (middle, length) = (top + STEP / 2.0, place(row.figure) - LABELS);
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
         <rect x=\"{LABELS:.1}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"14\" class=\"{kind}\"/>",
        LABELS - 10.0,
        middle + 4.5,
        escaped(&label),
        middle - 7.0
    );
    if let Some((low, high)) = row.spread {
        let _ = writeln!(
            text,
            "<line x1=\"{:.1}\" y1=\"{middle:.1}\" x2=\"{:.1}\" y2=\"{middle:.1}\" class=\"mark\"/>",
            place(low),
            place(high)
        );
    }
    if let Some(Target::AtMost(limit) | Target::AtLeast(limit)) = row.target {
        let x = place(limit);
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" class=\"mark\" stroke-width=\"2\"/>",
            middle - 10.0,
            middle + 10.0
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        LABELS + BARS + 10.0,
        middle + 4.5,
        escaped(&row.unit.show(row.figure))
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
