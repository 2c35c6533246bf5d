// The ranking board: one task at a time, drawn from /api/next, answered through the outbox.

const POLL_MS = 5000;
const AHEAD_DELAY_MS = 150;
const FAILURES = { "/api/submit": "state.notSaved", "/api/skip": "state.notSkipped", "/api/undo": "state.notUndone" };
const DONE = { "/api/submit": "state.saved", "/api/skip": "state.skipped", "/api/undo": "state.undone" };
const TOASTS = { "/api/submit": "toast.saved", "/api/skip": "toast.skipped", "/api/undo": "" };

class Board {
  constructor(root) {
    this.root = root;
    this.watch = new Stopwatch();
    this.task = null;
    this.desk = null;
    this.status = new Status(() => this.retry(), () => this.undo());
    this.elsewhere = new Elsewhere(this);
    this.lease = new LeaseClock({ ...this.elsewhere.onLease, idleMs: () => this.watch.idleMs() });
    this.skipDialog = skipDialog((reason, verdict) => this.decline({ reason, verdict }));
    this.unchangedDialog = unchangedDialog(() => this.submit(true));
    this.keyDialog = keyDialog();
    this.goldDialog = goldDialog();
    this.frame = drawFrame(root, this.status, {
      submit: () => this.submit(), undo: () => this.undo(), skip: () => this.skip(), allBad: () => this.allBad(),
      toggleKeys: () => this.toggleKeys(), help: () => this.keyDialog.open(),
    });
    this.margins = new Margins(root, this.frame.bar);
    root.append(this.skipDialog.node, this.unchangedDialog.node, this.keyDialog.node, this.goldDialog.node);
  }

  // 1. Who ranks, what waits from last time, what is next.

  async start() {
    const reply = await request("/api/me");
    if (isOutage(reply)) return this.again(() => this.start());
    if (reply.status === 401) return goToLogin();
    this.attempt = 0;
    const { name, settings } = reply.data;
    this.setKeys(settings?.single_keys ?? recall("rankloop.single_keys") ?? true);
    this.drafts = new Drafts(name, (...state) => this.reportDraft(...state), (job, kept) => this.elsewhere.draftStored(job, kept));
    this.outbox = new Outbox(name, (...state) => this.report(...state), (entry, answer) => this.answered(entry, answer));
    this.tabs = new Tabs(name, (message) => this.elsewhere.heard(message));
    this.tools = new Tools(this, reply.data);
    this.frame.options.after(this.tools.node);
    this.listen();
    if (this.outbox.waiting) this.outbox.send();
    else await this.load();
    return this.tools.start(settings?.tour);
  }

  listen() {
    const desk = (action) => () => this.desk && action(this.desk);
    listenToKeys({
      root: this.root, help: () => this.keyDialog.open(), singleKeys: () => this.singleKeys, submit: () => this.submit(), back: desk((one) => one.focus()),
      digit: (digit) => this.desk?.digit(digit), move: (...step) => this.desk?.move(...step),
      withAlt: {
        ...this.tools.withAlt,
        KeyU: () => this.undo(), KeyS: () => this.skip(), KeyB: () => this.allBad(),
        KeyK: () => this.toggleKeys(), KeyH: () => this.keyDialog.open(), KeyR: desk((one) => one.cards[one.current].toggleRaw()),
        KeyF: desk((one) => one.cards[one.current].marks.toggle()), KeyE: desk((one) => one.notes.openReason()), KeyW: desk((one) => one.notes.begin()),
      },
    });
    const touch = () => this.watch.touch();
    for (const kind of ["keydown", "pointerdown", "pointermove", "wheel", "scroll"]) document.addEventListener(kind, touch, { passive: true });
    for (const kind of ["focus", "blur"]) window.addEventListener(kind, touch);
    window.addEventListener("focus", () => this.elsewhere.sync());
    document.addEventListener("visibilitychange", () => (touch(), this.poll(), this.elsewhere.sync()));
    window.addEventListener("online", () => this.status.kind === "offline" && this.retry());
    window.addEventListener("pagehide", () => this.drafts.flush());
  }

  async load() {
    if (this.loading) return;
    this.loading = true;
    const reply = await request("/api/next");
    this.loading = false;
    if (isOutage(reply)) return this.again(() => this.load());
    if (reply.status === 401) return goToLogin();
    this.attempt = 0;
    if (reply.status >= 400) return this.report("failed", errorText(reply));
    this.show(reply.data);
    const restored = this.desk?.answer.placed ? t("state.draftRestored") : "";
    if (!this.drafts.job && (restored || this.status.kind === "offline" || !this.status.kind)) this.report("idle", restored);
  }

  again(action) {
    this.report("offline", t("state.offlineLoading"));
    this.attempt = (this.attempt ?? 0) + 1;
    this.later(action, backOff(this.attempt));
  }

  /** One thing waits for its time, or for Retry. */
  later(action, ms) {
    clearTimeout(this.timer);
    this.postponed = () => (clearTimeout(this.timer), (this.postponed = null), action());
    this.timer = setTimeout(this.postponed, ms);
  }

