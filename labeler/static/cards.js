// Prompt and response cards of one task.

const ROLE_NAMES = { system: "System prompt", user: "User", assistant: "Assistant" };

/** Columns on a wide screen: 2, 3, 2 x 2, then 3. */
function columnsFor(count) {
  return count === 2 || count === 4 ? 2 : 3;
}

/** The conversation, collapsible; its newest turn in view. */
function drawPrompt(messages) {
  const turns = make("div", { class: "rb-turns", tabindex: "0", role: "group", "aria-label": "Conversation" });
  for (const message of messages) {
    const name = ROLE_NAMES[message.role] ?? message.role;
    turns.append(
      make("div", { class: "rb-turn", "data-role": message.role },
        make("div", { class: "rb-role" }, name),
        safeHtml("div", { class: "rb-text", dir: "auto" }, message.html)),
    );
  }
  const fold = make("button", { type: "button", class: "rb-quiet", "aria-expanded": "true" }, "Hide");
  const panel = make("section", { class: "rb-prompt", "aria-label": "Prompt" },
    make("div", { class: "rb-prompt-head" },
      make("h2", {}, messages.length > 1 ? "Conversation" : "Prompt"),
      make("p", { class: "rb-gist", dir: "auto" }, messages[messages.length - 1].text),
      fold),
    turns);
  fold.addEventListener("click", () => {
    const folded = panel.classList.toggle("folded");
    fold.setAttribute("aria-expanded", String(!folded));
    fold.textContent = folded ? "Show" : "Hide";
  });
  return panel;
}

/** One response. `onRank(rank)` is called for a click on a rank, `onFocus()` when the focus comes in. */
class Card {
  constructor(response, index, count, onRank, onFocus) {
    this.letter = LETTERS[index];
    this.ranks = Array.from({ length: count }, (_, i) => this.rankButton(i + 1, onRank));
    this.number = make("span", { class: "rb-number", "aria-hidden": "true" }, "–");
    this.text = safeHtml("div", { class: "rb-text", dir: "auto" }, response.html);
    this.raw = make("pre", { class: "rb-plain", dir: "auto", hidden: true }, response.text);
    this.rawButton = make("button", {
      type: "button", class: "rb-quiet rb-raw", "aria-pressed": "false", "aria-label": `Raw text of response ${this.letter}`,
      title: "Exactly what was written (Alt+R)", tabindex: "-1", onclick: () => this.toggleRaw(),
    }, "Raw text");
    const group = make("div", { class: "rb-ranks", role: "radiogroup", "aria-label": `Rank of response ${this.letter}` });
    group.append(...this.ranks);
    this.node = make("section", { class: "rb-card", role: "group", "aria-label": `Response ${this.letter}`, "data-letter": this.letter },
      make("div", { class: "rb-card-head" },
        make("span", { class: "rb-letter", "aria-hidden": "true" }, this.letter), group, this.rawButton, this.number),
      this.text, this.raw);
    this.node.addEventListener("focusin", onFocus);
    this.node.addEventListener("click", (event) => this.clicked(event));
    this.show(null);
  }

  rankButton(rank, onRank) {
    return make("button", {
      type: "button", class: "rb-rank", role: "radio", "aria-checked": "false", "aria-label": `Rank ${rank}`, tabindex: "-1",
      onclick: () => onRank(rank),
    }, String(rank));
  }

  /** A click anywhere on the card makes it the one that digits go to, unless it selects text or has its own effect. */
  clicked(event) {
    if (event.target.closest("a, button") || String(getSelection())) return;
    this.focus({ preventScroll: true });
  }

  toggleRaw() {
    const raw = this.raw.hidden;
    this.raw.hidden = !raw;
    this.text.hidden = raw;
    this.rawButton.setAttribute("aria-pressed", String(raw));
  }

  /** Draw the rank (null: none); one rank button, the given one or the first, is the card's stop for Tab. */
  show(rank) {
    this.number.textContent = rank ?? "–";
    this.node.classList.toggle("ranked", rank !== null);
    this.ranks.forEach((button, index) => {
      button.setAttribute("aria-checked", String(index + 1 === rank));
      button.tabIndex = index + 1 === (rank ?? 1) ? 0 : -1;
    });
  }

  focus(options) {
    this.ranks.find((button) => button.tabIndex === 0).focus({ preventScroll: true });
    if (!options?.preventScroll) this.node.scrollIntoView({ block: "nearest" });
  }

  /** Move the focus among this card's ranks. */
  moveWithin(step) {
    const from = Math.max(0, this.ranks.indexOf(document.activeElement));
    const to = Math.min(this.ranks.length - 1, Math.max(0, from + step));
    this.ranks.forEach((button, index) => (button.tabIndex = index === to ? 0 : -1));
    this.ranks[to].focus();
  }
}
