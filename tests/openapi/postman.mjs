// Converts the description into a Postman collection, as Postman does when it imports it: without a
// warning, and with a request for each operation.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import converter from "openapi-to-postmanv2";

const [file] = process.argv.slice(2);
const description = JSON.parse(readFileSync(file, "utf8"));

const warnings = [];
console.warn = console.error = (...words) => warnings.push(words.join(" "));

converter.convertV2({ type: "json", data: description }, {}, (error, result) => {
  assert.ifError(error);
  assert(result.result, result.reason);
  assert.deepEqual(warnings, []);
  const count = (item) => (item.item ?? []).reduce((sum, inner) => sum + count(inner), 0) || 1;
  const operations = Object.values(description.paths).flatMap(Object.keys);
  assert.equal(count(result.output[0].data), operations.length);
  console.log(`Postman imports it: ${operations.length} requests.`);
});
