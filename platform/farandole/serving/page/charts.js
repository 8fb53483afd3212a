// Charts, each with a table beside it that holds the same figures.

const SVG = "http://www.w3.org/2000/svg";
const MAX_BARS = 15;
const [ROW_HEIGHT, VALUES_WIDTH] = [26, 62];
const MAX_NAME = 22;

/** Create an element of HTML; `children` are nodes or texts. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Write a number for people. */
export function format(number) {
  if (typeof number !== "number") return String(number);
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size < 1e-4 || size >= 1e15) return number.toExponential(3);
  return number.toLocaleString("en", { maximumSignificantDigits: size >= 1e4 ? 15 : 4, maximumFractionDigits: 6 });
}

/** Write a weight with its sign. */
export function signed(number) {
  return number > 0 ? `+${format(number)}` : format(number).replace("-", "−");
}

export function shorten(text, length = MAX_NAME) {
  const letters = [...text];
  return letters.length > length ? `${letters.slice(0, length - 1).join("")}…` : text;
}

/**
 * Return a table.
 *
 * @param {string} caption What it shows.
 * @param {string[]} heads Titles of the columns.
 * @param {(string | number)[][]} rows The first cell of each names the row.
 * @param {number} numbers The first column of numbers.
 */
export function table(caption, heads, rows, numbers = 1) {
  const side = (index) => (index >= numbers ? { class: "num" } : {});
  const head = element("tr", {}, ...heads.map((text, index) => element("th", { scope: "col", ...side(index) }, text)));
  const cells = (row) => row.map((value, index) =>
    element(index ? "td" : "th", index ? side(index) : { scope: "row" }, String(value)));
  const body = rows.map((row) => element("tr", {}, ...cells(row)));
  const made = element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption }, made);
}

/**
 * Return a chart of bars to both sides of a line, the longest first, beside a table of all figures.
 *
 * @param {string} title What it shows.
 * @param {{name: string, weight: number, value: string}[]} entries The bars: columns, their values and weights.
 */
export function bars(title, entries) {
  const sorted = [...entries].sort((one, other) => Math.abs(other.weight) - Math.abs(one.weight));
  const shown = sorted.slice(0, MAX_BARS);
  const rows = sorted.map(({ name, value, weight }) => [name, value, signed(weight)]);
  const rest = sorted.length - shown.length;
  const caption = rest > 0 ? `the ${shown.length} largest of ${sorted.length}; the table has all` : "";
  return element("div", { class: "charted" },
    element("figure", {}, barsPicture(title, shown), element("figcaption", { class: "quiet" }, caption)),
    table(title, ["column", "value", "weight"], rows, 2));
}

function barsPicture(title, entries) {
  const weights = entries.map((entry) => entry.weight);
  const [lowest, highest] = [Math.min(0, ...weights), Math.max(0, ...weights)];
  const span = highest - lowest || 1;
  const [width, names] = matchMedia("(max-width: 36rem)").matches ? [320, 110] : [460, 150]; // so that letters stay readable
  const room = width - names - VALUES_WIDTH;
  const at = (weight) => names + ((weight - lowest) / span) * room;
  const height = entries.length * ROW_HEIGHT + 4;
  const summary = entries.slice(0, 3).map((entry) => `${entry.name} ${signed(entry.weight)}`).join(", ");
  const picture = drawn("svg", {
    viewBox: `0 0 ${width} ${height}`, class: "bars", role: "img", "aria-label": `Bar chart: ${title}. ${summary}.`,
  });
  for (const [index, { name, weight }] of entries.entries()) {
    const top = index * ROW_HEIGHT + 4;
    const [left, right] = [at(Math.min(0, weight)), at(Math.max(0, weight))];
    picture.append(
      drawn("text", { x: names - 8, y: top + 15, class: "name" }, shorten(name, names / 7), drawn("title", {}, name)),
      drawn("rect", { x: left, y: top, width: Math.max(1, right - left), height: ROW_HEIGHT - 7, class: weight < 0 ? "minus" : "plus" }),
      drawn("text", { x: width, y: top + 15, class: "figure" }, signed(weight)),
    );
  }
  picture.append(drawn("line", { x1: at(0), x2: at(0), y1: 0, y2: height, class: "zero" }));
  return picture;
}

/**
 * Return probabilities as bars inside the rows of a table.
 *
 * @param {[string, number][]} probabilities Class and probability, the most probable first.
 */
export function probabilities(probabilities) {
  const rows = probabilities.map(([name, share]) => {
    const bar = drawn("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true", class: "share" },
      drawn("rect", { width: 100, height: 8, class: "track" }), drawn("rect", { width: 100 * share, height: 8, class: "plus" }));
    return element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "bar" }, bar),
      element("td", { class: "num" }, percent(share)));
  });
  const head = element("tr", {}, element("th", { scope: "col" }, "class"), element("td", {}),
    element("th", { scope: "col", class: "num" }, "probability"));
  const made = element("table", { class: "shares" }, element("caption", {}, "Probability of each class"),
    element("thead", {}, head), element("tbody", {}, ...rows));
  return element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Probabilities" }, made);
}

