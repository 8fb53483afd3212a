// The page: one model at a time, its form, and what the service answers.

import { Batch } from "./batch.js";
import { element } from "./charts.js";
import { RequestError, address, fetchModel, post, useKey } from "./client.js";
import { RowForm } from "./form.js";
import { showExplanation, showPrediction, showSource } from "./results.js";
import { body, curl, python } from "./snippets.js";

const guarded = document.body.dataset.guarded === "yes";
const main = document.getElementById("model");
const keyInput = document.getElementById("key");
const keyState = document.getElementById("key-state");
// The only way by which text becomes HTML here: a part of the page that the service has rendered and escaped.
const policy = window.trustedTypes?.createPolicy("farandole-page", { createHTML: (html) => html });

let shown = null;
let current = null; // the model that the address names

/** A model on the page. */
class ModelPage {
  constructor(article) {
    const { model, kind, label, explains, classes } = article.dataset;
    this.model = { name: model, kind, label, classes: JSON.parse(classes) };
    this.explains = explains === "yes";
    this.said = article.querySelector("#said");
    this.answer = article.querySelector("#answer");
    this.why = article.querySelector("#why");
    this.explanation = article.querySelector("#explanation");
    this.code = { curl: article.querySelector("#curl-code"), python: article.querySelector("#python-code") };
    this.form = new RowForm(article.querySelector("#row"), () => this.showCode());
    this.form.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.predict();
    });
    this.batch = new Batch(article.querySelector("#batch"), model, this.form.fields);
    for (const button of article.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));
  }

  /** Show the request that the form makes, as code. */
  showCode() {
    const members = this.form.draft();
    const url = address("predict", this.model.name);
    this.code.curl.textContent = curl(url, members, guarded || keyInput.value !== "");
    this.code.python.textContent = python(url, members, guarded || keyInput.value !== "");
  }

  /** Send the row of the form, and show prediction and explanation. */
  async predict() {
    await this.form.ready;
    const members = this.form.members();
    if (!members || this.isBusy) return;
    this.isBusy = true;
    this.said.textContent = "Waiting for the prediction";
    this.answer.replaceChildren();
    if (this.why) this.why.hidden = true;
    try {
      const answer = await post("predict", this.model.name, body(members));
      const { sentence, parts } = showPrediction(answer.predictions[0], this.model);
      this.said.replaceChildren(...sentence);
      this.answer.replaceChildren(...parts, showSource(answer.model));
    } catch (error) {
      this.said.textContent = "No prediction.";
      this.showError(error);
      return;
    } finally {
      this.isBusy = false;
    }
    if (this.explains && this.form.form.querySelector("#explain").checked) await this.explain(members);
  }

  async explain(members) {
    this.why.hidden = false;
    this.explanation.replaceChildren(element("p", { class: "quiet" }, "Waiting for the explanation"));
    try {
      const answer = await post("explain", this.model.name, body(members));
      this.explanation.replaceChildren(...showExplanation(this.model.kind, answer.explanations[0], members));
    } catch (error) {
      this.explanation.replaceChildren(element("p", { class: "problem", role: "alert" }, `No explanation: ${error.message}`));
    }
  }

  showError(error) {
    if (!(error instanceof RequestError)) throw error;
    if (error.status === 401 || error.status === 403) return askForKey(error.message);
    const problems = error.problems.length && error.problems.every((problem) => Object.keys(problem).length) ? error.problems : [];
    this.form.showProblems(error.message, problems);
  }
}

function askForKey(sentence) {
  keyState.textContent = sentence;
  keyInput.setAttribute("aria-invalid", "true");
  keyInput.focus();
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const state = document.getElementById("copied");
  try {
    await navigator.clipboard.writeText(source.textContent);
    state.textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(source);
    state.textContent = "The browser does not allow copying here; the code is selected, so copy it with the keyboard.";
  }
}

/** Fetch a model's part of the page and show it. */
async function open(name) {
  keyState.textContent = "";
  keyInput.removeAttribute("aria-invalid");
  try {
    const html = await fetchModel(name);
    const part = new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, "text/html");
    main.replaceChildren(...part.body.childNodes);
    start();
    main.focus();
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    askForKey(error.message);
  }
}

function start() {
  current = chosenModel();
  for (const link of main.querySelectorAll("[data-model-link]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault(); // a new page would forget the key
      history.pushState(null, "", link.href);
      open(link.dataset.modelLink);
    });
  }
  const article = document.getElementById("shown");
  document.title = `${article?.dataset.model ?? "Model service"} · Farandole`;
  shown = article ? new ModelPage(article) : null;
}

function chosenModel() {
  return new URLSearchParams(location.search).get("model");
}

document.getElementById("use-key").addEventListener("click", () => {
  useKey(keyInput.value);
  keyState.textContent = "";
  keyInput.removeAttribute("aria-invalid");
  if (guarded) open(chosenModel());
  else shown?.showCode();
});
keyInput.addEventListener("keydown", (event) => event.key === "Enter" && document.getElementById("use-key").click());
window.addEventListener("popstate", () => {
  if (chosenModel() !== current) open(chosenModel()); // and not a move within the page
});
start();
