// Predictions and explanations of the service, as parts of the page.

import { bars, element, format, percent, probabilities, saliency, shorten, tokens } from "./charts.js";

const PREFIX = "probability_";
const MAX_CLASSES = 50;

/** Return class and probability of a prediction, the most probable first; an empty list for numbers. */
function readShares(prediction, classes) {
  const shares = "probability" in prediction
    ? [[classes[1], prediction.probability], [classes[0], 1 - prediction.probability]]
    : Object.entries(prediction).filter(([name]) => name.startsWith(PREFIX)).map(([name, share]) => [name.slice(PREFIX.length), share]);
  return shares.sort((one, other) => other[1] - one[1]);
}

/**
 * Return a prediction as a sentence and as parts of the page.
 *
 * @param {object} prediction The prediction of a row.
 * @param {{label: string, classes: string[]}} model What the model predicts.
 */
export function showPrediction(prediction, { label, classes }) {
  const value = prediction.prediction;
  const shares = readShares(prediction, classes);
  const shown = typeof value === "number" ? format(value) : String(value);
  if (!shares.length) return { sentence: [`${label}: `, element("strong", {}, shown)], parts: [] };
  const share = shares.find(([name]) => name === String(value)) ?? shares[0];
  const parts = [probabilities(shares.slice(0, MAX_CLASSES))];
  if (shares.length > MAX_CLASSES) {
    parts.push(element("p", { class: "quiet" }, `the ${MAX_CLASSES} most probable of ${shares.length} classes`));
  }
  return { sentence: [`${label}: `, element("strong", {}, shown), `, with a probability of ${percent(share[1])}`], parts };
}

/** Write which model answered; it may be another version than the one of the form. */
export function showSource({ name, version, digest }) {
  return element("p", { class: "quiet source" }, `by ${name}, version ${version} `, element("code", {}, digest));
}

/**
 * Return the explanation of a prediction.
 *
 * @param {string} kind Whether the model predicts a number or classes.
 * @param {object} found The explanation of one row: the weight of each raw column, perhaps of tokens and pixels.
 * @param {[string, string, object][]} members The row: column, JSON text of its value, field.
 */
export function showExplanation(kind, found, members) {
  const byColumn = new Map(members.map(([column, json, field]) => [column, { json, field }]));
  const unit = found.unit === found.target ? "" : ` (${found.unit})`;
  const title = `Weight of each column for ${found.target}${unit}`;
  const sides = kind === "regression"
    ? [`for a larger value of ${found.target}`, "for a smaller value"]
    : [`for ${found.target}`, "against it"];
  const entries = Object.entries(found.columns ?? {}).map(([name, weight]) => ({
    name, weight, value: shownValue(byColumn.get(name)),
  }));
  const pictures = Object.entries(found.pixels ?? {}).map(([column, weights]) => {
    const field = byColumn.get(column)?.field;
    return saliency(column, field?.bitmap ? field.canvas() : null, weights, sides);
  });
  const texts = Object.entries(found.tokens ?? {}).map(([column, weights]) =>
    tokens(column, weights.map(([text, weight]) => ({ text, weight })), sides));
  const words = element("p", {}, `Bars to the right are ${sides[0]}, bars to the left ${sides[1]}. `,
    `Together they lead from ${format(found.baseline_output)}, for a typical row, to ${format(found.output)}${unit}.`);
  return [words, bars(title, entries), ...pictures, ...texts];
}

function shownValue(member) {
  if (!member) return "";
  const { json, field } = member;
  if (json === "null") return "missing";
  if (field.isFile) return field.fileName ?? "example";
  return shorten(json.startsWith('"') ? JSON.parse(json) : json, 60);
}
