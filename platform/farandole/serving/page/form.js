// The fields of the form: from what a person entered to JSON, and back to the field that an error is about.

import { toBase64, toBytes, drawFitted, pixelValues } from "./images.js";

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
const JSON_NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

/** One field: a raw column and the control of its value. */
class Field {
  constructor(box) {
    this.box = box;
    const { column, control, sends } = box.dataset;
    Object.assign(this, { column, control, sends });
    this.input = box.querySelector("input, select, textarea");
    this.error = box.querySelector(".error");
    this.isFile = this.input.type === "file";
    this.bytes = null; // of files: what is sent in base64
    this.list = null; // of pixels: what is sent as a list
    this.fileName = null;
    this.bitmap = null;
  }

  /** Return the JSON text of the value; throws an Error with a sentence if it cannot be sent. */
  json() {
    if (this.isFile) return this.fileJson();
    const text = this.input.value;
    if (this.input.validity.badInput) throw new Error("This is not a complete date or time.");
    if (this.input.tagName === "SELECT") return this.selected(text);
    if (!text.trim()) return "null";
    return this.literal(text);
  }

  selected(text) {
    if (!text) return "null";
    return this.sends === "boolean" ? text.slice(1) : this.literal(text.slice(1));
  }

  literal(text) {
    if (this.sends === "number") return numberLiteral(text.trim());
    if (this.sends === "json") return listLiteral(text);
    if (this.control === "time") {
      const full = text.length === 16 ? `${text}:00` : text;
      return JSON.stringify(this.sends === "instant" ? `${full}Z` : full);
    }
    return JSON.stringify(this.control === "number" ? text.trim() : text);
  }

  fileJson() {
    if (this.list) return `[${this.list.join(",")}]`;
    return this.bytes ? JSON.stringify(toBase64(this.bytes)) : "null";
  }

  /** Show an error at the field, or remove it. */
  showError(sentence) {
    this.error.textContent = sentence;
    if (sentence) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }

  /** Set the value to missing. */
  async empty() {
    this.input.value = "";
    if (this.isFile) await this.setFile(null, null);
  }

  /** Set the example value; other controls than files have it in their HTML. */
  async example() {
    if (!this.isFile) return;
    const { example } = this.box.dataset;
    if (this.control === "pixels") await this.setFile(blank(this.box.dataset), null);
    else await this.setFile(example === undefined ? null : new Blob([toBytes(example)]), null);
  }

  /** Take a file: its bytes, or the pixels that it becomes. */
  async setFile(content, fileName) {
    this.fileName = fileName;
    this.bytes = this.list = this.bitmap = null;
    if (content === null) return this.preview("no file");
    if (this.control !== "pixels" && !(content instanceof ImageData)) {
      this.bytes = new Uint8Array(await content.arrayBuffer());
    }
    if (this.control === "file") return;
    try {
      this.bitmap = await createImageBitmap(content);
    } catch {
      if (this.control === "pixels") throw new Error("This browser cannot read the file as an image; choose a PNG, JPEG or WebP file.");
      return this.preview(`${fileName ?? "example"}: sent as it is; this browser cannot show it`);
    }
    this.preview(fileName ?? "example: a black image");
    if (this.control === "pixels") {
      const values = pixelValues(this.canvas(), this.box.dataset);
      if (this.sends === "json") this.list = values;
      else this.bytes = values;
    }
  }

  /** Return the image as the model sees it: resized, in the number of its channels. */
  canvas() {
    return drawFitted(document.createElement("canvas"), this.bitmap, this.box.dataset);
  }

  preview(caption) {
    const shown = this.box.querySelector("canvas");
    if (!shown) return;
    shown.hidden = this.bitmap === null;
    if (this.bitmap) drawFitted(shown, this.bitmap, this.box.dataset);
    this.box.querySelector("figcaption").textContent = caption;
  }
}

function blank({ width, height }) {
  const image = new ImageData(Number(width), Number(height));
  image.data.fill(255);
  for (let at = 0; at < image.data.length; at += 4) image.data.fill(0, at, at + 3);
  return image;
}