/** Write a probability; 100% only if it is 1. */
export function percent(share) {
  if (share > 0 && share < 0.0005) return "< 0.1%";
  if (share < 1 && share > 0.9995) return "> 99.9%";
  return `${(100 * share).toFixed(1)}%`;
}

/**
 * Return an image with the weights of its pixels over it, beside a table of the weights of nine parts.
 *
 * @param {string} column The image's column.
 * @param {HTMLCanvasElement | null} image The image as the model sees it.
 * @param {number[][]} weights Rows of weights, one for each pixel.
 * @param {[string, string]} sides What positive and negative weights are for.
 */
export function saliency(column, image, weights, sides) {
  const [high, wide] = [weights.length, weights[0].length];
  const largest = Math.max(1e-12, ...weights.map((row) => Math.max(...row.map(Math.abs))));
  const overlay = element("canvas", { width: String(wide), height: String(high) });
  const context = overlay.getContext("2d");
  const pixels = context.createImageData(wide, high);
  for (const [index, weight] of weights.flat().entries()) {
    const color = weight < 0 ? [47, 111, 237] : [217, 72, 15];
    pixels.data.set([...color, Math.round(230 * Math.min(1, Math.abs(weight) / largest))], index * 4);
  }
  context.putImageData(pixels, 0, 0);
  const canvas = element("canvas", { class: "saliency", role: "img", "aria-label": `Saliency of ${column}: ${strongest(weights)}` });
  const scale = Math.max(1, Math.ceil(280 / Math.max(high, wide)));
  [canvas.width, canvas.height] = [wide * scale, high * scale];
  const picture = canvas.getContext("2d");
  picture.imageSmoothingEnabled = false;
  picture.filter = "grayscale(1)";
  if (image) picture.drawImage(image, 0, 0, canvas.width, canvas.height);
  picture.filter = "none";
  picture.drawImage(overlay, 0, 0, canvas.width, canvas.height);
  const caption = `orange: ${sides[0]}; blue: ${sides[1]}`;
  return element("div", { class: "charted" },
    element("figure", {}, canvas, element("figcaption", { class: "quiet" }, caption)),
    table(`Weights of the parts of ${column}`, ["part", ...sides], parts(weights)
      .map(([name, plus, minus]) => [name, signed(plus), signed(minus)])));
}

const BANDS = [["top", "middle", "bottom"], ["left", "center", "right"]];

/** Return name, positive and negative weights of nine parts of an image. */
function parts(weights) {
  const sums = new Map(BANDS[0].flatMap((row) => BANDS[1].map((column) => [`${row} ${column}`, [0, 0]])));
  for (const [y, row] of weights.entries()) {
    for (const [x, weight] of row.entries()) {
      const name = `${BANDS[0][Math.floor((3 * y) / weights.length)]} ${BANDS[1][Math.floor((3 * x) / row.length)]}`;
      sums.get(name)[weight < 0 ? 1 : 0] += weight;
    }
  }
  return [...sums].map(([name, [plus, minus]]) => [name, plus, minus]);
}

function strongest(weights) {
  const [name] = parts(weights).sort((one, other) => other[1] - one[1])[0];
  return `most positive weight in the part ${name}`;
}

/**
 * Return a text with the weight of each token as its shade, beside a table.
 *
 * @param {string} column The text's column.
 * @param {{text: string, weight: number}[]} tokens The tokens in order.
 * @param {[string, string]} sides What positive and negative weights are for.
 */
export function tokens(column, tokens, sides) {
  const largest = Math.max(1e-12, ...tokens.map((token) => Math.abs(token.weight)));
  const shown = tokens.flatMap(({ text, weight }) => {
    const level = Math.round((4 * Math.abs(weight)) / largest);
    const sign = weight < 0 ? "minus" : "plus";
    return [element("span", level ? { class: `token ${sign}-${level}`, title: signed(weight) } : { title: signed(weight) }, text), " "];
  });
  const rows = tokens.map(({ text, weight }) => [text, signed(weight), weight]);
  rows.sort((one, other) => Math.abs(other[2]) - Math.abs(one[2]));
  return element("div", { class: "charted" },
    element("figure", {}, element("p", { class: "tokens" }, ...shown),
      element("figcaption", { class: "quiet" }, `solid line: ${sides[0]}; dotted line: ${sides[1]}`)),
    table(`Weights of the tokens of ${column}`, ["token", "weight"], rows.map((row) => row.slice(0, 2))));
}
