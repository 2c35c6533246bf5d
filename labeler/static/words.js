// What the Training and the Lineage page say alike.

/** A command line that can be copied: each word in quotes if a shell would not leave it whole. */
function commandOf(words) {
  const text = words.map((word) => (/^[\w@%+=:,.\/-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`)).join(" ");
  return make("pre", { tabindex: "0", class: "tr-command", "aria-label": "Command" }, text);
}

function whenText(seconds) {
  return new Date(seconds * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

function lengthText(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Pairs of words, or "" if there are none. */
function factsOf(facts) {
  return facts.length ? make("dl", { class: "tr-facts" }, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))) : "";
}
