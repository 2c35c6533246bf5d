// What may be said of the whole comparison: a reason, and a better version of the best response.

const REWRITE_MAX = 20000; // as labeler/bodies.py has it
const REASON_MAX = 2000;

class Notes {
  /** `changed()` is called after each change of the answer. */
  constructor(answer, changed) {
    this.answer = answer;
    this.changed = changed;
    this.reason = make("textarea", { class: "rb-field", rows: "2", maxlength: REASON_MAX, dir: "auto", "aria-label": t("notes.reason"), oninput: () => this.said() });
    this.reason.value = answer.reason;
    this.rewriteButton = make("button", { type: "button", class: "rb-quiet", title: t("notes.rewriteTitle"), onclick: () => this.begin() }, t("notes.rewrite"));
    this.problem = make("p", { class: "rb-note-problem", role: "alert", hidden: true });
    this.rewrite = make("textarea", { class: "rb-field rb-rewrite", rows: "8", maxlength: REWRITE_MAX, dir: "auto", oninput: () => this.rewrote() });
    this.diff = make("div", { class: "rb-diff-box" });
    this.editor = make("div", { class: "rb-editor", hidden: true },
      this.title = make("h3", {}), this.rewrite, make("h3", {}, t("notes.diff")), this.diff,
      make("button", { type: "button", class: "rb-quiet", onclick: () => this.discard() }, t("notes.discard")));
    this.node = make("details", { class: "rb-notes" },
      make("summary", {}, t("notes.title"), make("span", { class: "rb-optional" }, ` (${t("notes.optional")})`)),
      make("label", { class: "rb-label" }, t("notes.reason"), this.reason), this.rewriteButton, this.problem, this.editor);
    this.node.open = answer.reason !== "" || answer.rewriteOf !== "";
    if (answer.rewriteOf) this.edit();
  }

  said() {
    this.answer.reason = this.reason.value;
    this.changed();
  }

  original() {
    return this.answer.task.responses.find((response) => response.id === this.answer.rewriteOf);
  }

  /** The best response, if there is one that can be rewritten; else says why not. */
  best() {
    const id = this.answer.placed ? this.answer.tiers()[0]?.[0] : undefined;
    const best = this.answer.task.responses.find((response) => response.id === id && this.answer.ranking.rank(id) === 1);
    const problem = !best ? "notes.rewriteFirst" : best.text.length > REWRITE_MAX ? "notes.rewriteLong" : null;
    this.complain(problem ? t(problem) : "");
    return problem ? null : best;
  }

  complain(text) {
    this.problem.textContent = text;
    this.problem.hidden = !text;
  }

  /** Open the editor with the text of the best response. */
  begin() {
    this.node.open = true;
    if (!this.answer.rewriteOf) {
      const best = this.best();
      if (!best) return this.rewriteButton.focus();
      this.answer.rewriteOf = best.id;
      this.answer.rewrite = best.text;
      this.edit();
    }
    this.rewrite.focus();
  }

  edit() {
    this.rewrite.value = this.answer.rewrite;
    const label = t("notes.rewriteOf", { letter: this.answer.ranking.letter(this.answer.rewriteOf) });
    this.title.textContent = label;
    this.rewrite.setAttribute("aria-label", label);
    this.editor.hidden = false;
    this.rewriteButton.hidden = true;
    this.drawDiff();
  }

  rewrote() {
    this.answer.rewrite = this.rewrite.value;
    this.drawDiff();
    this.changed();
  }

  drawDiff() {
    const before = this.original().text;
    const same = before === this.answer.rewrite;
    this.diff.replaceChildren(same ? make("p", { class: "rb-optional" }, t("notes.unchanged")) : drawDiff(wordDiff(before, this.answer.rewrite)));
  }

  discard() {
    this.answer.rewrite = "";
    this.answer.rewriteOf = "";
    this.editor.hidden = true;
    this.rewriteButton.hidden = false;
    this.complain("");
    this.rewriteButton.focus();
    this.changed();
  }

  /** Say if the rewrite is of what is no longer the best. */
  show() {
    if (!this.answer.rewriteOf) return;
    const stale = this.answer.rewriteIsStale;
    this.complain(stale ? t("notes.stale", { letter: this.answer.ranking.letter(this.answer.rewriteOf) }) : "");
  }

  openReason() {
    this.node.open = true;
    this.reason.focus();
  }
}
