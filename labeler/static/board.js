// The ranking board: one task at a time, drawn from /api/next, answered through the outbox.

const POLL_MS = 5000;
const TOAST_MS = 6000;
const FAILURES = { "/api/submit": "Not saved", "/api/skip": "Not skipped", "/api/undo": "Not undone" };

class Board {
  constructor(root) {
    this.root = root;
    this.watch = new Stopwatch();
    this.task = null;
    this.current = 0;
    this.draw();
  }

  // 1. The frame, drawn once.
  draw() {
    this.progress = make("p", { class: "rb-progress" });
    this.stage = make("div", { class: "rb-stage" });
    this.echo = make("p", { class: "rb-echo" });
    this.state = make("span", { class: "rb-state", role: "status" }, "Loading…");
    this.retryButton = make("button", { type: "button", class: "rb-quiet", hidden: true, onclick: () => this.retry() }, "Retry");
    this.submitButton = this.button("rb-button rb-submit", "Submit", () => this.submit());
    this.undoButton = this.button("rb-quiet", "Undo", () => this.undo(), "Undo the last submit or skip (Alt+U)");
    this.skipButton = this.button("rb-quiet", "Skip…", () => this.skip(), "Skip, with a reason (Alt+S)");
    this.keysSwitch = this.button("rb-switch", "Single keys", () => this.toggleKeys(), "Digits and Enter act on the board (Alt+K)");
    this.keysSwitch.setAttribute("role", "switch");
    this.live = make("div", { class: "rb-unseen", "aria-live": "polite" });
    this.toast = make("div", { class: "rb-toast", hidden: true }, "Saved.",
      this.button("rb-quiet", "Undo", () => this.undo()));
    this.skipDialog = skipDialog((reason) => this.send("/api/skip", { reason }));
    this.keyDialog = keyDialog();
    this.bar = make("div", { class: "rb-bar", role: "group", "aria-label": "Your ranking" },
      make("div", { class: "rb-bar-text" }, this.echo, make("p", { class: "rb-saving" }, this.state, this.retryButton)),
      make("div", { class: "rb-actions" }, this.undoButton, this.skipButton, this.submitButton));
    this.root.append(
      make("div", { class: "rb-top" }, make("h1", {}, "Rank the responses"), this.progress,
        make("div", { class: "rb-options" }, this.keysSwitch,
          this.button("rb-quiet", "Keys", () => this.keyDialog.open(), "Show all keys (Alt+H)"))),
      this.stage, this.bar, this.toast, this.live, this.skipDialog.node, this.keyDialog.node);
  }

  button(name, text, onclick, title) {
    return make("button", { type: "button", class: name, title, onclick }, text);
  }

  // 2. Who ranks, what waits from last time, what is next.
  async start() {
    const reply = await request("/api/me");
    if (isOutage(reply)) return this.again(() => this.start());
    if (reply.status === 401) return goToLogin();
    this.attempt = 0;
    this.setKeys(reply.data.settings?.single_keys ?? recall("rankloop.single_keys") ?? true);
    this.drafts = new Drafts(reply.data.name, (...state) => this.report(...state));
    this.outbox = new Outbox(reply.data.name, (...state) => this.report(...state), (entry, answer) => this.answered(entry, answer));
    this.listen();
    if (this.outbox.waiting) this.outbox.send();
    else this.load();
  }

  listen() {
    listenToKeys({
      root: this.root, singleKeys: () => this.singleKeys, rank: (rank) => this.rank(this.current, rank),
      move: (...step) => this.move(...step), submit: () => this.submit(), undo: () => this.undo(), skip: () => this.skip(),
      toggleKeys: () => this.toggleKeys(), help: () => this.keyDialog.open(), raw: () => this.cards[this.current]?.toggleRaw(),
    });
    const touch = () => this.watch.touch();
    for (const kind of ["keydown", "pointerdown", "pointermove", "wheel", "scroll"]) document.addEventListener(kind, touch, { passive: true });
    for (const kind of ["focus", "blur"]) window.addEventListener(kind, touch);
    document.addEventListener("visibilitychange", () => (touch(), this.poll()));
    window.addEventListener("online", () => this.kind === "offline" && this.retry());
  }

  async load() {
    if (this.loading) return;
    this.loading = true;
    const reply = await request("/api/next");
    this.loading = false;
    if (isOutage(reply)) return this.again(() => this.load());
    if (reply.status === 401) return goToLogin();
    this.attempt = 0;
    if (reply.status >= 400) return this.report("failed", reply.data.error ?? "The server refused to give a task");
    this.show(reply.data);
    const restored = this.ranking?.placed ? "Draft restored" : "";
    if (restored || this.kind === "offline" || !this.kind) this.report("idle", restored);
  }

