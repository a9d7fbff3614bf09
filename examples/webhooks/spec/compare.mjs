// compare.mjs - compares the payloads of index files with events that `catga stream read -o json` has
// printed, as canonical JSON, by the JSON of Node.js and not by ours.
//
// Usage: node compare.mjs EVENTS INDEX.json...
// Every payload must be there as often as it is in the files. Prints how many; exit code 1 and what
// is missing otherwise.
import fs from "node:fs";

function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const fields = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
  return `{${fields.join(",")}}`;
}

const [events, ...files] = process.argv.slice(2);
const left = new Map();
let count = 0;
for (const file of files)
  for (const { name, examples } of JSON.parse(fs.readFileSync(file, "utf8")))
    for (const payload of examples) {
      const text = `${name} ${canonical(payload)}`;
      left.set(text, (left.get(text) ?? 0) + 1);
      count++;
    }
const problems = [];
for (const line of fs.readFileSync(events, "utf8").split("\n").filter(Boolean)) {
  const { type, data } = JSON.parse(line);
  const text = `${type.replace(/^archived\./, "")} ${canonical(data)}`;
  const times = left.get(text);
  if (times === undefined) problems.push(`not sent: ${text.slice(0, 200)}`);
  else if (times === 1) left.delete(text);
  else left.set(text, times - 1);
}
for (const text of left.keys()) problems.push(`missing: ${text.slice(0, 200)}`);
if (problems.length > 0) {
  console.error(problems.slice(0, 5).join("\n"));
  process.exit(1);
}
console.log(count);
