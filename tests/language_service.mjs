// What GitHub's language service finds in workflows and actions: node language_service.mjs ROOT:FILE …
// ROOT is the repository's root, where `uses: $/…` leads. Prints a JSON list of sentences.

import { readFileSync } from "node:fs";
import { register } from "node:module";
import { join, resolve } from "node:path";

// GitHub's packages import JSON in a way that Node has since given up.
const hook = `export const load = (url, context, next) => next(url, url.endsWith(".json")
  ? { ...context, importAttributes: { type: "json" } } : context);`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);
const { validate } = await import("@actions/languageservice");
const { TextDocument } = await import("vscode-languageserver-textdocument");

const found = [];
for (const argument of process.argv.slice(2)) {
  const [root, file] = argument.split(":");
  const document = TextDocument.create(`file://${resolve(file)}`, "yaml", 1, readFileSync(file, "utf8"));
  const fileProvider = {
    getFileContent: async ({ path }) => ({ name: path, content: readFileSync(join(root, path), "utf8") }),
  };
  for (const { message, range } of await validate(document, { fileProvider })) {
    found.push(`${file}:${range.start.line + 1}: ${message}`);
  }
}
console.log(JSON.stringify(found));