  again(action) {
    this.report("offline", "Offline – retrying");
    this.attempt = (this.attempt ?? 0) + 1;
    this.later(action, backOff(this.attempt));
  }

  /** One thing waits for its time, or for Retry. */
  later(action, ms) {
    clearTimeout(this.timer);
    this.postponed = () => (clearTimeout(this.timer), (this.postponed = null), action());
    this.timer = setTimeout(this.postponed, ms);
  }

  // 3. A task, or why there is none.
  show(next) {
    clearTimeout(this.timer);
    this.postponed = null;
    this.showProgress(next.progress);
    this.task = next.task;
    this.cards = [];
    this.root.dataset.state = next.state;
    this.bar.classList.toggle("resting", !next.task);
    if (next.task) this.showTask(next.task);
    else this.showRest(next.state);
    this.refresh();
  }

  showTask(task) {
    const draft = this.drafts.restore(task);
    this.ranking = new Ranking(task.responses.map((response) => response.id), draft.tiers);
    this.watch.reset(draft.active_ms);
    this.cards = task.responses.map((response, index) => new Card(response, index, task.responses.length,
      (rank) => this.rank(index, rank), () => this.point(index)));
    const grid = make("div", { class: "rb-cards", "data-count": task.responses.length, "data-columns": columnsFor(task.responses.length) },
      ...this.cards.map((card) => card.node));
    const prompt = drawPrompt(task.prompt);
    this.stage.replaceChildren(prompt,
      make("p", { class: "rb-hint" }, "1 is the best. Give two responses the same rank if neither is better."), grid);
    const turns = prompt.querySelector(".rb-turns");
    turns.scrollTop = turns.scrollHeight;
    this.measure(prompt);
    this.point(0);
    this.refresh();
    window.scrollTo(0, 0);
    this.cards[0].focus({ preventScroll: true });
  }

  /** Keep what lies under the pinned prompt and bar out of the way when a card is scrolled into view. */
  measure(prompt) {
    this.sizes?.disconnect();
    this.sizes = new ResizeObserver(() => {
      this.root.style.setProperty("--prompt-height", `${prompt.offsetHeight}px`);
      this.root.style.setProperty("--bar-height", `${this.bar.offsetHeight}px`);
    });
    this.sizes.observe(prompt);
    this.sizes.observe(this.bar);
  }

  showRest(state) {
    this.ranking = null;
    const [title, text] = state === "paused"
      ? ["This study is paused", "Nothing is lost. Ranking goes on here as soon as the study does; this page looks again every 5 s."]
      : ["Nothing to rank right now", "New answers are being sampled; this page looks again every 5 s."];
    this.stage.replaceChildren(make("div", { class: "rb-rest" }, make("h2", {}, title), make("p", {}, text)));
    this.later(() => this.poll(), POLL_MS);
  }

  /** Look for work; not from a hidden tab, which would take a comparison out of the others' reach. */
  poll() {
    if (this.task || !this.outbox || this.outbox.waiting || document.visibilityState !== "visible") return;
    this.load();
  }

  showProgress(progress) {
    const parts = [[progress.mine_today, "today"], [progress.mine, "by you"], [progress.team, "by all"], [progress.waiting, "waiting"]];
    this.progress.replaceChildren(...parts.map(([number, what]) =>
      make("span", {}, make("b", {}, Number(number).toLocaleString()), ` ${what}`)));
  }

  // 4. Ranking.
  get busy() {
    return !this.outbox || this.outbox.waiting;
  }

  rank(index, rank) {
    if (!this.task || this.busy || rank > this.cards.length) return;
    const { ids } = this.ranking;
    this.ranking.toggle(ids[index], rank);
    this.drafts.keep(this.task, this.ranking, this.watch.read());
    this.refresh();
    const got = this.ranking.rank(ids[index]);
    const letter = this.cards[index].letter;
    this.say(got === null ? `Response ${letter} has no rank` : `Response ${letter} has rank ${got} of ${ids.length}`);
    const target = got === null ? index : this.ranking.nextOpen(index);
    this.cards[target].focus(target === index ? { preventScroll: true } : {});
  }

  point(index) {
    this.current = index;
    this.cards.forEach((card, place) => card.node.classList.toggle("current", place === index));
  }

