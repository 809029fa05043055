use super::*;
use policy_compiler::document::Value;
use proptest::prelude::*;

/// A node in JSON notation without positions, duplicate keys and order kept.
fn show(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Float(x) => format!("{x:?}"),
        Value::String(text) => format!("{text:?}"),
        Value::List(items) => {
            format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(","))
        }
        Value::Map(entries) => {
            let shown: Vec<_> =
                entries.iter().map(|e| format!("{}:{}", e.key, show(&e.node))).collect();
            format!("{{{}}}", shown.join(","))
        }
    }
}

fn shown(text: &str) -> String {
    parse(text).unwrap().iter().map(show).collect::<Vec<_>>().join(" ")
}

fn failure(text: &str) -> (YamlErrorKind, u32, u32) {
    let error = parse(text).unwrap_err();
    (error.kind, error.position.line, error.position.column)
}

#[test]
fn documents_are_told_apart_and_empty_ones_are_none() {
    for (text, expected) in [
        ("", ""),
        ("# only a comment\n", ""),
        ("---\n---\n...\n", ""),
        ("a: 1\n---\nb: 2\n", "{a:1} {b:2}"),
        ("---\n# nothing\n---\na: 1\n...\n---\nb: 2", "{a:1} {b:2}"),
        ("\u{feff}a: 1\r\nb:\r\n- c\r\n", r#"{a:1,b:["c"]}"#),
        ("%YAML 1.1\n---\na: 1\n", "{a:1}"),
    ] {
        assert_eq!(shown(text), expected, "{text:?}");
    }
}

#[test]
fn quoted_scalars_are_text_and_plain_ones_have_types() {
    assert_eq!(
        shown("a: \"80\"\nb: '80'\nc: 80\nd: !!str 80\ne: yes\nf: |\n  80\ng: !!int \"80\"\n"),
        r#"{a:"80",b:"80",c:80,d:"80",e:true,f:"80\n",g:80}"#
    );
}

#[test]
fn keys_are_what_was_written() {
    assert_eq!(shown("y: 1\non: 2\n80: 3\n\"x\": 4\n"), "{y:1,on:2,80:3,x:4}");
}

#[test]
fn duplicate_keys_are_kept_for_the_decoder() {
    assert_eq!(shown("a: 1\na: 2\n"), "{a:1,a:2}");
    assert_eq!(shown("{\"a\":\"\\ud83d\\ude00\",\"a\":2}"), "{a:\"😀\",a:2}");
}

#[test]
fn every_node_knows_its_place() {
    let nodes = parse("a: 1\nb:\n  - c: x\n    d:\n").unwrap();
    let at = |node: Option<&Node>| {
        let position = node.unwrap().position.unwrap();
        (position.line, position.column)
    };
    assert_eq!(at(nodes[0].get("a")), (1, 4));
    let Value::List(items) = &nodes[0].get("b").unwrap().value else { panic!("a list") };
    assert_eq!(at(items.first()), (3, 5));
    assert_eq!(at(items[0].get("c")), (3, 8));
    let Value::Map(entries) = &items[0].value else { panic!("a mapping") };
    let keys: Vec<_> = entries.iter().map(|e| e.position.unwrap()).collect();
    assert_eq!(keys, [Position { line: 3, column: 5 }, Position { line: 4, column: 5 }]);
}

#[test]
fn aliases_stand_for_their_anchor_and_end_with_the_document() {
    assert_eq!(shown("a: &x {b: 1}\nc: *x\n"), "{a:{b:1},c:{b:1}}");
    assert_eq!(shown("a: &k key\n? *k\n: 1\n"), "{a:\"key\",key:1}");
    assert_eq!(failure("a: &x 1\n---\nb: *x\n"), (YamlErrorKind::UnknownAlias, 2 + 1, 4));
    assert_eq!(failure("a: &x [*x]\n").0, YamlErrorKind::UnknownAlias);
}

#[test]
fn merges_go_by_order_as_kubectl_has_it() {
    assert_eq!(
        shown("base: &b {x: 1, y: 2}\na: {<<: *b, y: 3}\nb:\n  y: 3\n  <<: *b\n"),
        "{base:{x:1,y:2},a:{x:1,y:3},b:{x:1,y:2}}"
    );
    assert_eq!(shown("a: {<<: [{x: 1}, {x: 2, y: 3}]}\n"), "{a:{x:1,y:3}}");
    assert_eq!(shown("a: {<<: {x: 1}, x: 2, x: 3}\n"), "{a:{x:2,x:3}}");
    assert_eq!(shown("a: {\"<<\": 1}\n"), "{a:{<<:1}}");
    assert_eq!(failure("a: {<<: 1}\n"), (YamlErrorKind::Merge("a number"), 1, 5));
}

#[test]
fn a_merge_of_many_keys_takes_no_time() {
    let keys: Vec<String> = (0..20_000).map(|i| format!("  k{i}: 1\n")).collect();
    let text = format!("a: &a\n{0}b:\n  <<: *a\n{0}  <<: *a\n", keys.concat());
    let Value::Map(entries) = parse(&text).unwrap()[0].get("b").unwrap().value.clone() else {
        panic!("a mapping")
    };
    assert_eq!(entries.len(), 20_000);
}

#[test]
fn an_alias_bomb_is_refused_quickly() {
    let level = |level: usize| {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        format!("a{level}: &a{level} [{aliases}]\n")
    };
    let text: Vec<String> =
        ["a0: &a0 [x, x]\n".to_owned()].into_iter().chain((1..12).map(level)).collect();
    assert_eq!(failure(&text.concat()).0, YamlErrorKind::AliasBomb);
    // One long text many times over is as bad as many nodes.
    let wide = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 1_000].join(", "));
    assert_eq!(failure(&wide).0, YamlErrorKind::AliasBomb);
}

