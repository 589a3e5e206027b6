// A client that was generated from /openapi.json registers, creates a patient and reads it. Its
// types must fit what is sent here, and the service must answer as they say.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const [baseUrl] = process.argv.slice(2);
assert(baseUrl, "usage: client <base URL>");
const client = createClient<paths>({ baseUrl });

const email = `client-${Date.now()}@example.com`;
const registered = await client.POST("/api/auth/register", {
  body: { name: "Ada", email, password: "correct horse" },
});
assert(registered.data, `${registered.error?.code}`);
const { token, user } = registered.data;
client.use({
  onRequest: ({ request }) => request.headers.set("Authorization", `Bearer ${token}`),
});

const create = () =>
  client.POST("/api/patients", {
    params: { header: { "Idempotency-Key": "the-first-patient" } },
    body: { name: "Grace", age: 36, blood_group: "O+", metadata: { ward: "3B" } },
  });
const created = await create();
assert(created.data, `${created.error?.code}`);
const { id } = created.data;
// An answer that is lost can be asked for again.
const again = await create();
assert.deepEqual(again.data, created.data);
assert.equal(again.response.headers.get("idempotency-replayed"), "true");
assert.equal(created.response.headers.get("location"), `/api/patients/${id}`);

const read = await client.GET("/api/patients/{id}", { params: { path: { id } } });
const patient: components["schemas"]["Patient"] | undefined = read.data;
assert.deepEqual(patient, created.data);
assert.equal(patient.created_by, user.id);
assert.equal(patient.gender, null);

// What was read can be sent back.
const { data: same } = await client.PUT("/api/patients/{id}", {
  params: { path: { id }, header: { "If-Match": `"${patient.version}"` } },
  body: patient,
});
assert.deepEqual(same, patient);

// Lines are sent and answered as they are.
const imported = await client.POST("/api/patients/import", {
  body: "name,age\r\nAlan,41\r\n",
  bodySerializer: (lines) => lines,
  headers: { "Content-Type": "text/csv" },
});
assert.equal(imported.data?.imported, 1);
const exported = await client.GET("/api/patients/export", { parseAs: "text" });
assert.match(`${exported.data}`, /^{"name":"Grace",.*\n{"name":"Alan","age":41,.*\n$/);

const refused = await client.POST("/api/patients", { body: { name: "Alan", age: 200 } });
assert.equal(refused.error?.code, "validation_failed");
assert.deepEqual(refused.error?.errors, [{ field: "age", message: "must be between 0 and 150" }]);

const missing = await client.GET("/api/patients/{id}", { params: { path: { id: 1 + 2 ** 40 } } });
assert.equal(missing.error?.code, "patient_not_found");
console.log("The generated client registered, created a patient, read it, sent it back and imported one.");
