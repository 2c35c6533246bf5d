// Buttons of which one may be chosen: what is shown of the choice, and the arrows.

/** Show which one is chosen (an index; -1: none); that one or the first is the group's stop for Tab. */
function showChosen(buttons, chosen) {
  buttons.forEach((button, index) => {
    button.setAttribute("aria-checked", String(index === chosen));
    button.tabIndex = index === Math.max(0, chosen) ? 0 : -1;
  });
}

/** Move the focus among `buttons`; `steps`: key -> how far. */
function moveAmong(buttons, event, steps) {
  const step = steps[event.key];
  const from = buttons.indexOf(document.activeElement);
  if (!step || from < 0) return;
  event.preventDefault();
  event.stopPropagation();
  buttons[Math.min(buttons.length - 1, Math.max(0, from + step))].focus();
}
