// What the annotator is told: the save state with its button, what is read out, and the toast.

const TOAST_MS = 6000;

class Status {
  /** `onRetry()` and `onUndo()`: what the buttons do. */
  constructor(onRetry, onUndo) {
    this.kind = "";
    this.state = make("span", { class: "rb-state", role: "status" }, t("board.loading"));
    this.button = make("button", { type: "button", class: "rb-quiet", hidden: true, onclick: () => this.act() }, t("board.retry"));
    this.node = make("p", { class: "rb-saving" }, this.state, this.button);
    this.live = make("div", { class: "rb-unseen", "aria-live": "polite" });
    this.toast = make("div", { class: "rb-toast", hidden: true });
    this.undo = make("button", { type: "button", class: "rb-quiet", onclick: onUndo }, t("board.undo"));
    this.onRetry = onRetry;
  }

  /**
   * Say how things stand. `kind`: saving, saved, idle, offline, failed, ending. The button retries what is offline or failed,
   * unless it is given: {text, action}.
   */
  report(kind, text, button = null) {
    this.kind = kind;
    this.state.dataset.kind = kind;
    if (this.state.textContent !== text) this.state.textContent = text;
    this.given = button;
    this.button.textContent = button?.text ?? t("board.retry");
    this.button.hidden = !button && kind !== "offline" && kind !== "failed";
  }

  act() {
    if (this.given) this.given.action();
    else this.onRetry();
  }

  /** Have it read out. */
  say(text) {
    this.live.textContent = text;
  }

  /** Show the toast for a while, with a button that undoes what it says or without; "" hides it. */
  showToast(text, withUndo) {
    clearTimeout(this.timer);
    this.toast.hidden = !text;
    this.toast.replaceChildren(text, ...(withUndo ? [this.undo] : []));
    if (text) this.timer = setTimeout(() => (this.toast.hidden = true), TOAST_MS);
  }
}
