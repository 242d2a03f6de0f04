// GitHub's own parser and evaluator behind a pipe: a request in JSON per line, an answer per line.
//
//   {"parse": "workflow" | "action", "text": …}  →  {"value": …} or {"errors": […]}
//   {"evaluate": …, "contexts": {…}, "status": {"success": …}}  →  {"value": …} or {"errors": […]}
//
// A parsed file is plain JSON; an expression in it is {"${{": text}. GitHub's reader has joined
// text around expressions by format(), and conditions have their implicit success().

import { createInterface } from "node:readline";
import { register } from "node:module";

// GitHub's packages import JSON in a way that Node has since given up.
const hook = `export const load = (url, context, next) => next(url, url.endsWith(".json")
  ? { ...context, importAttributes: { type: "json" } } : context);`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);
const yaml = await import("yaml");
const { data, Evaluator, Lexer, Parser } = await import("@actions/expressions");
const { convertWorkflowTemplate, isSequence, NoOperationTraceWriter, parseWorkflow } = await import("@actions/workflow-parser");
const { parseAction } = await import("@actions/workflow-parser/actions/action-parser");
const { convertToIfCondition } = await import("@actions/workflow-parser/model/converter/if-condition");

const STATUS = ["success", "failure", "cancelled", "always"];

/** Turn GitHub's tokens into plain JSON. */
function plain(context, token) {
  if (token.expression !== undefined) return { "${{": token.expression };
  if (token.map !== undefined) {
    return Object.fromEntries(
      token.map.map(({ key, value }) => [
        key.toString(),
        key.toString() === "if" ? plain(context, convertToIfCondition(context, value)) : plain(context, value),
      ]),
    );
  }
  if (isSequence(token)) return [...token].map((item) => plain(context, item));
  return token.value === undefined ? null : token.value;
}

async function parse(kind, content) {
  // Each string on one line: of others, this reader takes the source, and GitHub the value.
  const oneLine = { blockQuote: false, defaultStringType: "QUOTE_DOUBLE", lineWidth: 0,
    doubleQuotedMinMultiLineLength: Infinity };
  const file = { name: "file.yml", content: yaml.stringify(yaml.parse(content), oneLine) };
  const read = kind === "action" ? parseAction : parseWorkflow;
  const { context, value } = read(file, new NoOperationTraceWriter());
  let errors = context.errors.getErrors().map((error) => error.message);
  if (errors.length > 0 || value === undefined) return { errors };
  const result = plain(context, value);
  if (kind === "workflow") {
    const template = await convertWorkflowTemplate(context, value);
    errors = (template.errors ?? []).map((error) => error.Message);
  }
  return errors.length > 0 ? { errors } : { value: result };
}

/** Evaluate all expressions in a piece of a file. */
function evaluate(piece, contexts, functions) {
  if (Array.isArray(piece)) return piece.map((item) => evaluate(item, contexts, functions));
  if (piece === null || typeof piece !== "object") return piece;
  if (!("${{" in piece)) {
    return Object.fromEntries(Object.entries(piece).map(([key, value]) => [key, evaluate(value, contexts, functions)]));
  }
  const names = contexts.pairs().map(({ key }) => key);
  const tree = new Parser(new Lexer(piece["${{"]).lex().tokens, names, functions).parse();
  const result = new Evaluator(tree, contexts, new Map(functions.map((f) => [f.name, f]))).evaluate();
  return JSON.parse(JSON.stringify(result, data.replacer));
}

async function answer(request) {
  if (request.parse) return parse(request.parse, request.text);
  const functions = STATUS.map((name) => ({
    name,
    minArgs: 0,
    maxArgs: 0,
    call: () => new data.BooleanData(name === "always" || request.status[name]),
  }));
  const contexts = JSON.parse(JSON.stringify(request.contexts), data.reviver);
  return { value: evaluate(request.evaluate, contexts, functions) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const result = await answer(JSON.parse(line)).catch((error) => ({ errors: [error.message] }));
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
