//! Parser events to [`Node`]s: anchors, aliases, merge keys and types.
//!
//! Recursive, and bounded: every level counts against [`MAX_DEPTH`], those that
//! come with an alias included, and every copy of an anchored node is paid from one budget.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::document::{Entry, Node, Position, Value};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use super::{Dialect, Failure, MAX_DEPTH, YamlErrorKind, scalar};

/// What copies of anchored nodes may add up to, in bytes of text and nodes, beyond twice the size
/// of the source.
const ALIAS_ALLOWANCE: usize = 4 << 20;

/// All documents of `text` that hold something.
pub(super) fn documents(text: &str, dialect: Dialect) -> Result<Vec<Node>, Failure> {
    let mut composer = Composer {
        parser: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        dialect,
        allowance: ALIAS_ALLOWANCE.saturating_add(text.len().saturating_mul(2)),
    };
    let mut nodes = Vec::new();
    while let Some((event, span)) = composer.next()? {
        match event {
            Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
            // Anchors live as long as their document.
            Event::DocumentStart(_) => composer.anchors.clear(),
            Event::StreamEnd => break,
            event => {
                let node = composer.node(event, span, 0)?;
                if !node.is_null() {
                    nodes.push(node);
                }
            }
        }
    }
    Ok(nodes)
}

struct Composer<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: BTreeMap<usize, Anchor>,
    dialect: Dialect,
    allowance: usize,
}

/// A finished node that aliases may stand for.
struct Anchor {
    node: Node,
    weight: usize,
    height: usize,
}

fn position(marker: Marker) -> Position {
    Position {
        line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
        column: u32::try_from(marker.col()).unwrap_or(u32::MAX).saturating_add(1),
    }
}

/// Nodes and text bytes of a tree, and its levels.
fn measure(node: &Node) -> (usize, usize) {
    match &node.value {
        Value::String(text) => (1 + text.len(), 0),
        Value::List(items) => items
            .iter()
            .map(measure)
            .fold((1, 1), |(weight, height), (w, h)| (weight.saturating_add(w), height.max(h + 1))),
        Value::Map(entries) => entries.iter().fold((1, 1), |(weight, height), entry| {
            let (w, h) = measure(&entry.node);
            (weight.saturating_add(w).saturating_add(entry.key.len()), height.max(h + 1))
        }),
        _ => (1, 0),
    }
}

impl<'t> Composer<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Failure> {
        self.parser
            .next_event()
            .transpose()
            .map_err(|e| (YamlErrorKind::Syntax(e.info().to_owned()), position(*e.marker())))
    }

    /// The event after this one, inside a node: there must be one.
    fn inner(&mut self, at: Position) -> Result<(Event<'t>, Span), Failure> {
        self.next()?.ok_or_else(|| (YamlErrorKind::Syntax("ends too early".to_owned()), at))
    }

    /// The node that `event` opens, `depth` levels below the top.
    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Failure> {
        let at = position(span.start);
        let (anchor, value) = match event {
            Event::Alias(id) => return self.alias(id, at, depth),
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, scalar_value((&text, style), tag.as_deref(), self.dialect, at)?)
            }
            Event::SequenceStart(anchor, _) => (anchor, self.list(at, depth + 1)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(at, depth + 1)?),
            _ => return Err((YamlErrorKind::Syntax("a value is missing".to_owned()), at)),
        };
        let node = Node { value, position: Some(at) };
        if anchor != 0 {
            let (weight, height) = measure(&node);
            self.pay(weight, at)?;
            self.anchors.insert(anchor, Anchor { node: node.clone(), weight, height });
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, at: Position, depth: usize) -> Result<Node, Failure> {
        let Some(anchor) = self.anchors.get(&id) else {
            return Err((YamlErrorKind::UnknownAlias, at));
        };
        if depth + anchor.height > MAX_DEPTH {
            return Err((YamlErrorKind::TooDeep, at));
        }
        let weight = anchor.weight;
        self.pay(weight, at)?;
        match self.anchors.get(&id) {
            // The position stays that of the anchor, where the text to mend stands.
            Some(anchor) => Ok(anchor.node.clone()),
            None => Err((YamlErrorKind::UnknownAlias, at)),
        }
    }

    fn pay(&mut self, weight: usize, at: Position) -> Result<(), Failure> {
        match self.allowance.checked_sub(weight) {
            Some(rest) => {
                self.allowance = rest;
                Ok(())
            }
            None => Err((YamlErrorKind::AliasBomb, at)),
        }
    }

    fn list(&mut self, at: Position, depth: usize) -> Result<Value, Failure> {
        check_depth(depth, at)?;
        let mut items = Vec::new();
        loop {
            match self.inner(at)? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth)?),
            }
        }
    }

    fn mapping(&mut self, at: Position, depth: usize) -> Result<Value, Failure> {
        check_depth(depth, at)?;
        let mut entries = Entries::default();
        loop {
            let (event, span) = self.inner(at)?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(entries.into_vec()));
            }
            let key_at = position(span.start);
            let merges =
                matches!(&event, Event::Scalar(t, ScalarStyle::Plain, _, None) if t == "<<");
            let key = self.key(event, span, depth)?;
            let (event, span) = self.inner(at)?;
            let node = self.node(event, span, depth)?;
            if merges {
                entries.merge(merge_sources(node, key_at)?);
            } else {
                entries.write(Entry { key, position: Some(key_at), node });
            }
        }
    }

    /// The text of a key: what was written, whatever type it would have as a value.
    fn key(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<String, Failure> {
        let at = position(span.start);
        if let Event::Scalar(text, _, 0, _) = event {
            return Ok(text.into_owned());
        }
        if let Event::Scalar(text, _, anchor, _) = event {
            let text = text.into_owned();
            let node = Node { value: Value::String(text.clone()), position: Some(at) };
            let weight = text.len() + 1;
            self.anchors.insert(anchor, Anchor { node, weight, height: 0 });
            return Ok(text);
        }
        match self.node(event, span, depth)?.value {
            Value::String(text) => Ok(text),
            _ => Err((YamlErrorKind::Key, at)),
        }
    }
}

