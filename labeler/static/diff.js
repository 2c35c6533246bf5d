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

/** The same words as numbers, equal where the words are: quicker to compare. */
function numbered(a, b) {
  const numbers = new Map();
  const number = (word) => numbers.get(word) ?? (numbers.set(word, numbers.size), numbers.size - 1);
  return [Int32Array.from(a, number), Int32Array.from(b, number)];
}

/** The steps of a shortest edit, or null if it takes more than DIFF_MOST_CHANGES. */
function shortestEdit(a, b) {
  const [m, n] = numbered(a, b);
  const most = Math.min(m.length + n.length, DIFF_MOST_CHANGES);
  const zero = most + 1; // where diagonal 0 lies: diagonals are from -most - 1 to most + 1
  const furthest = new Int32Array(2 * zero + 1); // diagonal x - y -> furthest x
  const trace = []; // of each number of changes: what was furthest before it, on diagonals -d - 1 to d + 1
  for (let d = 0; d <= most; d += 1) {
    trace.push(furthest.slice(zero - d - 1, zero + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const [left, right] = [furthest[zero + k - 1], furthest[zero + k + 1]];
      let x = k === -d || (k !== d && left < right) ? right : left + 1;
      while (x < m.length && x - k < n.length && m[x] === n[x - k]) x += 1;
      furthest[zero + k] = x;
      if (x >= m.length && x - k >= n.length) return walkBack(a, b, trace);
    }
  }
  return null;
}

function walkBack(a, b, trace) {
  const steps = [];
  let [x, y] = [a.length, b.length];
  for (let d = trace.length - 1; d >= 0; d -= 1) {
    const k = x - y;
    const [left, right] = [trace[d][d + k], trace[d][d + k + 2]];
    const down = k === -d || (k !== d && left < right);
    const fromX = down ? right : left;
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
