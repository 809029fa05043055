let view = 0;
let zoom = 1;

function openView(number) {
  view = number;
  show();
  const button = byId("views").children[number];
  if (button && !button.hidden) button.focus();
}

// As large as it is meant, or as fits, but never so small that it cannot be read.
function fitting(drawing) {
  const room = byId("picture").clientWidth;
  return drawing && room > 0 ? Math.min(1, Math.max(0.6, room / drawing.width)) : 1;
}

function show() {
  const { graph, drawing, name } = data.views[view];
  zoom = fitting(drawing);
  byId("views").replaceChildren(...data.views.map((one, n) =>
    make("button", { type: "button", "aria-current": String(n === view), click: () => openView(n) }, one.name)));
  byId("legend").replaceChildren(...graph.legend.concat(data.views[view].note || []).map((line) => make("p", {}, line)));
  byId("picture").replaceChildren(...(drawing ? [picture(name, graph, drawing)] : []));
  byId("picture").scrollLeft = 0;
  list(graph);
  search();
}

function picture(name, graph, drawing) {
  const svg = draw("svg", {
    viewBox: `0 0 ${drawing.width} ${drawing.height}`, width: drawing.width * zoom, height: drawing.height * zoom,
    role: "group", "aria-label": "Picture: " + name,
  });
  svg.append(draw("defs", {}, draw("marker", {
    id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto",
  }, draw("path", { class: "tip", d: "M0 0.5L8 4L0 7.5z" }))));
  for (const [n, box] of drawing.groups) {
    svg.append(draw("g", { class: "group" },
      draw("rect", { x: box.x, y: box.y, width: box.w, height: box.h, rx: 10 }),
      draw("text", { x: box.x + 10, y: box.y + 16 }, graph.groups[n].name)));
  }
  graph.edges.forEach((edge, n) => svg.append(arrow(graph, edge, drawing.edges[n], n)));
  graph.nodes.forEach((node, n) => svg.append(shape(graph, node, drawing.nodes[n], n)));
  return svg;
}

function between(graph, edge) {
  return graph.nodes[edge.from].id + " → " + graph.nodes[edge.to].id;
}

function arrow(graph, edge, route, n) {
  const choose = () => chooseEdge(graph, n);
  return draw("g", {
    class: edge.partial ? "edge partial" : "edge", "data-edge": n, tabindex: 0, role: "button",
    "aria-label": between(graph, edge) + ": " + edge.traffic, click: choose, keydown: pressed(choose),
  },
  draw("path", { class: "wide", d: route.path }),
  draw("path", { class: "thin", d: route.path, "marker-end": "url(#tip)" }),
  draw("text", { x: route.label[0], y: route.label[1] + 4 }, edge.caption));
}

function shape(graph, node, box, n) {
  const choose = () => (node.kind === "namespace" ? openView(data.views.findIndex((one) => one.namespace === node.title)) : chooseNode(graph, n));
  const round = node.kind === "pods" || node.kind === "namespace" ? 6 : box.h / 2;
  const group = draw("g", {
    class: node.class, "data-node": n, tabindex: 0, role: "button",
    "aria-label": node.lines.join(", ") + (node.kind === "namespace" ? ": open" : ""), click: choose, keydown: pressed(choose),
  }, draw("rect", { x: box.x, y: box.y, width: box.w, height: box.h, rx: round }));
  node.lines.forEach((line, at) => group.append(draw("text",
    { class: at ? "detail" : "title", x: box.x + box.w / 2, y: box.y + 20 + 16 * at }, line)));
  return group;
}

function mark(chosen) {
  for (const one of document.querySelectorAll(".chosen")) one.classList.remove("chosen");
  for (const one of document.querySelectorAll(chosen)) one.classList.add("chosen");
}

function reason(because) {
  return make("li", { class: "good" },
    because.policy ? make("strong", {}, because.policy + " " + because.rule) : null,
    because.policy ? ": " : null, because.text, place(because.place));
}