fn check_depth(depth: usize, at: Position) -> Result<(), Failure> {
    if depth > MAX_DEPTH { Err((YamlErrorKind::TooDeep, at)) } else { Ok(()) }
}

fn scalar_value(
    (text, style): (&str, ScalarStyle),
    tag: Option<&Tag>,
    dialect: Dialect,
    at: Position,
) -> Result<Value, Failure> {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() => scalar::tagged(&tag.suffix, text, dialect)
            .ok_or_else(|| {
                let kind = YamlErrorKind::Tag { tag: tag.suffix.clone(), text: text.to_owned() };
                (kind, at)
            }),
        None if style == ScalarStyle::Plain => Ok(scalar::plain(text, dialect)),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// The mappings behind one `<<`.
fn merge_sources(node: Node, at: Position) -> Result<Vec<Node>, Failure> {
    let nodes = match node.value {
        Value::List(items) => items,
        _ => vec![node],
    };
    match nodes.iter().find(|n| !matches!(n.value, Value::Map(_))) {
        Some(other) => Err((YamlErrorKind::Merge(other.kind()), at)),
        None => Ok(nodes),
    }
}

/// The entries of a mapping under way.
#[derive(Default)]
struct Entries {
    /// In order; those that gave way to another are gone.
    all: Vec<Option<Entry>>,
    /// Where each key stands, and whether it came by a merge; none before the first merge, for most
    /// mappings have none.
    places: Option<BTreeMap<String, (bool, Vec<usize>)>>,
}

impl Entries {
    /// Adds a key that stands in the mapping itself. One that was merged gives way; one that was
    /// written stays beside it, for the decoder to judge.
    fn write(&mut self, entry: Entry) {
        let merged = self.places.as_ref().and_then(|places| places.get(&entry.key));
        if merged.is_some_and(|(merged, _)| *merged) {
            self.give_way(&entry.key);
        }
        self.add(entry, false);
    }

    /// Adds the keys of `sources`, of which the earlier win. Keys that were written before the merge
    /// give way, unlike those written after it: so go-yaml v2 does, and with it kubectl.
    fn merge(&mut self, sources: Vec<Node>) {
        if self.places.is_none() {
            let mut places = BTreeMap::new();
            for (place, entry) in self.all.iter().enumerate() {
                if let Some(entry) = entry {
                    stands(&mut places, &entry.key, place, false);
                }
            }
            self.places = Some(places);
        }
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for source in sources {
            let Value::Map(entries) = source.value else { continue };
            let keys: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
            for key in keys.iter().filter(|key| !taken.contains(*key)) {
                self.give_way(key);
            }
            for entry in entries.into_iter().filter(|entry| !taken.contains(&entry.key)) {
                self.add(entry, true);
            }
            taken.extend(keys);
        }
    }

    fn add(&mut self, entry: Entry, merged: bool) {
        if let Some(places) = &mut self.places {
            stands(places, &entry.key, self.all.len(), merged);
        }
        self.all.push(Some(entry));
    }

    fn give_way(&mut self, key: &str) {
        let given = self.places.as_mut().and_then(|places| places.remove(key));
        for place in given.map(|(_, places)| places).unwrap_or_default() {
            if let Some(entry) = self.all.get_mut(place) {
                *entry = None;
            }
        }
    }

    fn into_vec(self) -> Vec<Entry> {
        self.all.into_iter().flatten().collect()
    }
}

/// Records that `key` stands at `place`.
fn stands(
    places: &mut BTreeMap<String, (bool, Vec<usize>)>,
    key: &str,
    place: usize,
    merged: bool,
) {
    places.entry(key.to_owned()).or_insert((merged, Vec::new())).1.push(place);
}
