// The study's guidelines in a panel beside the board: they can stay open while one ranks.

class Guidelines {
  /** `study()`: the id of the study that is worked in. */
  constructor(root, study) {
    this.root = root;
    this.study = study;
    this.seen = 0;
    this.button = make("button", { type: "button", class: "rb-quiet rb-guide-open", "aria-expanded": "false", title: t("guidelines.openTitle"), onclick: () => this.toggle() },
      t("guidelines.open"));
    this.title = make("h2", { tabindex: "-1" }, t("guidelines.open"));
    this.version = make("p", { class: "rb-note" });
    this.search = make("input", { type: "search", placeholder: t("guidelines.search"), "aria-label": t("guidelines.search"), oninput: () => this.find() });
    this.search.addEventListener("keydown", (event) => event.key === "Enter" && (event.preventDefault(), this.next()));
    this.found = make("p", { class: "rb-note", role: "status" });
    this.changes = make("div", { class: "rb-changes" });
    this.text = make("div", { class: "rb-guide-text" });
    this.panel = make("aside", { class: "rb-side", "aria-label": t("guidelines.open"), hidden: true },
      make("div", { class: "rb-side-head" }, this.title,
        make("button", { type: "button", class: "rb-quiet", onclick: () => this.close() }, t("guidelines.close"))),
      this.version, this.search, this.found, this.changes, this.text);
    this.panel.addEventListener("keydown", (event) => event.key === "Escape" && (event.stopPropagation(), this.close()));
  }

  /** Another study is worked in from now on. */
  enter(known) {
    this.know(known);
    if (!this.panel.hidden) this.read();
  }

  /** {version, seen}: whether there is something to read that was not read. */
  know({ version, seen }) {
    const changed = version > seen;
    this.button.textContent = t(changed && seen ? "guidelines.new" : "guidelines.open");
    this.button.classList.toggle("rb-new", changed);
  }

  toggle() {
    return this.panel.hidden ? this.open() : this.close();
  }

  async open() {
    this.panel.hidden = false;
    this.root.classList.add("rb-beside");
    this.button.setAttribute("aria-expanded", "true");
    this.title.focus();
    return this.read();
  }

  async read() {
    const reply = await request("/api/guidelines" + ofStudy(this.study()));
    if (reply.status !== 200) return this.text.replaceChildren(t("guidelines.failed", { error: errorText(reply) }));
    this.draw(reply.data);
    if (reply.data.version > reply.data.seen) this.noteSeen(reply.data.version);
    return undefined;
  }

  close() {
    this.panel.hidden = true;
    this.root.classList.remove("rb-beside");
    this.button.setAttribute("aria-expanded", "false");
    this.button.focus();
  }

  draw(guidelines) {
    const there = guidelines.version > 0;
    this.version.textContent = there ? t("guidelines.version", { version: guidelines.version, date: dayText(guidelines.created) }) : "";
    this.search.hidden = !there;
    this.text.replaceChildren(there ? safeHtml("div", { class: "rb-text", dir: "auto" }, guidelines.html) : t("guidelines.none"));
    addCopyButtons(this.text);
    const lines = guidelines.changes.map(({ kind, text }) =>
      make("li", {}, make("span", { class: "rb-note" }, t(`guidelines.${kind}`)), " ", make(kind === "added" ? "ins" : "del", { dir: "auto" }, text)));
    this.changes.hidden = !lines.length;
    this.changes.replaceChildren(make("h3", {}, t("guidelines.changed")), make("ul", {}, ...lines));
    this.find();
  }

  async noteSeen(version) {
    const reply = await request("/api/guidelines", { study: this.study(), version });
    if (reply.status === 200) this.know({ version, seen: version });
  }

  /** Mark what the search field holds. */
  find() {
    for (const mark of this.text.querySelectorAll("mark")) mark.replaceWith(...mark.childNodes);
    this.text.normalize();
    const wanted = this.search.value.trim().toLocaleLowerCase();
    this.marks = wanted ? markText(this.text, wanted) : [];
    this.found.textContent = wanted ? t("guidelines.found", { count: this.marks.length }) : "";
    this.at = -1;
    if (this.marks.length) this.next();
  }

  /** Go to the next place that was found. */
  next() {
    if (!this.marks?.length) return;
    this.marks[this.at]?.classList.remove("here");
    this.at = (this.at + 1) % this.marks.length;
    this.marks[this.at].classList.add("here");
    this.marks[this.at].scrollIntoView({ block: "nearest" });
  }
}

/** Wrap every occurrence of `wanted` (lower case) inside one text node in a <mark>; the marks. */
function markText(root, wanted) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  const marks = [];
  for (let node of nodes) {
    for (let at; node && (at = node.data.toLocaleLowerCase().indexOf(wanted)) >= 0;) {
      const hit = node.splitText(at);
      node = hit.length > wanted.length ? hit.splitText(wanted.length) : null;
      const mark = make("mark", {});
      hit.replaceWith(mark);
      mark.append(hit);
      marks.push(mark);
    }
  }
  return marks;
}
