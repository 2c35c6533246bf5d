// Which words two texts share: Myers' greedy algorithm ("An O(ND) Difference Algorithm", 1986) on words.

const DIFF_MOST_CHANGES = 1500; // beyond, the texts have next to nothing in common and are shown as wholly changed

/** [["=" | "-" | "+", text], ...] that turns `before` into `after`; neighbours of one kind are one part. */
function wordDiff(before, after) {
  const [a, b] = [words(before), words(after)];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const [midA, midB] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  const middle = shortestEdit(midA, midB) ?? [...midA.map((word) => ["-", word]), ...midB.map((word) => ["+", word])];
  return merged([...a.slice(0, start).map((word) => ["=", word]), ...middle, ...a.slice(a.length - end).map((word) => ["=", word])]);
}

/** Words, runs of space, and single other characters. */
function words(text) {
  return text.match(/\s+|[\p{L}\p{N}\p{M}_]+|./gsu) ?? [];
}

/** The steps of a shortest edit, or null if it takes more than DIFF_MOST_CHANGES. */
function shortestEdit(a, b) {
  const furthest = new Map([[1, 0]]); // diagonal x - y -> furthest x
  const trace = [];
  for (let d = 0; d <= Math.min(a.length + b.length, DIFF_MOST_CHANGES); d += 1) {
    trace.push(new Map(furthest));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && furthest.get(k - 1) < furthest.get(k + 1));
      let x = down ? furthest.get(k + 1) : furthest.get(k - 1) + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      furthest.set(k, x);
      if (x >= a.length && x - k >= b.length) return walkBack(a, b, trace);
    }
  }
  return null;
}

function walkBack(a, b, trace) {
  const steps = [];
  let [x, y] = [a.length, b.length];
  for (let d = trace.length - 1; d >= 0; d -= 1) {
    const k = x - y;
    const furthest = trace[d];
    const down = k === -d || (k !== d && furthest.get(k - 1) < furthest.get(k + 1));
    const fromX = down ? furthest.get(k + 1) : furthest.get(k - 1);
    const fromY = fromX - (down ? k + 1 : k - 1);
    for (; x > Math.max(fromX, 0) && y > Math.max(fromY, 0); x -= 1, y -= 1) steps.push(["=", a[x - 1]]);
    if (d > 0) steps.push(down ? ["+", b[y - 1]] : ["-", a[x - 1]]);
    [x, y] = [fromX, fromY];
  }
  return steps.reverse();
}

function merged(steps) {
  const parts = [];
  for (const [kind, text] of steps) {
    if (parts.at(-1)?.[0] === kind) parts.at(-1)[1] += text;
    else parts.push([kind, text]);
  }
  return parts;
}

/** Parts of a diff as an element: what went struck through, what came underlined. */
function drawDiff(parts) {
  const tags = { "=": "span", "-": "del", "+": "ins" };
  return make("div", { class: "rb-diff", dir: "auto" }, ...parts.map(([kind, text]) => make(tags[kind], {}, text)));
}
