// CSV, as RFC 4180 describes it.

/** A file that is not CSV. */
export class CsvError extends Error {}

/**
 * Parse a text.
 *
 * @param {string} text The content of a file, with a line of names.
 * @returns {{names: string[], rows: (string | null)[][], delimiter: string}} An empty value without quotes is null, with quotes an
 *   empty text.
 */
export function parse(text) {
  const content = text.startsWith("\ufeff") ? text.slice(1) : text;
  const delimiter = findDelimiter(content);
  const records = [...readRecords(content, delimiter)];
  if (!records.length) throw new CsvError("The file is empty.");
  const names = records[0].values.map((name) => name ?? "");
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new CsvError(`Line 1 names the column ${JSON.stringify(twice)} twice.`);
  for (const { values, line } of records.slice(1)) {
    if (values.length !== names.length) {
      throw new CsvError(`Line ${line} has ${values.length} values, and line 1 names ${names.length} columns.`);
    }
  }
  return { names, rows: records.slice(1).map((record) => record.values), delimiter };
}

/** Return the delimiter that the first line has most often outside quotes. */
function findDelimiter(content) {
  const first = content.split(/\r?\n/, 1)[0].replace(/"([^"]|"")*"/g, "");
  const count = (mark) => first.split(mark).length - 1;
  return [",", ";", "\t"].reduce((best, mark) => (count(mark) > count(best) ? mark : best));
}

function* readRecords(content, delimiter) {
  let [at, line] = [0, 1];
  while (at < content.length) {
    const start = line;
    const values = [];
    for (;;) {
      const found = content[at] === '"' ? quotedValue(content, at, line) : plainValue(content, at, delimiter);
      values.push(found.value);
      line += found.lines;
      at = found.end;
      if (content[at] !== delimiter) break;
      at += 1;
    }
    if (at < content.length && !"\r\n".includes(content[at])) {
      throw new CsvError(`Line ${line}: a quote is followed by ${JSON.stringify(content[at])}; write quotes in a value twice.`);
    }
    at += content.startsWith("\r\n", at) ? 2 : 1;
    line += 1;
    if (values.length > 1 || values[0] !== null) yield { values, line: start };
  }
}

function plainValue(content, at, delimiter) {
  let end = at;
  while (end < content.length && content[end] !== delimiter && content[end] !== "\n" && content[end] !== "\r") end += 1;
  return { value: end > at ? content.slice(at, end) : null, end, lines: 0 };
}

function quotedValue(content, at, line) {
  let end = at + 1;
  for (;;) {
    end = content.indexOf('"', end);
    if (end < 0) throw new CsvError(`Line ${line}: a quote is opened and never closed.`);
    if (content[end + 1] !== '"') break;
    end += 2;
  }
  const value = content.slice(at + 1, end).replaceAll('""', '"');
  return { value, end: end + 1, lines: value.split("\n").length - 1 };
}

/** Write rows as CSV; null is an empty value without quotes. */
export function write(names, rows, delimiter) {
  const quote = (value) => {
    if (value === null || value === undefined) return "";
    const text = String(value);
    return text === "" || /["\r\n]/.test(text) || text.includes(delimiter) || text.trim() !== text
      ? `"${text.replaceAll('"', '""')}"`
      : text;
  };
  return [names, ...rows].map((row) => `${row.map(quote).join(delimiter)}\r\n`).join("");
}
