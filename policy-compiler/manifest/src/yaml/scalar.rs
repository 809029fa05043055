//! What type a plain scalar has.
//!
//! Source: `resolve` of go-yaml v2, by which `sigs.k8s.io/yaml` and so kubectl and the API server's
//! clients read manifests; checked against `kubectl`. A number that JSON would print without a
//! fraction is an integer, since that is how it reaches the API server.

use policy_compiler::document::Value;

use super::Dialect;

/// The value of an unquoted, untagged scalar.
pub(super) fn plain(text: &str, dialect: Dialect) -> Value {
    let old = dialect == Dialect::Kubernetes;
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" if old => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" if old => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        _ => number(text).unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

/// The value of a scalar that its tag calls `tag`; `None` where the text does not fit.
pub(super) fn tagged(tag: &str, text: &str, dialect: Dialect) -> Option<Value> {
    match (tag, plain(text, dialect)) {
        ("null", Value::Null) => Some(Value::Null),
        ("bool", Value::Bool(b)) => Some(Value::Bool(b)),
        ("int" | "float", Value::Int(i)) => Some(Value::Int(i)),
        ("float", Value::Float(x)) => Some(Value::Float(x)),
        ("null" | "bool" | "int" | "float", _) => None,
        _ => Some(Value::String(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let text = text.replace('_', "");
    if let Some(value) = integer(&text) {
        return Some(value);
    }
    if is_decimal(&text) { text.parse().ok().map(whole_or_float) } else { None }
}

/// `-12`, `0x1f`, `0b11`, `0o17`, and `017`, which is octal in YAML 1.1.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    // `from_str_radix` would accept a second sign.
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -magnitude } else { magnitude };
    if let Ok(small) = i64::try_from(value) {
        return Some(Value::Int(small));
    }
    // Beyond 64 bits JSON has floating point; this is no port or count in any case.
    digits.parse().ok().map(|x: f64| Value::Float(if negative { -x } else { x }))
}

/// `[-+]? ( digits [. digits?] | . digits ) ( [eE] [-+]? digits )?`
fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
        }
        None => !mantissa.is_empty() && digits(mantissa),
    };
    let exponent_ok = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['-', '+']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    mantissa_ok && exponent_ok
}

fn whole_or_float(x: f64) -> Value {
    // Below 2^53 a whole float is exactly one integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if x.fract() == 0.0 && x.abs() < EXACT {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "whole and below 2^53 by the condition"
        )]
        return Value::Int(x as i64);
    }
    Value::Float(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Value {
        Value::String(s.to_owned())
    }

    #[test]
    fn plain_scalars_have_the_types_that_kubectl_gives_them() {
        let int = Value::Int;
        for (source, expected) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("null", Value::Null),
            ("nULL", text("nULL")),
            ("y", Value::Bool(true)),
            ("on", Value::Bool(true)),
            ("Yes", Value::Bool(true)),
            ("true", Value::Bool(true)),
            ("No", Value::Bool(false)),
            ("off", Value::Bool(false)),
            ("oN", text("oN")),
            ("0", int(0)),
            ("80", int(80)),
            ("-1", int(-1)),
            ("+5", int(5)),
            ("017", int(15)),
            ("0o17", int(15)),
            ("0x1F", int(31)),
            ("0b11", int(3)),
            ("08", int(8)),
            ("1_000", int(1000)),
            ("1__0", int(10)),
            ("1e3", int(1000)),
            ("1e+3", int(1000)),
            ("8.0", int(8)),
            ("1.", int(1)),
            (".5", Value::Float(0.5)),
            ("1.5", Value::Float(1.5)),
            ("12345678901234567890", Value::Float(12_345_678_901_234_567_890.0)),
            ("9223372036854775807", int(i64::MAX)),
            ("-9223372036854775808", int(i64::MIN)),
            ("1e3x", text("1e3x")),
            ("10.0.0.0/8", text("10.0.0.0/8")),
            ("10.1.2.3", text("10.1.2.3")),
            ("8080-tcp", text("8080-tcp")),
            ("2024-01-01", text("2024-01-01")),
            ("12:30:45", text("12:30:45")),
            ("fd00::1", text("fd00::1")),
            ("-", text("-")),
            (".", text(".")),
            ("+", text("+")),
            ("0x", text("0x")),
            ("--1", text("--1")),
            ("-+1", text("-+1")),
            ("inf", text("inf")),
            ("nan", text("nan")),
            ("e5", text("e5")),
            (".inf", Value::Float(f64::INFINITY)),
        ] {
            assert_eq!(plain(source, Dialect::Kubernetes), expected, "{source:?}");
        }
    }

    #[test]
    fn in_the_core_dialect_only_true_and_false_are_booleans() {
        for word in ["y", "No", "on", "OFF"] {
            assert_eq!(plain(word, Dialect::Core), text(word));
        }
        assert_eq!(plain("true", Dialect::Core), Value::Bool(true));
        assert_eq!(plain("False", Dialect::Core), Value::Bool(false));
    }

    #[test]
    fn a_tag_decides_over_the_look_of_a_scalar_and_refuses_what_does_not_fit() {
        for (tag, source, expected) in [
            ("str", "80", Some(text("80"))),
            ("int", "80", Some(Value::Int(80))),
            ("int", "web", None),
            ("bool", "yes", Some(Value::Bool(true))),
            ("bool", "80", None),
            ("float", "1", Some(Value::Int(1))),
            ("null", "", Some(Value::Null)),
            ("binary", "aGk=", Some(text("aGk="))),
        ] {
            assert_eq!(tagged(tag, source, Dialect::Kubernetes), expected, "!!{tag} {source:?}");
        }
    }
}
