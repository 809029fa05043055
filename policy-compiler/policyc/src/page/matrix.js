// A namespace is open where each of its rows, or columns, is shown by itself.
const few = 40;
const open = { rows: new Set(), columns: new Set() };
const MARKS = { allowed: ["all", "●"], partly: ["some", "◐"], denied: ["none", "·"], unknown: ["unknown", "?"] };
let at = [0, 0];
let shown = { rows: [], columns: [] };

const groupsOf = (heads) => [...new Set(heads.map((head) => head.group))];

function openAll(all) {
  for (const side of ["rows", "columns"]) open[side] = new Set(all ? groupsOf(data[side]) : []);
}

// The lines of one side: a folded group is one, and has all its members.
function lines(side) {
  const heads = data[side];
  const out = [];
  for (const group of groupsOf(heads)) {
    const members = heads.map((_, n) => n).filter((n) => heads[n].group === group && matches(heads[n]));
    if (!members.length) continue;
    if (heads[members[0]].name === group && members.length === 1) out.push({ label: group, members });
    else {
      const folded = !open[side].has(group);
      out.push({ label: group, group, members, folded });
      if (!folded) for (const n of members) out.push({ label: heads[n].name, members: [n], of: group });
    }
  }
  return out;
}

function words() {
  return byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
}

let wanted = null;

function matches(head) {
  return wanted === null || wanted.has(head.group + "/" + head.name);
}

// With words in the search, those whose name has them all, and those that have to do with a rule or a
// port that has them.
function filter() {
  const all = words();
  wanted = null;
  if (!all.length) return;
  const has = (text) => all.every((word) => text.includes(word));
  wanted = new Set();
  for (const head of [...data.rows, ...data.columns]) {
    if (has((head.group + "/" + head.name).toLowerCase())) wanted.add(head.group + "/" + head.name);
  }
  if (wanted.size) return;
  const rules = data.rules.map(([rule]) => has(rule.toLowerCase()));
  const halves = data.halves.map(([, told]) => told.some(([rule, reason]) => rules[rule] && data.reasons[reason][0] !== "denied"));
  const whys = data.whys.map((why) => why.some(([, , , egress, ingress]) => halves[egress] || halves[ingress]));
  const contents = data.contents.map((content) => has(content.full.toLowerCase()));
  data.cells.forEach((row, from) => row.forEach((cell, to) => {
    if (!cell || !(whys[cell[1]] || contents[cell[0]])) return;
    for (const head of [data.rows[from], data.columns[to]]) wanted.add(head.group + "/" + head.name);
  }));
}

function outcome(row, column) {
  const seen = new Set();
  for (const from of row.members) {
    for (const to of column.members) {
      const cell = data.cells[from][to];
      const content = cell && data.contents[cell[0]];
      if (content && !content.itself) seen.add(content.outcome);
    }
  }
  if (!seen.size) return null;
  if (seen.size === 1) return [...seen][0];
  return seen.has("unknown") && !seen.has("allowed") && !seen.has("partly") ? "unknown" : "partly";
}

function single(row, column) {
  if (row.members.length !== 1 || column.members.length !== 1) return null;
  return data.cells[row.members[0]][column.members[0]];
}

function show() {
  filter();
  const heading = (line) => line.group && !line.folded;
  shown = { rows: lines("rows"), columns: lines("columns").filter((line) => !heading(line)) };
  const table = make("table", { class: "grid", role: "grid", "aria-label": "Rows send, columns receive" });
  table.append(make("thead", {}, make("tr", { role: "row" }, make("th", {}), ...shown.columns.map((line) => header(line, "columns")))));
  const roomy = shown.columns.length <= 10;
  const cells = shown.rows.filter((line) => !heading(line));
  const body = make("tbody", {});
  for (const row of shown.rows) {
    const number = cells.indexOf(row);
    body.append(make("tr", { role: "row" }, header(row, "rows"),
      ...(heading(row) ? [] : shown.columns.map((column, n) => cell(row, column, number, n, roomy)))));
  }
  shown.rows = cells;
  table.append(body);
  byId("grid").replaceChildren(shown.rows.length && shown.columns.length ? table : make("p", {}, "Nobody has such a name."));
  at = [Math.min(at[0], shown.rows.length - 1), Math.min(at[1], shown.columns.length - 1)];
  roam(false);
}

function header(line, side) {
  const role = side === "rows" ? "rowheader" : "columnheader";
  const scope = side === "rows" ? "row" : "col";
  const group = line.group || (side === "columns" && line.of);
  if (!group) return make("th", { role, scope }, make("span", { class: "of" }, line.label));
  const toggle = () => {
    if (!open[side].delete(group)) open[side].add(group);
    show();
  };
  const label = line.group ? (line.folded ? "▸ " : "▾ ") + group + (line.folded ? ` (${line.members.length})` : "") : group + "/" + line.label;
  return make("th", { role, scope }, make("button", {
    type: "button", "data-group": group, "aria-expanded": String(!line.folded), click: toggle,
  }, label));
}

