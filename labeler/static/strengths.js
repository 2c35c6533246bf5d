// How much better each rank is than the next.

const STRENGTH_STEPS = { ArrowLeft: -1, ArrowRight: 1 };

class Strengths {
  /** `changed()` is called after each change of the answer. */
  constructor(answer, changed) {
    this.answer = answer;
    this.changed = changed;
    this.rows = make("div", { class: "rb-gaps" });
    this.node = make("section", { class: "rb-strengths", "aria-label": t("strength.title") }, make("h2", {}, t("strength.title")), this.rows);
    this.drawn = "";
  }

  /** A row for each two neighbours; drawn anew only when the tiers have changed, so that the focus stays. */
  show() {
    const { answer } = this;
    const tiers = answer.mode === "ranking" && answer.task.options.strengths ? answer.ranking.tiers() : [];
    this.node.hidden = tiers.length < 2;
    const names = tiers.map((tier) => tier.map((id) => answer.ranking.letter(id)).join(" = "));
    if (this.drawn !== names.join(">")) {
      this.drawn = names.join(">");
      this.rows.replaceChildren(...names.slice(1).map((worse, gap) => this.row(gap, names[gap], worse)));
    }
    this.rows.querySelectorAll(".rb-gap").forEach((row, gap) =>
      showChosen(row.querySelectorAll(".rb-strength"), (answer.strength(gap) ?? 0) - 1));
  }

  row(gap, better, worse) {
    const buttons = [1, 2, 3, 4].map((value) => make("button", {
      type: "button", class: "rb-strength", role: "radio", "aria-checked": "false", "data-value": value, onclick: () => this.choose(gap, value),
    }, t(`strength.${value}`)));
    const row = make("div", { class: "rb-gap", role: "radiogroup", "aria-label": t("strength.of", { better, worse }) },
      make("span", { class: "rb-gap-name", "aria-hidden": "true" }, `${better} > ${worse}`), ...buttons);
    row.addEventListener("keydown", (event) => moveAmong(buttons, event, STRENGTH_STEPS));
    return row;
  }

  choose(gap, value) {
    this.answer.setStrength(gap, value);
    this.show();
    this.changed();
  }
}