#[test]
fn nesting_is_bounded_through_aliases_too() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(failure(&nested(MAX_DEPTH + 1)).0, YamlErrorKind::TooDeep);
    let half = nested(60);
    let text = format!("a: &a {half}\nb: {}*a{}\n", "[".repeat(60), "]".repeat(60));
    assert_eq!(failure(&text).0, YamlErrorKind::TooDeep);
    let block: Vec<String> = (0..200).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    let block = block.concat();
    assert_eq!(failure(&block).0, YamlErrorKind::TooDeep);
}

#[test]
fn json_is_read_as_it_is_written() {
    for (text, expected) in [
        ("{\n\t\"a\": 1,\n\t\"b\": [\n\t\t1,\n\t\t2\n\t]\n}\n", "{a:1,b:[1,2]}"),
        (r#"{"a":"\/","b":"\u00e9"}"#, r#"{a:"/",b:"é"}"#),
        (r#"{"a":"\ud83d\ude00"}"#, r#"{a:"😀"}"#),
        ("{\"a\"\t:\t1\n\t,\t\"b\":2.5}", "{a:1,b:2.5}"),
        ("{\"a\":1}\n{\"b\":2}", "{a:1} {b:2}"),
        ("{\"a\":1}{\"b\":null}", "{a:1} {b:null}"),
        ("[]", "[]"),
    ] {
        assert_eq!(shown(text), expected, "{text:?}");
    }
}

#[test]
fn what_breaks_the_grammar_is_quoted_with_its_place() {
    let error = parse("kind: Pod\nmetadata:\n  name: a\n bad: b\n").unwrap_err();
    assert_eq!(error.position.line, 4);
    assert_eq!(error.line.as_deref(), Some(" bad: b"));
    assert!(error.to_string().contains(" 4 |  bad: b\n"), "{error}");

    let (kind, line, _) = failure("{\"a\": 1,\n \"b\": ]}");
    assert!(matches!(kind, YamlErrorKind::Json(_) | YamlErrorKind::Syntax(_)), "{kind}");
    assert_eq!(line, 2);
    assert_eq!(failure("a: !!int web\n").1, 1);
    assert_eq!(failure("{a: 1}: b\n").0, YamlErrorKind::Key);
}

#[test]
fn nul_is_an_error_and_not_the_end_of_the_text() {
    assert_eq!(failure("a: 1\nb: \0\nc: 2\n"), (YamlErrorKind::Control('\0'), 2, 4));
    assert_eq!(failure("a: \u{7}").0, YamlErrorKind::Control('\u{7}'));
}

/// Text made of what YAML treats specially, which finds more than random characters do.
fn yaml_soup() -> impl Strategy<Value = String> {
    let words = [
        "a",
        "b:",
        "- ",
        "-",
        ": ",
        "\n",
        "\n  ",
        "\n    ",
        "\t",
        "{",
        "}",
        "[",
        "]",
        ",",
        "&x ",
        "*x",
        "<<: ",
        "\"",
        "'",
        "|",
        ">",
        "|-\n",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "#",
        "!",
        "!!int ",
        "? ",
        "@",
        "`",
        "\\",
        "\r",
        "\r\n",
        "\u{feff}",
        "\u{85}",
        "é",
        "{{",
        "0",
        "~",
        "%TAG ! x:\n",
        "!<x>",
        "\\u12",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40)
        .prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = parse(&text).map_err(|e| e.to_string());
    }

    #[test]
    fn no_soup_of_yaml_makes_it_panic(text in yaml_soup()) {
        let _ = parse(&text).map_err(|e| e.to_string());
    }

    #[test]
    fn text_written_as_json_comes_back_as_it_was(text in any::<String>()) {
        // Escape everything beyond printable ASCII, as kubectl's `<` and surrogates are.
        let escaped: Vec<String> =
            text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let escaped = escaped.concat();
        let nodes = parse(&format!("{{\"a\":\"{escaped}\"}}")).unwrap();
        prop_assert_eq!(nodes[0].get("a").and_then(Node::as_str), Some(&*text));
    }
}