function cell(row, column, i, j, roomy) {
  const said = outcome(row, column);
  const one = single(row, column);
  const content = one && data.contents[one[0]];
  const itself = content && content.itself;
  const [kind, sign] = said ? MARKS[said] : ["itself", ""];
  const label = row.label + " to " + column.label + ": " + (content ? content.full : said || "nothing is asked");
  return make("td", {
    class: itself ? "itself" : kind, role: "gridcell", tabindex: -1, "data-at": i + "," + j,
    "aria-label": label, title: label, click: () => choose(i, j), keydown: keys,
  }, itself ? "" : content && roomy && content.outcome === "partly" ? content.brief : sign);
}

const find = ([i, j]) => document.querySelector(`[data-at="${i},${j}"]`);

// One cell at a time can be reached with Tab; arrow keys go on from there.
function roam(focus) {
  for (const one of document.querySelectorAll("td[tabindex='0']")) one.tabIndex = -1;
  const one = find(at);
  if (!one) return;
  one.tabIndex = 0;
  if (focus) one.focus();
}

function keys(event) {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  at = event.currentTarget.dataset.at.split(",").map(Number);
  if (event.key in steps) {
    const next = [at[0] + steps[event.key][0], at[1] + steps[event.key][1]];
    if (find(next)) at = next;
    event.preventDefault();
    roam(true);
  } else if (event.key === "Home" || event.key === "End") {
    at = [at[0], event.key === "Home" ? 0 : shown.columns.length - 1];
    event.preventDefault();
    roam(true);
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    choose(...at);
  }
}

function choose(i, j) {
  at = [i, j];
  roam(true);
  const [row, column] = [shown.rows[i], shown.columns[j]];
  for (const one of document.querySelectorAll(".chosen")) one.classList.remove("chosen");
  find(at).classList.add("chosen");
  const one = single(row, column);
  const full = (line) => (line.of ? line.of + "/" : "") + line.label;
  const title = make("h2", {}, full(row) + " → " + full(column));
  if (!one) return say(title, ...summary(row, column));
  const content = data.contents[one[0]];
  say(title, make("p", {}, content.itself ? "One pod, which always reaches itself." : content.full),
    ...data.whys[one[1]].flatMap(why));
}

// Of a fold: who may send what to whom, as far as it can be read.
function summary(row, column) {
  const found = [];
  for (const from of row.members) {
    for (const to of column.members) {
      const cell = data.cells[from][to];
      const content = cell && data.contents[cell[0]];
      if (content && !content.itself && content.outcome !== "denied") found.push(make("li", {}, data.rows[from].name + " → " + data.columns[to].name + ": " + content.full));
    }
  }
  const most = 60;
  return [
    make("p", {}, `${found.length} of ${row.members.length * column.members.length} pairs may exchange something. Open the namespaces to see why.`),
    make("ul", { class: "reasons" }, ...found.slice(0, most)),
    found.length > most ? make("p", { class: "dim" }, `and ${found.length - most} more`) : null,
  ].filter(Boolean);
}

function why([families, traffic, decision, egress, ingress]) {
  return [
    make("h3", {}, data.texts[traffic] + " over " + data.texts[families] + ": ", make("span", { class: decision === "allowed" ? "good" : "bad" }, decision)),
    ...half("Egress of the source", data.halves[egress]),
    ...half("Ingress of the destination", data.halves[ingress]),
  ];
}

function half(title, [summary, told]) {
  const line = ([rule, reason]) => {
    const [name, place] = data.rules[rule];
    const [decision, text] = data.reasons[reason];
    return make("li", { class: decision === "denied" ? "bad" : "good" }, make("strong", {}, name), ": " + text,
      make("span", { class: "place" }, " " + place));
  };
  return [make("p", {}, make("strong", {}, title), ": ", data.texts[summary]), make("ul", { class: "reasons" }, ...told.map(line))];
}

if (data.port) document.querySelector("h1").textContent += " on " + data.port;
for (const note of data.notes) {
  const line = document.createElement("p");
  line.className = "dim";
  line.textContent = note;
  document.getElementById("grid").before(line);
}
openAll(data.rows.length <= few && data.columns.length <= few);
byId("open").addEventListener("click", () => { openAll(true); show(); });
byId("close").addEventListener("click", () => { openAll(false); show(); });
byId("search").addEventListener("input", show);
show();
