// A CSV file to predictions: its rows are sent in parts, and come back with more columns.

import { element, table } from "./charts.js";
import { post } from "./client.js";
import { CsvError, parse, write } from "./csv.js";
import { describeProblem } from "./form.js";

const [PART_ROWS, PART_CHARACTERS] = [1000, 2_000_000];
const [MAX_WRONG, MAX_SHOWN, MAX_PREVIEW] = [200, 20, 5];
const MAX_FILE_BYTES = 200_000_000;

/** The part of the page for files. */
export class Batch {
  /**
   * @param {HTMLElement} section The part of the page.
   * @param {string} model The model.
   * @param {{column: string}[]} fields The columns that the model needs.
   */
  constructor(section, model, fields) {
    this.model = model;
    this.columns = fields.map((field) => field.column);
    for (const name of ["csv", "drop", "state", "progress", "problems", "stop", "result", "table"]) {
      this[name] = section.querySelector(`#batch-${name}`) ?? section.querySelector(`#${name}`);
    }
    this.csv.addEventListener("change", () => this.csv.files.length && this.predict(this.csv.files[0]));
    this.stop.addEventListener("click", () => this.running?.abort());
    for (const kind of ["dragover", "dragleave", "drop"]) this.drop.addEventListener(kind, (event) => this.dragged(event));
  }

  dragged(event) {
    event.preventDefault();
    this.drop.classList.toggle("over", event.type === "dragover");
    if (event.type === "drop" && event.dataTransfer.files.length) this.predict(event.dataTransfer.files[0]);
  }

  /** Predict all rows of a file. */
  async predict(file) {
    this.running?.abort();
    const running = (this.running = new AbortController());
    this.clear();
    try {
      const found = await this.read(file);
      this.stop.hidden = this.progress.hidden = false;
      const done = await this.send(found.rows, found.indices, running.signal);
      if (this.running === running) this.finish(file, found, done);
    } catch (error) {
      if (this.running !== running) return;
      const isStopped = error.name === "AbortError";
      this.state.textContent = isStopped ? "Stopped; nothing was kept." : "";
      if (!isStopped) this.fail(error.message, []);
    } finally {
      if (this.running === running) this.stop.hidden = this.progress.hidden = true;
    }
  }

  clear() {
    this.problems.hidden = this.result.hidden = true;
    this.table.replaceChildren();
    this.state.textContent = "Reading the file";
    URL.revokeObjectURL(this.result.href);
  }

  async read(file) {
    if (file.size > MAX_FILE_BYTES) {
      throw new CsvError("The file has more than 200 MB; use the command `farandole predict` for files of this size.");
    }
    const found = parse(await file.text());
    const lacking = this.columns.filter((column) => !found.names.includes(column));
    if (lacking.length === this.columns.length) {
      throw new CsvError(`Line 1 names none of the model's columns, ${list(lacking)}.`);
    }
    if (lacking.length) this.fail(`Line 1 lacks the columns ${list(lacking)}: the service decides whether they may be missing.`, []);
    if (!found.rows.length) throw new CsvError("The file has no rows below its first line.");
    const indices = this.columns.map((column) => [column, found.names.indexOf(column)]).filter(([, index]) => index >= 0);
    return { ...found, indices };
  }

  /** Send the rows; return the prediction of each, or null, and what is wrong with the others. */
  async send(rows, indices, signal) {
    const keys = indices.map(([column, index]) => [JSON.stringify(column), index]);
    const texts = rows.map((row) => `{${keys.map(([key, index]) => `${key}:${JSON.stringify(row[index])}`).join(",")}}`);
    const predictions = new Array(rows.length).fill(null);
    const wrong = [];
    let answer = null;
    for (let start = 0; start < rows.length;) {
      const part = partFrom(texts, start);
      answer = (await this.sendPart(part, texts, predictions, wrong, signal)) ?? answer;
      start += part.length;
      this.progress.value = start / rows.length;
      this.state.textContent = `${start.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    }
    return { predictions, wrong, answer };
  }

  /** Send some rows, without those that the service calls wrong, until it accepts the rest. */
  async sendPart(part, texts, predictions, wrong, signal) {
    let left = part;
    while (left.length) {
      try {
        const answer = await post("predict", this.model, `{"rows":[${left.map((index) => texts[index]).join(",")}]}`, signal);
        for (const [position, prediction] of answer.predictions.entries()) predictions[left[position]] = prediction;
        return answer;
      } catch (error) {
        const found = new Map((error.problems ?? []).filter((problem) => Number.isInteger(problem.row)).map((problem) => [problem.row, problem]));
        if (error.status !== 422 || !found.size) throw error;
        for (const [row, problem] of found) wrong.push({ ...problem, row: left[row] });
        if (wrong.length > MAX_WRONG) throw new CsvError(`More than ${MAX_WRONG} rows are not accepted, the first: ${describeRow(wrong[0])}`);
        left = left.filter((_, position) => !found.has(position));
      }
    }
    return null;
  }

  finish(file, { names, rows, delimiter }, { predictions, wrong, answer }) {
    const heads = Object.keys(predictions.find(Boolean) ?? {});
    const problems = new Map(wrong.map((problem) => [problem.row, describeProblem(problem)]));
    const more = [...heads, ...(wrong.length ? ["error"] : [])].map((head) => unusedName(head, names));
    const added = rows.map((_, row) => [...heads.map((head) => predictions[row]?.[head] ?? null), ...(wrong.length ? [problems.get(row) ?? null] : [])]);
    const text = write([...names, ...more], rows.map((row, index) => [...row, ...added[index]]), delimiter);
    this.result.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    this.result.download = `${file.name.replace(/\.[^.]*$/, "")}-predictions.csv`;
    this.result.hidden = false;
    const by = answer ? ` by version ${answer.model.version}` : "";
    this.state.textContent = `${(rows.length - wrong.length).toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows predicted${by}.`;
    if (wrong.length) this.fail(`${wrong.length} rows are not accepted:`, wrong.map(describeRow));
    const preview = rows.slice(0, MAX_PREVIEW).map((_, row) => [`line ${row + 2}`, ...added[row].map((value) => value ?? "")]);
    this.table.replaceChildren(table("The first rows", ["row", ...more], preview));
  }

  fail(title, entries) {
    const items = entries.slice(0, MAX_SHOWN).map((text) => element("li", {}, text));
    if (entries.length > MAX_SHOWN) items.push(element("li", {}, `and ${entries.length - MAX_SHOWN} more`));
    this.problems.replaceChildren(element("p", {}, title), ...(items.length ? [element("ul", {}, ...items)] : []));
    this.problems.hidden = false;
  }
}

function partFrom(texts, start) {
  const part = [];
  let size = 0;
  for (let index = start; index < texts.length && part.length < PART_ROWS; index += 1) {
    size += texts[index].length;
    if (part.length && size > PART_CHARACTERS) break;
    part.push(index);
  }
  return part;
}

function describeRow(problem) {
  const column = problem.column === undefined ? "" : `${problem.column}: `;
  return `row ${problem.row + 1}: ${column}${describeProblem(problem)}`;
}

function unusedName(name, used) {
  let free = name;
  while (used.includes(free)) free += "_";
  return free;
}

function list(names) {
  return names.length > 10 ? `${names.slice(0, 10).join(", ")} and ${names.length - 10} more` : names.join(", ");
}