  move(across, down) {
    if (!this.cards.length) return;
    if (across && !this.singleKeys) return this.cards[this.current].moveWithin(across);
    const grid = this.stage.querySelector(".rb-cards");
    const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
    const target = this.current + across + down * (this.singleKeys ? columns : 1);
    if (this.cards[target]) this.cards[target].focus();
  }

  refresh() {
    const placed = this.ranking?.placed ?? 0;
    const total = this.cards.length;
    const complete = total > 0 && placed === total;
    this.cards.forEach((card, index) => card.show(this.ranking.rank(this.ranking.ids[index])));
    this.echo.textContent = placed ? this.ranking.echo() : total ? "Nothing ranked yet" : "";
    this.echo.classList.toggle("empty", !placed);
    this.submitButton.textContent = complete ? "Submit" : total ? `${placed} of ${total} ranked` : "Submit";
    this.submitButton.disabled = !complete || this.busy;
    this.skipButton.disabled = !total || this.busy;
    this.undoButton.disabled = this.busy;
    this.root.classList.toggle("rb-locked", this.kind === "offline" && this.busy);
  }

  // 5. Answers.
  submit() {
    if (!this.task || this.busy) return;
    if (!this.ranking.complete) return this.say(`${this.ranking.placed} of ${this.cards.length} responses have a rank`);
    this.send("/api/submit", { tiers: this.ranking.tiers() });
  }

  skip() {
    if (this.task && !this.busy) this.skipDialog.open();
  }

  undo() {
    if (this.busy) return;
    this.drafts.stop();
    this.outbox.put("/api/undo", {});
    this.refresh();
  }

  send(path, what) {
    const { comparison, lease } = this.task;
    this.drafts.stop();
    this.outbox.put(path, { comparison, lease, active_ms: this.watch.read(), ...what });
    this.refresh();
  }

  /** The server has stored an answer, or refused it. */
  answered(entry, reply) {
    const stored = reply.status < 400 || reply.data.code === "nonce_used";
    if (!stored) return this.refused(entry, reply);
    if (entry.body.comparison) this.drafts.forget(entry.body.comparison);
    const undone = entry.path === "/api/undo";
    this.report("saved", undone ? `Undone ${clockTime()}` : entry.path === "/api/skip" ? `Skipped ${clockTime()}` : `Saved ${clockTime()}`);
    this.showToast(undone ? "" : entry.path === "/api/skip" ? "Skipped." : "Saved.");
    if (this.outbox.waiting) return;
    if (reply.data.next) return this.show(reply.data.next);
    this.task = null; // it is stored: nothing more can be done with it
    this.load();
  }

  refused(entry, reply) {
    this.report("failed", `${FAILURES[entry.path]}: ${reply.data.error ?? "the server refused it."}`, reply.data.code);
    this.rejected = entry.path === "/api/undo" ? null : { entry, code: reply.data.code };
    if (!this.task) this.load();
    this.refresh();
  }

  /** What the Retry button does, and the return of the network. */
  retry() {
    const rejected = this.rejected;
    this.rejected = null;
    if (this.postponed) return this.postponed();
    if (this.outbox?.waiting) return this.outbox.send();
    if (this.drafts?.job) return this.drafts.retry();
    if (this.kind !== "failed") return;
    if (!rejected || rejected.code === "not_leased" || rejected.entry.body.comparison !== this.task?.comparison) return this.load();
    const { tiers, reason } = rejected.entry.body;
    this.send(rejected.entry.path, tiers ? { tiers } : { reason });
  }

  // 6. What the annotator is told.
  report(kind, text) {
    this.kind = kind;
    this.state.dataset.kind = kind;
    if (this.state.textContent !== text) this.state.textContent = text;
    this.retryButton.hidden = kind !== "offline" && kind !== "failed";
    if (this.cards) this.refresh();
  }

  say(text) {
    this.live.textContent = text;
  }

  showToast(text) {
    clearTimeout(this.toastTimer);
    this.toast.hidden = !text;
    this.toast.firstChild.textContent = text;
    if (text) this.toastTimer = setTimeout(() => (this.toast.hidden = true), TOAST_MS);
  }

  // 7. Settings.
  setKeys(on) {
    this.singleKeys = on;
    this.keysSwitch.setAttribute("aria-checked", String(on));
    remember("rankloop.single_keys", on);
  }

  toggleKeys() {
    this.setKeys(!this.singleKeys);
    this.say(`Single keys are ${this.singleKeys ? "on" : "off"}`);
    request("/api/settings", { single_keys: this.singleKeys });
  }
}
