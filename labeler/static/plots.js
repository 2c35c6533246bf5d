// Line plots as SVG in the colours of the page; what they show is also said in words.

const PLOT_WIDTH = 340;
const PLOT_HEIGHT = 150;
const PLOT_EDGE = { left: 46, right: 8, top: 10, bottom: 22 };
const LINE_LOOKS = ["", "5 3", "1.5 3"]; // told apart without colours too

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A number in few characters. */
function short(number) {
  const size = Math.abs(number);
  if (size !== 0 && (size < 0.001 || size >= 100000)) return number.toExponential(1);
  return String(Number(number.toPrecision(size >= 1000 ? 4 : 3)));
}

/** A plot of {title, series: [{name, points: [[step, value], ...]}]}: its last values, and under the pointer those of a step. */
function drawPlot({ title, series }) {
  const all = series.flatMap((one) => one.points);
  const [first, last] = [Math.min(...all.map(([x]) => x)), Math.max(...all.map(([x]) => x))];
  let [low, high] = [Math.min(...all.map(([, y]) => y)), Math.max(...all.map(([, y]) => y))];
  if (low === high) [low, high] = [low - (Math.abs(low) * 0.1 || 1), high + (Math.abs(high) * 0.1 || 1)];
  const { left, right, top, bottom } = PLOT_EDGE;
  const atX = (x) => left + ((PLOT_WIDTH - left - right) * (x - first)) / (last - first || 1);
  const atY = (y) => top + ((PLOT_HEIGHT - top - bottom) * (high - y)) / (high - low);
  const lines = [low, (low + high) / 2, high].flatMap((y) => [
    svg("line", { class: "tr-grid", x1: left, x2: PLOT_WIDTH - right, y1: atY(y), y2: atY(y) }),
    svg("text", { class: "tr-tick", x: left - 6, y: atY(y) + 4, "text-anchor": "end" }, short(y)),
  ]);
  const ends = first === last ? [first] : [first, last];
  const steps = ends.map((x, i) => svg("text", { class: "tr-tick", x: atX(x), y: PLOT_HEIGHT - 6, "text-anchor": i ? "end" : "start" }, short(x)));
  const drawn = series.flatMap(({ points }, i) => {
    const looks = { class: `tr-line tr-line-${i % 3}`, "stroke-dasharray": LINE_LOOKS[i % 3] };
    const path = svg("polyline", { ...looks, points: points.map(([x, y]) => `${atX(x).toFixed(1)},${atY(y).toFixed(1)}`).join(" ") });
    const [x, y] = points[points.length - 1];
    return [path, svg("circle", { class: `tr-dot tr-line-${i % 3}`, cx: atX(x), cy: atY(y), r: 2.5 })];
  });
  const mark = svg("line", { class: "tr-mark", y1: top, y2: PLOT_HEIGHT - bottom, x1: -9, x2: -9 });
  const said = series.map(({ name, points }) => `${series.length > 1 ? `${name} ` : ""}${short(points[points.length - 1][1])}`).join(", ");
  const picture = svg("svg", { viewBox: `0 0 ${PLOT_WIDTH} ${PLOT_HEIGHT}`, role: "img",
    "aria-label": `${title} from step ${first} to ${last}: at last ${said}; between ${short(low)} and ${short(high)}` }, ...lines, ...steps, ...drawn, mark);
  const values = make("span", { class: "tr-values" });
  const show = (step) => values.replaceChildren(...series.map(({ name, points }, i) => {
    const near = points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
    return make("span", { class: `tr-key tr-key-${i % 3}` }, series.length > 1 ? `${name} ${short(near[1])}` : short(near[1]));
  }));
  show(last);
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const step = Math.round(first + ((event.clientX - box.left) * (PLOT_WIDTH / box.width) - left) * ((last - first) / (PLOT_WIDTH - left - right)));
    const inside = Math.min(last, Math.max(first, step));
    mark.setAttribute("x1", atX(inside));
    mark.setAttribute("x2", atX(inside));
    show(inside);
  });
  picture.addEventListener("pointerleave", () => {
    mark.setAttribute("x1", -9);
    mark.setAttribute("x2", -9);
    show(last);
  });
  return make("figure", { class: "tr-plot", "data-title": title, "data-steps": last }, make("figcaption", {}, make("b", {}, title), values), picture);
}