  /** Look for work; not from a hidden tab, which would take a comparison out of the others' reach. */
  poll() {
    if (this.task || !this.outbox || this.outbox.waiting || document.visibilityState !== "visible") return;
    this.load();
  }

  // 2. A task, or why there is none.

  show(next) {
    clearTimeout(this.timer);
    this.postponed = null;
    this.frame.progress.replaceChildren(...drawProgress(next.progress));
    this.root.dataset.state = next.state;
    this.tools.enter(next.study);
    this.ahead = null;
    if (next.task) return this.showTask(next.task, next.now);
    this.task = this.desk = null;
    this.lease.stop();
    this.frame.lanes.replaceChildren();
    this.refresh();
    if (next.state === "consent") return void drawConsent(this.frame.stage, next.study, () => this.load().then(() => this.tools.offerTour()));
    this.frame.stage.replaceChildren(drawRest(next.state));
    return this.later(() => this.poll(), POLL_MS);
  }

  showTask(task, now) {
    const draft = this.drafts.restore(task, now);
    this.task = task;
    this.known = task.draft?.saved ?? 0;
    this.clock = { now, at: Date.now() };
    this.lease.set(task.expires, now);
    this.watch.reset(draft.active_ms);
    this.drawDesk(draft);
    window.scrollTo(0, 0);
    this.desk.cards[0].focus({ preventScroll: true });
    if (draft.unsent) this.keep();
    this.lookAhead();
  }

  drawDesk(draft) {
    this.desk = new Desk(this.task, draft, () => this.singleKeys, {
      changed: () => this.keep(), redrawn: () => this.drawn(), say: (text) => this.status.say(text), keepOld: () => this.keepOld(),
    });
    this.frame.stage.replaceChildren(this.desk.prompt, this.desk.body);
    const turns = this.desk.prompt.querySelector(".rb-turns");
    turns.scrollTop = turns.scrollHeight;
    this.margins.watch(this.desk.prompt);
    this.drawn();
    this.refresh();
  }

  /** The cards are new: their lanes, and what their texts need. */
  drawn() {
    this.frame.lanes.replaceChildren(...(this.desk.lanes ? [this.desk.lanes.node] : []));
    this.tools.shown(this.task);
  }

  /** The server's clock, in seconds, as far as it is known. */
  serverNow() {
    return this.clock.now + (Date.now() - this.clock.at) / 1000;
  }

  /** Fetch what comes next, so that it is there at once after this one. */
  lookAhead() {
    const { lease } = this.task;
    clearTimeout(this.aheadTimer);
    this.aheadTimer = setTimeout(async () => {
      if (this.task?.lease !== lease || this.outbox.waiting) return;
      const reply = await request("/api/ahead");
      if (reply.status === 200 && this.task?.lease === lease) this.ahead = reply.data;
    }, AHEAD_DELAY_MS);
  }

  // 3. What the annotator says.

  /** Whether the answer to what is shown, or an undo, is on its way. */
  get busy() {
    return !this.outbox || this.outbox.concerns(this.task?.comparison ?? "");
  }

  /** Something was said: keep it here and on the server, and tell other tabs. */
  keep() {
    const draft = this.desk.answer.draft();
    this.drafts.keep(this.task, draft, this.watch.read());
    this.tabs.tell({ kind: "draft", comparison: this.task.comparison, draft });
    this.refresh();
  }

  refresh() {
    const { submit, skip, allBad, undo, echo, bar } = this.frame;
    const answer = this.desk?.answer;
    bar.classList.toggle("resting", !answer);
    const placed = answer?.placed ?? 0;
    const values = { placed, total: answer?.wanted ?? 0 };
    const complete = answer?.complete ?? false;
    echo.textContent = placed ? answer.echo() : answer ? t("board.nothingRanked") : "";
    echo.classList.toggle("empty", !placed);
    submit.textContent = complete || !answer ? t("board.submit") : t("board.submitProgress", values);
    submit.disabled = !complete || this.busy;
    skip.disabled = allBad.disabled = !answer || this.busy;
    undo.disabled = !this.outbox || this.outbox.waiting;
    this.desk?.lock(this.busy);
    this.root.classList.toggle("rb-locked", this.status.kind === "offline" && this.busy);
  }

  // 4. Answers.

  submit(sure = false) {
    if (!this.desk || this.busy) return;
    const { answer } = this.desk;
    if (!answer.complete) return this.status.say(t("say.open", { placed: answer.placed, total: answer.wanted }));
    if (answer.rewriteIsStale) return this.desk.notes.rewrite.focus();
    if (!sure && answer.mode === "ranking" && answer.ids.length > 2 && answer.ranking.asShown) return this.unchangedDialog.open();
    return this.send("/api/submit", answer.body());
  }

  skip() {
    if (this.desk && !this.busy) this.skipDialog.open();
  }

  /** None is acceptable: an answer of its own, without an order. */
  allBad() {
    if (this.desk && !this.busy) this.send("/api/submit", { tiers: [], all_bad: true, ...this.desk.answer.marks() });
  }

