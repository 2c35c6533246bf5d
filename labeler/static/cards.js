// Prompt and response cards of one task.

/** Columns on a wide screen: 2, 3, 2 x 2, then 3. */
function columnsFor(count) {
  return count === 2 || count === 4 ? 2 : 3;
}

/** The conversation, collapsible; its newest turn in view. */
function drawPrompt(messages) {
  const turns = make("div", { class: "rb-turns", tabindex: "0", role: "group", "aria-label": t("prompt.many") }, ...messages.map(drawTurn));
  const fold = make("button", { type: "button", class: "rb-quiet", "aria-expanded": "true" }, t("prompt.hide"));
  const raw = make("button", { type: "button", class: "rb-quiet rb-prompt-raw", "aria-pressed": "false", title: t("prompt.rawTitle") }, t("card.raw"));
  const panel = make("section", { class: "rb-prompt", "aria-label": t("prompt.one") },
    make("div", { class: "rb-prompt-head" },
      make("h2", {}, messages.length > 1 ? t("prompt.many") : t("prompt.one")),
      make("p", { class: "rb-gist", dir: "auto" }, messages[messages.length - 1].text),
      fold, raw),
    turns);
  fold.addEventListener("click", () => {
    const folded = panel.classList.toggle("folded");
    fold.setAttribute("aria-expanded", String(!folded));
    fold.textContent = folded ? t("prompt.show") : t("prompt.hide");
  });
  raw.addEventListener("click", () => {
    const on = raw.getAttribute("aria-pressed") !== "true";
    raw.setAttribute("aria-pressed", String(on));
    for (const node of turns.querySelectorAll(".rb-text, .rb-plain")) node.hidden = node.matches(".rb-text") === on;
  });
  return panel;
}

/** One message; a system prompt can be folded by itself. */
function drawTurn(message) {
  const system = message.role === "system";
  return make(system ? "details" : "div", { class: "rb-turn", "data-role": message.role, open: system },
    make(system ? "summary" : "div", { class: "rb-role" }, textOr(`role.${message.role}`, message.role)),
    safeHtml("div", { class: "rb-text", dir: "auto" }, message.html),
    make("pre", { class: "rb-plain", dir: "auto", hidden: true }, message.text));
}

/** What the buttons of each card say, {value, text, name}, for a way to ask about `count` responses. */
function choicesFor(mode, count, letter) {
  if (mode === "best-worst") return [{ value: 1, text: t("card.best") }, { value: count, text: t("card.worst") }];
  const numbers = Array.from({ length: mode === "pairwise" ? 4 : count }, (_, i) => i + 1);
  if (mode === "ranking") return numbers.map((value) => ({ value, text: String(value), name: t("card.rank", { rank: value }) }));
  return numbers.map((value) => {
    const strength = t(`strength.${value}`);
    return { value, text: strength, name: t("pair.choice", { letter, strength }) };
  });
}

/** One response. `on`: {choose(value), focus(), changed()} for a click on a choice, the focus coming in, flags and rating. */
class Card {
  constructor(answer, index, on) {
    const response = answer.task.responses[index];
    this.id = response.id;
    this.letter = LETTERS[index];
    this.mode = answer.mode;
    this.choices = choicesFor(answer.mode, answer.ids.length, this.letter);
    this.ranks = this.choices.map((choice) => this.choiceButton(choice, on.choose));
    this.number = make("span", { class: "rb-number", "aria-hidden": "true" }, "–");
    this.text = safeHtml("div", { class: "rb-text", dir: "auto" }, response.html);
    this.raw = make("pre", { class: "rb-plain", dir: "auto", hidden: true }, response.text);
    this.rawButton = make("button", {
      type: "button", class: "rb-quiet rb-raw", "aria-pressed": "false", "aria-label": t("card.rawOf", this),
      title: t("card.rawTitle"), tabindex: "-1", onclick: () => this.toggleRaw(),
    }, t("card.raw"));
    this.handle = make("span", { class: "rb-letter", "aria-hidden": "true" }, this.letter);
    this.marks = new Marks(answer, this.id, this.letter, on.changed);
    const label = answer.mode === "pairwise" ? t("pair.better", this) : t("card.rankOf", this);
    const group = make("div", { class: "rb-ranks", role: "radiogroup", "aria-label": label }, ...this.ranks);
    if (answer.mode === "pairwise") group.prepend(make("span", { class: "rb-pair-label", "aria-hidden": "true" }, label));
    this.node = make("section", { class: "rb-card", role: "group", "aria-label": t("card.response", this), "data-letter": this.letter },
      make("div", { class: "rb-card-head" }, this.handle, group, this.rawButton, this.number),
      this.text, this.raw, this.marks.node);
    this.node.addEventListener("focusin", on.focus);
    this.node.addEventListener("click", (event) => this.clicked(event));
    this.show(null, null);
  }

  choiceButton({ value, text, name }, onChoose) {
    const wide = this.mode === "ranking" ? "" : " wide";
    return make("button", {
      type: "button", class: `rb-rank${wide}`, role: "radio", "aria-checked": "false", "aria-label": name, tabindex: "-1",
      onclick: () => onChoose(value),
    }, text);
  }

  /** A click anywhere on the card makes it the one that digits go to, unless it selects text or has its own effect. */
  clicked(event) {
    if (event.target.closest("a, button, .rb-marks") || String(getSelection())) return;
    this.focus({ preventScroll: true });
  }

  toggleRaw() {
    const raw = this.raw.hidden;
    this.raw.hidden = !raw;
    this.text.hidden = raw;
    this.rawButton.setAttribute("aria-pressed", String(raw));
  }

  /** Draw the choice and the rank (null: none); one button, the chosen one or the first, is the card's stop for Tab. */
  show(value, rank) {
    this.number.textContent = this.mode === "best-worst" ? "" : rank ?? "–";
    this.node.classList.toggle("ranked", rank !== null);
    showChosen(this.ranks, this.choices.findIndex((choice) => choice.value === value));
    this.marks.show();
  }

  focus(options) {
    this.ranks.find((button) => button.tabIndex === 0).focus({ preventScroll: true });
    if (!options?.preventScroll) this.node.scrollIntoView({ block: "nearest" });
  }

  /** Move the focus among this card's choices. */
  moveWithin(step) {
    const from = Math.max(0, this.ranks.indexOf(document.activeElement));
    const to = Math.min(this.ranks.length - 1, Math.max(0, from + step));
    this.ranks.forEach((button, index) => (button.tabIndex = index === to ? 0 : -1));
    this.ranks[to].focus();
  }
}
