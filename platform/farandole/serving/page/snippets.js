// The request of the form as code to copy.

const LONG = 4000; // characters of a file's base64 from which the code reads the file instead

/**
 * Return a body with one row.
 *
 * @param {[string, string][]} members Column and JSON text of its value. Objects would reorder and merge names.
 */
export function body(members) {
  return `{"rows": [{${members.map(([column, json]) => `${JSON.stringify(column)}: ${json}`).join(", ")}}]}`;
}

/** Return a shell command that sends the row. */
export function curl(url, members, guarded) {
  const files = members.filter(readsFile);
  const head = `curl -sS ${quoted(url.href)} \\\n  -H 'Content-Type: application/json' \\\n`;
  const key = guarded ? `  -H "Authorization: Bearer $FARANDOLE_API_KEY" \\\n` : "";
  if (!files.length) return `${head}${key}  --data-binary ${quoted(body(members))}`;
  const marks = new Map(files.map(([column, , field], index) => [column, [`\u0000${index}\u0000`, field.fileName]]));
  let text = `printf %s ${quoted(body(members.map((each) => (marks.has(each[0]) ? [each[0], `"${marks.get(each[0])[0]}"`] : each))))}`;
  for (const [mark, name] of marks.values()) {
    text = text.replace(mark, () => `'; base64 ${quoted(`./${name}`)} | tr -d '\\n'; printf %s '`);
  }
  return `{ ${text}; } |\n${head}${key}  --data-binary @-`;
}

function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function readsFile([, json, field]) {
  return Boolean(field.fileName) && field.sends === "base64" && field.control !== "pixels" && json.length > LONG;
}

/** Return Python code that sends the row with the standard library. */
export function python(url, members, guarded) {
  const imports = ["json", ...(guarded ? ["os"] : []), "urllib.request"];
  const readsAny = members.some(readsFile);
  const lines = [...(readsAny ? ["import base64"] : []), ...imports.map((name) => `import ${name}`)];
  if (readsAny) lines.push("from pathlib import Path");
  lines.push("", "row = {");
  for (const member of members) lines.push(`    ${JSON.stringify(member[0])}: ${pythonValue(member)},`);
  lines.push("}", 'headers = {"Content-Type": "application/json"}');
  if (guarded) lines.push('headers["Authorization"] = "Bearer " + os.environ["FARANDOLE_API_KEY"]');
  lines.push(
    'body = json.dumps({"rows": [row]}).encode()',
    `request = urllib.request.Request(${JSON.stringify(url.href)}, body, headers)`,
    "with urllib.request.urlopen(request) as answer:",
    "    print(json.load(answer))",
  );
  return lines.join("\n");
}

function pythonValue(member) {
  const [, json, field] = member;
  if (readsFile(member)) return `base64.b64encode(Path(${JSON.stringify(field.fileName)}).read_bytes()).decode()`;
  if (json === "null" || json === "true" || json === "false") return { null: "None", true: "True", false: "False" }[json];
  return json.startsWith("[") && /[a-z]/.test(json) ? `json.loads(${JSON.stringify(json)})` : json;
}
