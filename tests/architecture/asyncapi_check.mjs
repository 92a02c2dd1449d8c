// Reads AsyncAPI documents with AsyncAPI's own parser; exits 1 with what it finds wrong.
// usage: node asyncapi_check.mjs FILE...
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const [ERROR, WARNING] = [0, 1]; // severities; what follows is advice, such as a newer version of the format

const parser = new Parser();
for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(readFileSync(file, "utf8"));
  const wrong = diagnostics.filter(({ severity }) => severity === ERROR || severity === WARNING);
  for (const { path, message } of wrong) {
    console.error(`${file}: ${path.join(".") || "document"}: ${message}`);
  }
  if (document && wrong.length === 0) {
    const [channels, operations] = [document.channels().all().length, document.operations().all().length];
    console.log(`${file}: valid, ${channels} channels, ${operations} operations`);
  } else {
    process.exitCode = 1;
  }
}
