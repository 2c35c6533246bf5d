// An annotator's own answers: read, opened, and opened again to be changed.

class History {
  constructor(root) {
    this.list = make("ol", { class: "rb-answers" });
    this.more = make("button", { type: "button", class: "rb-button", hidden: true, onclick: () => this.load() }, t("history.more"));
    this.state = make("p", { class: "rb-history-state", role: "status" }, t("board.loading"));
    root.append(make("h1", {}, t("history.title")), make("p", { class: "rb-history-text" }, t("history.text")), this.list, this.state, this.more);
    this.count = 0;
  }

  async load() {
    const reply = await request(`/api/history?offset=${this.count}`);
    if (reply.status === 401) return goToLogin();
    if (reply.status !== 200) return void (this.state.textContent = t("history.failed"));
    const { answers, more } = reply.data;
    this.list.append(...answers.map((answer) => this.line(answer)));
    this.count += answers.length;
    this.more.hidden = !more;
    this.state.textContent = this.count ? "" : t("history.none");
  }

  line(answer) {
    const open = make("button", { type: "button", class: "rb-quiet", "aria-expanded": "false" }, t("history.open"));
    const details = make("div", { class: "rb-answer-details", hidden: true });
    open.addEventListener("click", () => this.toggle(answer, open, details));
    const seconds = t("history.seconds", { seconds: Math.round(answer.active_ms / 1000) });
    return make("li", { class: "rb-answer" },
      make("div", { class: "rb-answer-head" },
        make("time", { class: "rb-answer-when" }, new Date(answer.created * 1000).toLocaleString()),
        make("span", { class: "rb-answer-echo", dir: "auto" }, this.said(answer)), make("span", { class: "rb-answer-time" }, seconds), open),
      make("p", { class: "rb-answer-excerpt", dir: "auto" }, answer.excerpt), details);
  }

  said({ kind, verdict, echo, reason }) {
    if (verdict === "all_bad") return t("history.allBad");
    if (kind === "ranking") return echo;
    return t(verdict ? "history.cannotRank" : "history.skipped", { reason });
  }

  async toggle(answer, open, details) {
    const show = details.hidden;
    if (show && !details.childElementCount) {
      const reply = await request(`/api/history/${answer.id}`);
      if (reply.status === 401) return goToLogin();
      if (reply.status !== 200) return void (this.state.textContent = errorText(reply));
      details.append(...this.details(reply.data));
    }
    details.hidden = !show;
    addCopyButtons(details);
    open.setAttribute("aria-expanded", String(show));
    open.textContent = t(show ? "history.close" : "history.open");
  }

  details(answer) {
    const rank = new Map();
    answer.tiers.reduce((before, tier) => (tier.forEach((id) => rank.set(id, before + 1)), before + tier.length), 0);
    const letter = (id) => LETTERS[answer.responses.findIndex((response) => response.id === id)];
    const parts = [drawPrompt(answer.prompt), make("div", { class: "rb-cards", "data-columns": columnsFor(answer.responses.length) },
      ...answer.responses.map((response) => this.card(answer, response, letter(response.id), rank.get(response.id))))];
    if (answer.reason && answer.kind === "ranking") parts.push(make("p", { dir: "auto" }, make("b", {}, `${t("history.reason")}: `), answer.reason));
    if (answer.rewrite) {
      const before = answer.responses.find((response) => response.id === answer.rewrite.original).text;
      parts.push(make("h3", {}, t("history.rewrite", { letter: letter(answer.rewrite.original) })), drawDiff(wordDiff(before, answer.rewrite.text)));
    }
    parts.push(make("button", { type: "button", class: "rb-button rb-answer-edit", onclick: () => this.edit(answer) }, t("history.edit")));
    return parts;
  }

  card(answer, response, letter, rank) {
    const flags = (answer.flags[response.id] ?? []).map((name) => make("span", { class: "rb-flag", "aria-pressed": "true" }, textOr(`flag.${name}`, name)));
    const rating = answer.ratings[response.id];
    return make("section", { class: "rb-card ranked", role: "group", "aria-label": t("card.response", { letter }) },
      make("div", { class: "rb-card-head" }, make("span", { class: "rb-letter" }, letter), make("span", { class: "rb-number" }, rank ?? "–")),
      safeHtml("div", { class: "rb-text", dir: "auto" }, response.html),
      make("div", { class: "rb-marks" }, ...flags, ...(rating ? [make("span", { class: "rb-rating-label" }, `${t("card.rating")} ${rating}`)] : [])));
  }

  async edit(answer) {
    const reply = await request("/api/reopen", { ranking: answer.id });
    if (reply.status === 401) return goToLogin();
    if (reply.status !== 200) return void (this.state.textContent = errorText(reply));
    return location.assign(at("/app/annotate"));
  }
}