function connection(graph, edge, level) {
  const parts = [make(level, {}, between(graph, edge) + ": " + edge.traffic)];
  for (const direction of ["egress", "ingress"]) {
    const reasons = edge.because.filter((because) => because.direction === direction);
    if (!reasons.length) continue;
    parts.push(make("h3", {}, direction === "egress" ? "Egress of the source" : "Ingress of the destination"));
    parts.push(make("ul", { class: "reasons" }, ...reasons.map(reason)));
  }
  if (edge.rulings.length) {
    parts.push(make("h3", {}, "Left open by the specification: " + edge.undefined));
    parts.push(make("ul", { class: "reasons" }, ...edge.rulings.map((one) => make("li", {}, one.explanation))));
  }
  return parts;
}

function chooseEdge(graph, n) {
  mark(`[data-edge="${n}"]`);
  say(...connection(graph, graph.edges[n], "h2"));
}

function chooseNode(graph, n) {
  const node = graph.nodes[n];
  const touching = graph.edges.filter((edge) => edge.from === n || edge.to === n);
  mark(`[data-node="${n}"]` + touching.map((edge) => `,[data-edge="${graph.edges.indexOf(edge)}"]`).join(""));
  const parts = [make("h2", {}, node.id), make("p", { class: "dim" }, node.lines.slice(1).join(" · "))];
  if (!touching.length) parts.push(make("p", {}, "No policy lets anything pass here that is not open anyway."));
  for (const edge of touching) parts.push(...connection(graph, edge, "h3"));
  say(...parts);
}

function list(graph) {
  const rows = graph.edges.map((edge, n) => make("tr", { "data-edge": n, "data-text": text(graph, edge) },
    make("td", {}, make("button", { type: "button", click: () => chooseEdge(graph, n) }, between(graph, edge))),
    make("td", {}, edge.traffic)));
  byId("list").replaceChildren(make("table", { class: "list" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Connection"), make("th", { scope: "col" }, "Traffic"))),
    make("tbody", {}, ...rows)));
}

function text(graph, edge) {
  const because = edge.because.map((one) => [one.policy, one.text].join(" "));
  return [between(graph, edge), edge.traffic, ...because].join(" ").toLowerCase();
}

// What does not hold the words fades in the picture and leaves the list.
function search() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const { graph } = data.views[view];
  const found = (all) => words.every((word) => all.includes(word));
  const near = new Set();
  graph.edges.forEach((edge, n) => {
    const here = found(text(graph, edge));
    if (here) near.add(edge.from).add(edge.to);
    for (const one of document.querySelectorAll(`[data-edge="${n}"]`)) {
      one.classList.toggle("faint", !here);
      if (one.tagName === "TR") one.hidden = !here;
    }
  });
  graph.nodes.forEach((node, n) => {
    const here = !words.length || near.has(n) || found([node.id, ...node.lines].join(" ").toLowerCase());
    for (const one of document.querySelectorAll(`[data-node="${n}"]`)) one.classList.toggle("faint", !here);
  });
  for (const button of byId("views").children) {
    const one = data.views[Array.prototype.indexOf.call(byId("views").children, button)];
    button.hidden = words.length > 0 && one.namespace !== undefined && one.namespace !== null
      && !one.graph.edges.some((edge) => found(text(one.graph, edge))) && !one.graph.nodes.some((node) => found(node.id.toLowerCase()));
  }
}

function scale(factor) {
  zoom = Math.min(4, Math.max(0.25, zoom * factor));
  const svg = byId("picture").querySelector("svg");
  const { drawing } = data.views[view];
  if (svg) {
    svg.setAttribute("width", drawing.width * zoom);
    svg.setAttribute("height", drawing.height * zoom);
  }
}

byId("search").addEventListener("input", search);
byId("smaller").addEventListener("click", () => scale(0.8));
byId("larger").addEventListener("click", () => scale(1.25));
show();
