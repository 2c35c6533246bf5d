// The Lineage page: what made what, from left to right, and all that is known of the part that is chosen.

const LANES = { rankings: "Rankings", demonstrations: "Demonstrations", reward: "Reward model", base: "Base", sft: "SFT", ppo: "PPO", imported: "Imported", human: "People" };

class LineagePage {
  constructor(root) {
    this.said = make("p", { role: "status" });
    this.graph = make("div", { class: "li-graph" });
    this.detail = make("section", { class: "li-detail", "aria-live": "polite", "aria-label": "The chosen part" });
    root.append(make("h1", {}, "Lineage"), make("p", { class: "tr-about" }, "What made each policy and reward model, from left to right. Choose one to see its data, options and numbers, to download its run, or to run it once more."),
      this.said, make("div", { class: "tr-wide", tabindex: "0", role: "region", "aria-label": "Graph" }, this.graph), this.detail);
    new ResizeObserver(() => this.drawEdges()).observe(this.graph);
    addEventListener("hashchange", () => this.choose(decodeURIComponent(location.hash.slice(1))));
  }

  async load() {
    const reply = await request("/api/lineage");
    if (reply.status === 401) return goToLogin();
    if (reply.status !== 200) {
      this.said.textContent = reply.data.error ?? "The server does not answer; this page tries again.";
      setTimeout(() => this.load(), 2000);
      return undefined;
    }
    this.said.textContent = reply.data.nodes.length ? "" : "There is no policy yet; import responses, or start `trainer worker`.";
    this.nodes = new Map(reply.data.nodes.map((node) => [node.id, node]));
    this.edges = reply.data.edges;
    this.draw();
    return this.choose(decodeURIComponent(location.hash.slice(1)));
  }

  /** Columns: each part stands right of all that made it. */
  draw() {
    const column = new Map();
    const depth = (ident, seen = new Set()) => {
      if (column.has(ident)) return column.get(ident);
      if (seen.has(ident)) return 0;
      const made = this.edges.filter((edge) => edge.to === ident).map((edge) => depth(edge.from, new Set([...seen, ident])));
      column.set(ident, made.length ? 1 + Math.max(...made) : 0);
      return column.get(ident);
    };
    const columns = [];
    for (const node of [...this.nodes.values()].sort((a, b) => a.created - b.created)) (columns[depth(node.id)] ??= []).push(node);
    this.buttons = new Map();
    this.lines = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.lines.setAttribute("class", "li-lines");
    this.lines.setAttribute("aria-hidden", "true");
    this.graph.replaceChildren(this.lines, ...columns.filter(Boolean).map((nodes) => make("div", { class: "li-column" }, ...nodes.map((node) => this.button(node)))));
    this.drawEdges();
  }

  button(node) {
    const marks = [...(node.answers?.length ? [make("span", { class: "li-now" }, `answers in ${node.answers.join(", ")}`)] : []), ...(node.missing ? [make("span", { class: "tr-bad" }, "its files are missing")] : [])];
    const button = make("button", { type: "button", class: `li-node li-${node.kind}`, onclick: () => { location.hash = encodeURIComponent(node.id); } },
      make("span", { class: "li-kind" }, LANES[node.stage] ?? node.stage), make("span", { class: "li-name" }, node.name), ...marks);
    this.buttons.set(node.id, button);
    return button;
  }

  drawEdges() {
    if (!this.lines) return;
    const frame = this.graph.getBoundingClientRect();
    this.lines.setAttribute("width", this.graph.scrollWidth);
    this.lines.setAttribute("height", this.graph.scrollHeight);
    this.lines.replaceChildren(...this.edges.map(({ from, to }) => {
      const [start, end] = [this.buttons.get(from).getBoundingClientRect(), this.buttons.get(to).getBoundingClientRect()];
      const [x1, y1] = [start.right - frame.left, start.top + start.height / 2 - frame.top];
      const [x2, y2] = [end.left - frame.left, end.top + end.height / 2 - frame.top];
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", `M ${x1} ${y1} C ${x1 + 36} ${y1}, ${x2 - 36} ${y2}, ${x2} ${y2}`);
      if (from === this.chosen || to === this.chosen) path.setAttribute("class", "li-near");
      return path;
    }));
  }

  choose(ident) {
    const node = this.nodes?.get(ident);
    this.chosen = node?.id;
    for (const [id, button] of this.buttons ?? []) button.setAttribute("aria-pressed", String(id === this.chosen));
    this.drawEdges();
    this.detail.replaceChildren(...(node ? this.about(node) : []));
  }

  about(node) {
    const names = (edges, end) => edges.map((edge) => this.nodes.get(edge[end])).map((other) => make("a", { href: `${location.pathname}#${encodeURIComponent(other.id)}` }, `${LANES[other.stage] ?? other.stage} ${other.name}`));
    const from = names(this.edges.filter((edge) => edge.to === node.id), "from");
    const to = names(this.edges.filter((edge) => edge.from === node.id), "to");
    const parts = [make("h2", {}, `${LANES[node.stage] ?? node.stage}: ${node.name}`)];
    if (from.length) parts.push(make("p", {}, "Made of: ", ...between(from)));
    if (to.length) parts.push(make("p", {}, "Went into: ", ...between(to)));
    parts.push(make("dl", { class: "tr-facts" }, ...[["Made", whenText(node.created)], ...node.facts].map(pairOf)));
    if (node.annotators?.length) parts.push(make("h3", {}, "Whose rankings"), tableOf(["Annotator", "Rankings"], node.annotators));
    if (node.samplers?.length) {
      parts.push(make("h3", {}, "How its answers were drawn"), tableOf(["Temperature", "Top p", "Most tokens", "Answers"],
        node.samplers.map((one) => [one.temperature, one.top_p, one.max_new_tokens, one.responses])));
    }
    if (node.run) parts.push(make("p", {}, make("a", { href: at(`/api/runs/${encodeURIComponent(node.run)}/run.zip`), download: "" }, "Download the run's folder without its checkpoints (zip)")));
    if (node.report) parts.push(make("p", {}, make("a", { href: at(`/api/runs/${encodeURIComponent(node.run)}/report`), target: "_blank", rel: "noopener" }, "The report of the run")));
    if (node.command) parts.push(make("h3", {}, "The command that makes it once more"), commandOf(node.command));
    if (node.config) parts.push(make("details", {}, make("summary", {}, "Options and versions"), make("dl", { class: "tr-options" }, ...Object.entries({ ...node.config, ...node.versions }).map(pairOf))));
    return parts;
  }
}

function pairOf([name, value]) {
  return make("div", {}, make("dt", {}, name), make("dd", {}, String(value)));
}

function between(nodes) {
  return nodes.flatMap((node, i) => (i ? [", ", node] : [node]));
}

function tableOf(heads, rows) {
  return make("table", { class: "li-table" }, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, String(cell)))))));
}
