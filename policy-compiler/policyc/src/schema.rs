//! `policyc schema`: the JSON schemas of all output, carried in the binary.

use crate::error::CommandError;
use crate::suggest;

/// The kinds of output and their schemas.
pub const SCHEMAS: &[(&str, &str)] = &[
    ("Comparison", include_str!("../schemas/Comparison.json")),
    ("AllowList", include_str!("../schemas/AllowList.json")),
    ("Connection", include_str!("../schemas/Connection.json")),
    ("Graph", include_str!("../schemas/Graph.json")),
    ("LintReport", include_str!("../schemas/LintReport.json")),
    ("Matrix", include_str!("../schemas/Matrix.json")),
    ("PodExplanation", include_str!("../schemas/PodExplanation.json")),
    ("PodExplanationList", include_str!("../schemas/PodExplanationList.json")),
    ("PolicyExplanation", include_str!("../schemas/PolicyExplanation.json")),
    ("Rulesets", include_str!("../schemas/Rulesets.json")),
    ("TestReport", include_str!("../schemas/TestReport.json")),
];

/// The schema of `kind`, or the kinds one a line.
///
/// # Errors
/// Where there is no such kind.
pub fn text(kind: Option<&str>) -> Result<String, CommandError> {
    let names = SCHEMAS.iter().map(|(name, _)| (*name).to_owned());
    let Some(kind) = kind else {
        return Ok(names.map(|name| name + "\n").collect());
    };
    match SCHEMAS.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind)) {
        Some((_, schema)) => Ok((*schema).to_owned()),
        None => Err(CommandError::Usage {
            message: format!("there is no output of kind `{kind}`"),
            help: match suggest::nearest(kind, names.clone()).first() {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None => Some(format!("the kinds are {}", names.collect::<Vec<_>>().join(", "))),
            },
        }),
    }
}