  decline(what) {
    if (!this.desk || this.busy) return;
    this.send("/api/skip", { ...this.desk.answer.marks(), ...what });
  }

  undo() {
    if (!this.outbox || this.outbox.waiting) return;
    this.drafts.stop();
    this.outbox.put("/api/undo", {});
    this.refresh();
  }

  /** The answer goes out, and what comes next, if it is here already, is shown meanwhile. */
  send(path, what) {
    const { comparison, lease } = this.task;
    this.rejected = null;
    this.drafts.stop();
    this.outbox.put(path, { comparison, lease, active_ms: this.watch.read(), ...what });
    const { ahead } = this;
    this.ahead = null;
    if (!ahead?.task || ahead.task.expires - this.serverNow() < 60) return this.refresh();
    this.tools.enter(ahead.study);
    return this.showTask(ahead.task, this.serverNow());
  }

  /** The server has stored an answer, or refused it. */
  answered(entry, reply) {
    const stored = reply.status < 400 || reply.data.code === "nonce_used";
    if (!stored) return this.refused(entry, reply);
    if (entry.body.comparison) this.drafts.forget(entry.body.comparison);
    this.report("saved", t(DONE[entry.path], { time: clockTime() }));
    this.status.showToast(TOASTS[entry.path] && t(TOASTS[entry.path]), true);
    this.tabs.tell({ kind: "moved" });
    if (this.outbox.waiting) return;
    const { feedback } = reply.data;
    const ranked = feedback && this.task?.comparison === feedback.comparison ? this.task.responses : null;
    this.follow(entry, reply.data.next);
    if (ranked) this.goldDialog.open(feedback, ranked);
  }

  /** Go where the server says, unless that is where we are. */
  follow(entry, next) {
    if (!next) {
      if (this.task?.comparison === entry.body.comparison || entry.path === "/api/undo") this.leave();
      return void this.load();
    }
    if (!next.task || next.task.lease !== this.task?.lease || entry.path === "/api/undo") return this.show(next);
    this.frame.progress.replaceChildren(...drawProgress(next.progress));
    this.lease.set(next.task.expires, next.now);
    this.clock = { now: next.now, at: Date.now() };
    this.lookAhead();
    return this.refresh();
  }

  /** It is stored: nothing more can be done with it. */
  leave() {
    this.task = this.desk = null;
    this.lease.stop();
  }

  async refused(entry, reply) {
    const { comparison, lease } = entry.body;
    if (reply.data.code === "not_leased" && !entry.again) {
      // The time ran out while the answer waited for the network: it may have been renewed for its annotator.
      const renewed = await request("/api/renew", { comparison, lease });
      if (renewed.status === 200) return this.outbox.put(entry.path, { ...entry.body, lease: renewed.data.lease }, true);
    }
    this.report("failed", t(FAILURES[entry.path], { error: errorText(reply) }));
    this.rejected = entry.path === "/api/undo" ? null : { entry, code: reply.data.code };
    if (this.task?.comparison !== comparison && entry.path !== "/api/undo") this.leave();
    if (!this.task) await this.load();
    this.refresh();
  }

  /** What the Retry button does, and the return of the network. */
  retry() {
    const { rejected } = this;
    this.rejected = null;
    if (this.postponed) return this.postponed();
    if (this.outbox?.waiting) return this.outbox.send();
    if (this.drafts?.job) return this.drafts.retry();
    if (this.status.kind !== "failed") return undefined;
    if (!rejected || rejected.code === "not_leased" || rejected.entry.body.comparison !== this.task?.comparison) return this.load();
    const { nonce, lease, ...what } = rejected.entry.body;
    return this.send(rejected.entry.path, what);
  }

  /** Leave an answer that was opened again as it was. */
  async keepOld() {
    const { comparison, lease } = this.task;
    this.drafts.stop();
    const reply = await request("/api/release", { comparison, lease });
    if (reply.status >= 400 || reply.status === 0) return this.report("failed", errorText(reply));
    this.drafts.forget(comparison);
    this.tabs.tell({ kind: "moved" });
    this.report("idle", "");
    return this.show(reply.data.next);
  }

  // 5. What the annotator is told, and their settings.

  report(kind, text, button = null) {
    this.status.report(kind, text, button);
    this.refresh();
  }

  /** While an answer is on its way, nothing says Saved. */
  reportDraft(kind, text) {
    if (this.rejected && (kind === "saving" || kind === "saved")) return; // why the answer was refused stays to be read
    if (kind !== "saved" || !this.outbox.waiting) this.report(kind, text);
  }

  setKeys(on) {
    this.singleKeys = on;
    this.frame.keysSwitch.setAttribute("aria-checked", String(on));
    remember("rankloop.single_keys", on);
  }

  toggleKeys() {
    this.setKeys(!this.singleKeys);
    this.status.say(t(this.singleKeys ? "board.singleKeysOn" : "board.singleKeysOff"));
    request("/api/settings", { single_keys: this.singleKeys });
  }
}
