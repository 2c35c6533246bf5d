// Two responses side by side, with the words that only one of them has.

function compareDialog() {
  let responses = [];
  const choice = (key) => make("select", { "aria-label": t(key), onchange: () => draw() });
  const [left, right] = [choice("diff.left"), choice("diff.right")];
  const pane = () => make("div", { class: "rb-pane", tabindex: "0", role: "group" });
  const panes = [pane(), pane()];
  const legend = make("p", { class: "rb-note" });
  const together = make("input", { type: "checkbox", checked: true });
  const box = dialog(t("diff.title"),
    make("div", { class: "rb-pair" }, left, right), legend, make("div", { class: "rb-pair" }, ...panes),
    make("div", { class: "rb-dialog-actions" }, make("label", { class: "rb-check" }, together, t("diff.scroll")),
      make("button", { type: "button", class: "rb-button", onclick: () => box.close() }, t("diff.close"))));
  box.classList.add("rb-wide");

  function draw() {
    const [before, after] = [responses[left.value], responses[right.value]];
    const parts = wordDiff(before.text, after.text);
    const same = parts.every(([kind]) => kind === "=");
    const names = { left: LETTERS[left.value], right: LETTERS[right.value] };
    legend.textContent = same ? t("diff.same") : t("diff.legend", names);
    fill(panes[0], parts, "+", names.left);
    fill(panes[1], parts, "-", names.right);
  }

  /** Show all but the parts of the other text. */
  function fill(node, parts, other, letter) {
    node.setAttribute("aria-label", t("card.response", { letter }));
    node.replaceChildren(drawDiff(parts.filter(([kind]) => kind !== other)));
  }

  /** Both panes at the same share of their height. */
  function scroll(from, to) {
    if (!together.checked || !from.matches(":hover, :focus-within, :focus")) return;
    to.scrollTop = (from.scrollTop / Math.max(1, from.scrollHeight - from.clientHeight)) * (to.scrollHeight - to.clientHeight);
  }
  panes[0].addEventListener("scroll", () => scroll(panes[0], panes[1]));
  panes[1].addEventListener("scroll", () => scroll(panes[1], panes[0]));

  /** Compare the response at `index` with the next. */
  function open(all, index) {
    responses = all;
    for (const select of [left, right]) {
      select.replaceChildren(...all.map((_, place) => make("option", { value: place }, t("card.response", { letter: LETTERS[place] }))));
    }
    left.value = index;
    right.value = (index + 1) % all.length;
    draw();
    box.showModal();
  }
  return { node: box, open };
}
