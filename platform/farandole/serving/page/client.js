// Requests to the service. The key is a variable of this module: it is never stored, and never part of an address.

let key = "";

/** Use a key or token from now on; an empty text means none. */
export function useKey(text) {
  key = text.trim();
}

/** A request that failed, with what the service says about it. */
export class RequestError extends Error {
  /**
   * @param {number} status The HTTP status; 0 if no answer came.
   * @param {string} message A sentence for people.
   * @param {{row?: number, column?: string, value?: unknown, rule?: string}[]} problems One entry for each wrong value.
   */
  constructor(status, message, problems = []) {
    super(message);
    this.status = status;
    this.problems = problems;
  }
}

/** Return the address of a path of the service, which may be below a prefix. */
export function address(path, model) {
  const url = new URL(path, document.baseURI);
  url.search = model === undefined ? "" : new URLSearchParams({ model }).toString();
  url.hash = "";
  return url;
}

/** Return the HTML of a model's part of the page. */
export async function fetchModel(name) {
  const answer = await request(address("page/model", name ?? undefined), { method: "GET" });
  return answer.text();
}

/** Send rows, a JSON text, and return the answer as data. */
export async function post(path, model, body, signal) {
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  const answer = await request(address(path, model), { method: "POST", body, headers, signal });
  try {
    return await answer.json();
  } catch {
    throw new RequestError(answer.status, "The answer of the service is not JSON. Is something else between it and this page?");
  }
}

async function request(url, options) {
  let answer;
  try {
    const headers = new Headers(options.headers);
    if (key) headers.set("Authorization", `Bearer ${key}`);
    answer = await fetch(url, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const isKey = error instanceof TypeError && /[^\x21-\x7e]/.test(key);
    throw new RequestError(0, isKey
      ? "The key has characters that no key has; paste it again."
      : "The service does not answer. Check that it runs and that you are connected, then try again.");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

const SENTENCES = {
  401: "The service does not accept this key or token, or needs one. Enter it at the top of the page.",
  403: "This key or token does not permit this request; ask for one with the scope that is missing.",
  413: "The request is larger than the service allows; send fewer or smaller values.",
  429: "The service has reached a limit of requests.",
  503: "The service cannot answer at present; try again in a moment.",
  504: "The service did not answer in time; try again in a moment.",
};

/** Read an error of the service. Proxies before it answer in other forms, which are not shown. */
async function refusal(answer) {
  let found = null;
  try {
    found = await answer.json();
  } catch {
    // not JSON, so not from the service
  }
  const words = typeof found?.error === "string" && answer.status !== 401 ? found.error : null;
  let message = words ?? SENTENCES[answer.status] ?? `The service answered with the status ${answer.status}.`;
  const waiting = answer.headers.get("Retry-After");
  if (/^\d+$/.test(waiting ?? "")) message += ` (try again in ${waiting} s)`;
  return new RequestError(answer.status, message, Array.isArray(found?.errors) ? found.errors : []);
}