function numberLiteral(text) {
  if (JSON_NUMBER.test(text)) return text; // as it stands: a number of JavaScript may lose digits
  if (/^[+-]?\d+$/.test(text)) return BigInt(text.replace("+", "")).toString();
  if (NUMBER.test(text)) return String(Number(text));
  if (/^[+-]?\d+,\d+$/.test(text)) throw new Error(`${text} is not a number here; write ${text.replace(",", ".")}.`);
  throw new Error(`${text} is not a number; write digits, with a point before decimals.`);
}

function listLiteral(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (!Array.isArray(value)) throw new Error("This is not a list in JSON; write for example [1, 2.5, 3].");
  return text.trim();
}

/** The form of a model. */
export class RowForm {
  /**
   * @param {HTMLFormElement} form The form.
   * @param {() => void} onChange Is called after each change of a value.
   */
  constructor(form, onChange) {
    this.form = form;
    this.summary = form.querySelector("#problems");
    this.fields = [...form.querySelectorAll(".field")].map((box) => new Field(box));
    this.byColumn = new Map(this.fields.map((field) => [field.column, field]));
    for (const field of this.fields.filter((each) => each.isFile)) {
      field.input.addEventListener("change", () => this.takeFile(field, onChange));
    }
    form.addEventListener("input", onChange);
    form.addEventListener("reset", () => setTimeout(() => this.showExamples().then(onChange)));
    form.querySelector("#empty").addEventListener("click", async () => {
      await Promise.all(this.fields.map((field) => field.empty()));
      this.clearErrors();
      onChange();
    });
    this.ready = this.showExamples().then(onChange);
  }

  async showExamples() {
    this.clearErrors();
    await Promise.all(this.fields.map((field) => field.example()));
  }

  async takeFile(field, onChange) {
    const [file] = field.input.files;
    field.showError("");
    try {
      await field.setFile(file ?? null, file?.name ?? null);
    } catch (error) {
      field.showError(error.message);
    }
    onChange();
  }

  /** Return the members of the row, `[column, JSON text, field]`, or null after showing what is wrong. */
  members() {
    this.clearErrors();
    const wrong = [];
    const members = [];
    for (const field of this.fields) {
      try {
        members.push([field.column, field.json(), field]);
      } catch (error) {
        wrong.push({ column: field.column, message: error.message });
      }
    }
    if (wrong.length) this.showProblems("Some values cannot be sent.", wrong);
    return wrong.length ? null : members;
  }

  /** Return the members with a missing value for what is wrong, without showing errors. */
  draft() {
    return this.fields.map((field) => {
      try {
        return [field.column, field.json(), field];
      } catch {
        return [field.column, "null", field];
      }
    });
  }

  clearErrors() {
    for (const field of this.fields) field.showError("");
    this.summary.hidden = true;
    this.summary.replaceChildren();
  }

  /** Show problems above the form and at their fields, and move the focus there. */
  showProblems(title, problems) {
    const heading = document.createElement("h3");
    heading.textContent = title;
    const list = document.createElement("ul");
    for (const problem of problems) list.append(this.problemItem(problem));
    this.summary.replaceChildren(heading, ...(problems.length ? [list] : []));
    this.summary.hidden = false;
    this.summary.focus();
  }

  problemItem(problem) {
    const item = document.createElement("li");
    const field = this.byColumn.get(problem.column);
    const sentence = problem.message ?? describeProblem(problem);
    if (!field) {
      item.textContent = problem.column === undefined ? sentence : `${problem.column}: ${sentence}`;
      return item;
    }
    field.showError(sentence);
    const link = document.createElement("a");
    link.href = `#${field.input.id}`;
    link.textContent = `${problem.column}: ${sentence}`;
    link.addEventListener("click", (event) => {
      event.preventDefault();
      field.input.focus();
    });
    item.append(link);
    return item;
  }
}

/** Write what the service says of a wrong value: the value and the rule. */
export function describeProblem({ value, rule, message }) {
  const shown = value === undefined || value === null ? "" : typeof value === "string" ? value : JSON.stringify(value);
  const short = shown.length > 80 ? `${shown.slice(0, 80)}…` : shown;
  const words = typeof rule === "string" ? rule : typeof message === "string" ? message : "is not accepted";
  return short && !words.includes(short) ? `${short}: ${words}` : words;
}
