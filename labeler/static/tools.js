// What stands beside the ranking: guidelines, comparing two responses, height of the cards, and the menu of the rest.

class Tools {
  /** `board`: what is ranked; `account`: {name, settings} of /api/me. */
  constructor(board, account) {
    this.board = board;
    const { root } = board;
    this.study = undefined;
    this.guidelines = new Guidelines(root, () => this.study);
    this.compare = compareDialog();
    this.height = new CardHeight(root);
    this.tour = tourDialog();
    this.remark = remarkDialog(() => board.task?.comparison, () => this.study, (text) => this.say(text));
    this.own = new OwnPrompt(() => this.study, (next) => board.show(next));
    this.settings = settingsDialog(account, (languageChanged) => this.settingsSaved(languageChanged));
    this.warning = new Warning(board, () => this.settings.open());
    this.menu = this.drawMenu();
    this.node = make("div", { class: "rb-tools", role: "group", "aria-label": t("tools.label") },
      this.guidelines.button,
      this.button("diff.open", () => this.openCompare(), "diff.openTitle"),
      this.height.button, this.menu.node);
    root.append(this.guidelines.panel, ...[this.compare, this.tour, this.remark, this.own, this.settings, this.warning].map((one) => one.node));
  }

  button(key, onclick, title) {
    return make("button", { type: "button", class: "rb-quiet", title: title && t(title), onclick }, t(key));
  }

  drawMenu() {
    const menu = new Menu(t("tools.more"));
    menu.add(t("remark.open"), () => this.remark.open());
    this.ownItem = menu.add(t("own.open"), () => this.own.open());
    menu.add(t("settings.open"), () => this.settings.open());
    menu.add(t("tour.open"), () => this.tour.open());
    return menu;
  }

  /** Alt and a key: what it does. */
  get withAlt() {
    return { KeyG: () => this.guidelines.toggle(), KeyC: () => this.openCompare(), KeyX: () => this.height.toggle() };
  }

  openCompare() {
    const { desk } = this.board;
    if (desk) this.compare.open(desk.task.responses, desk.current);
  }

  /** On the first visit: how it works. */
  start(tourSeen) {
    this.tourSeen = tourSeen ?? false;
    this.offerTour();
  }

  /** What is shown is of this study (its id, null for none): learn what the study offers, unless that is known. */
  async enter(study) {
    if (study === this.study) return;
    this.study = study;
    const reply = await request("/api/study" + ofStudy(study));
    if (study !== this.study) return;
    if (reply.status !== 200) return void (this.study = undefined);
    this.guidelines.enter(reply.data.guidelines);
    this.settings.know(reply.data);
    this.ownItem.hidden = !reply.data.own_prompts;
  }

  /** Show the tour to somebody who has not seen it and has a task, unless something else is open. */
  offerTour() {
    if (this.tourSeen !== false || !this.board.task || this.board.root.querySelector("dialog[open]")) return;
    this.tourSeen = true;
    this.tour.open();
  }

  /** Say it where it is seen and read out. */
  say(text) {
    this.board.status.say(text);
    this.board.status.showToast(text, false);
  }

  /** A task is shown: what its texts need. */
  shown(task) {
    addCopyButtons(this.board.root);
    this.height.fit();
    this.warning.show(task);
  }

  settingsSaved(languageChanged) {
    if (languageChanged) return location.reload();
    this.say(t("settings.saved"));
    return this.board.load();
  }
}

/** A button that shows a list of buttons below it. */
class Menu {
  constructor(name) {
    this.list = make("div", { class: "rb-menu-list", hidden: true });
    this.toggle = make("button", { type: "button", class: "rb-quiet", "aria-expanded": "false", onclick: () => this.show(this.list.hidden) }, name);
    this.node = make("div", { class: "rb-menu" }, this.toggle, this.list);
    this.node.addEventListener("keydown", (event) => event.key === "Escape" && (this.show(false), this.toggle.focus()));
    this.node.addEventListener("focusout", (event) => !this.node.contains(event.relatedTarget) && this.show(false));
  }

  add(name, action) {
    const item = make("button", { type: "button", class: "rb-menu-item", onclick: () => (this.show(false), action()) }, name);
    this.list.append(item);
    return item;
  }

  show(shown) {
    this.list.hidden = !shown;
    this.toggle.setAttribute("aria-expanded", String(shown));
    if (shown) this.list.querySelector("button:not([hidden])").focus();
  }
}
