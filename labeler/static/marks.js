// What may be said of one response beside its rank: flags and a rating.

const RATING_STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };

class Marks {
  /** `changed()` is called after each change of the answer. */
  constructor(answer, id, letter, changed) {
    this.answer = answer;
    this.id = id;
    this.changed = changed;
    const { flags, rating } = answer.task.options;
    this.chips = flags.map((name) => this.chip(name));
    this.opener = make("button", {
      type: "button", class: "rb-quiet rb-flag-opener", "aria-expanded": "false", "aria-label": t("card.flagsOf", { letter }),
      title: t("card.flagsTitle"), tabindex: "-1", onclick: () => this.toggle(),
    }, t("card.flags"));
    this.row = make("div", { class: "rb-chips", role: "group", "aria-label": t("card.flagsOf", { letter }) }, ...this.chips);
    this.ratings = rating ? Array.from({ length: 7 }, (_, i) => this.ratingButton(i + 1)) : [];
    this.node = make("div", { class: "rb-marks" });
    if (flags.length) this.node.append(this.opener, this.row);
    if (rating) {
      this.node.append(make("div", { class: "rb-rating", role: "radiogroup", "aria-label": t("card.ratingOf", { letter }) },
        make("span", { class: "rb-rating-label", "aria-hidden": "true" }, t("card.rating")), ...this.ratings));
      this.node.addEventListener("keydown", (event) => moveAmong(this.ratings, event, RATING_STEPS));
    }
    this.open = false;
  }

  chip(name) {
    return make("button", {
      type: "button", class: "rb-flag", "data-flag": name, "aria-pressed": "false", title: textOr(`flag.${name}.title`, name),
      onclick: () => this.change(() => this.answer.toggleFlag(this.id, name)),
    }, textOr(`flag.${name}`, name));
  }

  ratingButton(value) {
    return make("button", {
      type: "button", class: "rb-rate", role: "radio", "aria-checked": "false", "aria-label": String(value),
      onclick: () => this.change(() => this.answer.setRating(this.id, value)),
    }, String(value));
  }

  change(action) {
    action();
    this.show();
    this.changed();
  }

  /** Show all chips and go to the first, or only those that are set. */
  toggle() {
    if (!this.chips.length) return;
    this.open = !this.open;
    this.show();
    if (this.open) this.chips[0].focus();
    else this.node.closest(".rb-card").querySelector('.rb-rank[tabindex="0"]').focus();
  }

  show() {
    const flags = this.answer.flags.get(this.id);
    this.opener.setAttribute("aria-expanded", String(this.open));
    for (const chip of this.chips) {
      const set = flags.has(chip.dataset.flag);
      chip.setAttribute("aria-pressed", String(set));
      chip.hidden = !this.open && !set;
    }
    showChosen(this.ratings, (this.answer.ratings.get(this.id) ?? 0) - 1);
  }
}
