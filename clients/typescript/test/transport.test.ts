import assert from "node:assert/strict";
import { test } from "node:test";
import { createKurir, KurirError } from "../src/index.js";

type Answer = () => Response | Promise<Response>;

const taking: Answer = () => Response.json({ success: true, data: { id: "1", messageId: "1", jobId: "1", status: "pending" } }, { status: 202 });
const breaking: Answer = () => Promise.reject(new TypeError("the connection broke"));
const refusing = (status: number, code: string, after?: number): Answer => () =>
  Response.json({ success: false, error: "No.", code, requestId: "r1" }, { status, ...(after !== undefined && { headers: { "Retry-After": String(after) } }) });

/** A client whose Kurir answers one after the other, and the requests that it made. */
function scripted(...answers: Answer[]) {
  const got: { key: string | null; authorization: string | null; body: string }[] = [];
  const kurir = createKurir({
    baseUrl: "https://kurir.example.com",
    credential: "kur_example",
    pause: 5,
    fetch: async (request) => {
      got.push({ key: request.headers.get("Idempotency-Key"), authorization: request.headers.get("Authorization"), body: await request.text() });
      const answer = answers[Math.min(got.length, answers.length) - 1];
      assert(answer !== undefined);
      return answer();
    },
  });
  const params = { path: { id: "shop" } };
  return {
    got,
    send: () => kurir.POST("/api/v1/sessions/{id}/send", { params, body: { type: "text", to: "6281234567890", message: "Hello" } }),
    restart: () => kurir.POST("/api/v1/sessions/{id}/restart", { params }),
    read: () => kurir.GET("/api/v1/sessions"),
  };
}

const cases: [name: string, call: "send" | "restart" | "read", answers: Answer[], tries: number, code?: string][] = [
  ["a send is repeated after 503", "send", [refusing(503, "database_unavailable", 1), taking], 2],
  ["a send is repeated after no answer", "send", [breaking, breaking, taking], 3],
  ["a send is repeated while its first try is running", "send", [breaking, refusing(409, "idempotency_in_progress", 1), taking], 3],
  ["a send is repeated after 429", "send", [refusing(429, "request_limit", 1), taking], 2],
  ["not when that is too long", "send", [refusing(429, "message_limit", 3000)], 1, "message_limit"],
  ["nor for ever", "send", [breaking], 4, "none"],
  ["a refusal is final", "send", [refusing(422, "invalid_request")], 1, "invalid_request"],
  ["what takes no key is not repeated", "restart", [breaking], 1, "none"],
  ["not after 503 either", "restart", [refusing(503, "database_unavailable", 1)], 1, "database_unavailable"],
  ["but after 429", "restart", [refusing(429, "request_limit", 1), taking], 2],
  ["a read is repeated", "read", [breaking, refusing(503, "busy", 1), taking], 3],
];

test("repeats", { concurrency: true }, async (t) => {
  await Promise.all(cases.map(([name, call, answers, tries, code]) => t.test(name, async () => {
    const kurir = scripted(...answers);
    const failure: unknown = await kurir[call]().then(() => undefined, (failure: unknown) => failure);
    assert.equal(failure === undefined ? undefined : failure instanceof KurirError ? failure.code : "none", code);
    assert.equal(kurir.got.length, tries);
    const first = kurir.got[0];
    assert.equal(first?.key !== null, call === "send");
    assert.equal(first?.authorization, "Bearer kur_example");
    for (const again of kurir.got) assert.deepEqual(again, first, "all tries are one request");
  })));
});

test("two sends are two messages", async () => {
  const kurir = scripted(taking);
  await kurir.send();
  await kurir.send();
  assert.notEqual(kurir.got[0]?.key, kurir.got[1]?.key);
});

test("a list in an address has commas, as Kurir reads it", async () => {
  let asked = "";
  const kurir = createKurir({
    baseUrl: "https://kurir.example.com",
    credential: "kur_example",
    fetch: (request) => {
      asked = request.url;
      return Promise.resolve(Response.json({ success: true, data: { messages: [], nextCursor: null } }));
    },
  });
  await kurir.GET("/api/v1/sessions/{id}/messages", { params: { path: { id: "shop" }, query: { status: ["failed", "expired"] } } });
  assert.deepEqual(new URL(asked).searchParams.getAll("status"), ["failed,expired"]);
});
