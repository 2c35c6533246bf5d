// The keyboard: which key does what, and when keys are none of our business.

const FIELDS = "input, textarea, select, [contenteditable='true'], [contenteditable='']";
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function digitOf(code) {
  const match = /^(?:Digit|Numpad)([1-9])$/.exec(code);
  return match ? Number(match[1]) : null;
}

/** Whether `target` is where digits and arrows speak to the cards: a card, the bare board, the submit button or nothing. */
function isBoard(root, target) {
  if (target === document.body || target === root) return true;
  return root.contains(target) && (target.closest(".rb-card, .rb-submit") !== null || !target.closest("button, a, .rb-turns"));
}

/** Whether Enter on `target` means the board and not the control that has the focus. */
function isEnterFree(root, target) {
  return isBoard(root, target) && !(target.closest("a, button") && !target.closest(".rb-rank, .rb-submit"));
}

/** Listen until the board leaves the page. `board`: {root, singleKeys, busy, rank, move, submit, undo, skip, toggleKeys, help, raw}. */
function listenToKeys(board) {
  const { root } = board;
  const withAlt = { KeyU: board.undo, KeyS: board.skip, KeyK: board.toggleKeys, KeyH: board.help, KeyR: board.raw };

  function onKey(event) {
    if (!root.isConnected) return document.removeEventListener("keydown", onKey);
    const target = event.target instanceof Element ? event.target : document.body;
    if (event.ctrlKey || event.metaKey || event.isComposing || !root.checkVisibility()) return;
    if (target.closest(FIELDS) || root.querySelector("dialog[open]")) return;
    if (event.repeat) return swallowRepeat(event, target);
    if (event.altKey) return act(event, withAlt[event.code]);
    if (!isBoard(root, target)) return;
    if (event.code in STEPS) return act(event, () => board.move(...STEPS[event.code]));
    if (!board.singleKeys()) return;
    const digit = digitOf(event.code);
    if (digit) return act(event, () => board.rank(digit));
    if ((event.code === "Enter" || event.code === "NumpadEnter") && isEnterFree(root, target)) act(event, board.submit);
  }

  function act(event, action) {
    if (!action) return;
    event.preventDefault();
    action();
  }

  // A held Enter submits once: its repeats must not press whatever has the focus in the next task.
  function swallowRepeat(event, target) {
    if (["Enter", "NumpadEnter", "Space"].includes(event.code) && target.closest(".rb-rank, .rb-submit")) event.preventDefault();
  }

  document.addEventListener("keydown", onKey);
}
