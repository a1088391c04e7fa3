// What users of the client do first, with the Kurir at KURIR_URL, a fresh one with simulated phones.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { createKurir, data, KurirError, messages, parseWebhook, upload, type Delivery } from "../src/index.js";

const baseUrl = process.env.KURIR_URL;
const limited = { signal: AbortSignal.timeout(90_000) };

test("a first message, with a Kurir that runs", { skip: baseUrl === undefined && "KURIR_URL is not set", timeout: 90_000 }, async (t) => {
  assert(baseUrl !== undefined);
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const events: Delivery[] = [];
  const bad: unknown[] = [];
  const receiver = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const headers = request.headers as Record<string, string>;
    assert.throws(() => parseWebhook(`whsec_${secret.slice(10)}`, headers, body));
    try {
      events.push(parseWebhook(secret, headers, body));
      response.writeHead(204).end();
    } catch (failure) {
      bad.push(failure);
      response.writeHead(401).end();
    }
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  t.after(() => receiver.close());
  const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;

  const nobody = createKurir({ baseUrl });
  const credentials = { email: "typescript@example.com", password: "correct horse battery" };
  const account = await data(nobody.POST("/api/v1/auth/register", { body: { ...credentials, tier: "basic" } }));
  const login = await data(nobody.POST("/api/v1/auth/login", { body: credentials }));
  assert.notEqual(login.token, "");

  // The answer of each first try is lost, after Kurir has given it.
  const lost = new Set<string>();
  const kurir = createKurir({
    baseUrl,
    credential: account.apiKey,
    fetch: async (request) => {
      const key = request.headers.get("Idempotency-Key");
      const answer = await fetch(request);
      if (key === null || lost.has(key)) return answer;
      lost.add(key);
      await answer.body?.cancel();
      throw new TypeError("the connection broke");
    },
  });
  const path = { id: "ts-shop" };
  const session = await data(kurir.POST("/api/v1/sessions", { body: { name: "Shop", sessionId: path.id, webhook: { url, secret } }, ...limited }));
  assert.equal(session.sessionId, path.id);
  await until(async () => (await data(kurir.GET("/api/v1/sessions/{id}/status", { params: { path }, ...limited }))).status === "connected");

  const bytes = Uint8Array.from({ length: 2000 }, (_, i) => (i * 7) % 256);
  for (const file of [bytes, bytes.buffer, new Blob([bytes])]) {
    const stored = await upload(kurir, path.id, file, "document");
    assert.equal(stored.size, bytes.length);
    const content = await kurir.GET("/api/v1/media/{mediaId}", { params: { path: { mediaId: stored.mediaId } }, parseAs: "arrayBuffer" });
    assert.deepEqual(new Uint8Array(content.data as ArrayBuffer), bytes);
  }
  await assert.rejects(kurir.POST("/api/v1/sessions/{id}/media", { params: { path }, body: new Blob([bytes]) as unknown as string }), TypeError);
  await assert.rejects(kurir.POST("/api/v1/sessions/{id}/media", { params: { path }, body: "a text" }), TypeError);

  const sent: string[] = [];
  for (let i = 0; i < 5; i++) {
    const message = await data(kurir.POST("/api/v1/sessions/{id}/send", {
      params: { path, header: { Prefer: "wait=20" } },
      body: { type: "text", to: "6281234567890", message: `Number ${i}` },
      ...limited,
    }));
    assert.equal(message.status, "sent");
    sent.unshift(message.messageId);
  }
  const listed: string[] = [];
  for await (const message of messages(kurir, path.id, { limit: 2 })) listed.push(message.id);
  assert.deepEqual(listed, sent);

  const once = () => data(kurir.POST("/api/v1/sessions/{id}/send", {
    params: { path, header: { "Idempotency-Key": "order-7" } },
    body: { type: "text", to: "6281234567890", message: "Once" },
  }));
  assert.equal((await once()).messageId, (await once()).messageId);

  await until(async () => events.filter((event) => event.type === "message.delivered").length === 6);
  assert.deepEqual(bad, []);

  const tooMany = await refusal(kurir.POST("/api/v1/sessions/{id}/send", { params: { path }, body: { type: "text", to: "6281234567890", message: "One too many" } }));
  assert.deepEqual([tooMany.status, tooMany.code], [429, "message_limit"]);
  assert(tooMany.retryAfter !== undefined && tooMany.retryAfter > 60);
  const toWhom = await refusal(kurir.POST("/api/v1/sessions/{id}/send", { params: { path }, body: { type: "text", to: "", message: "To whom?" } }));
  assert.deepEqual([toWhom.status, toWhom.code, toWhom.details[0]?.field], [422, "invalid_request", "to"]);
  assert.equal((await refusal(kurir.GET("/api/v1/sessions/{id}", { params: { path: { id: "nothing" } } }))).code, "session_not_found");
  const stranger = createKurir({ baseUrl, credential: account.apiKey.slice(0, 20) });
  assert.equal((await refusal(stranger.GET("/api/v1/sessions"))).code, "invalid_api_key");
  assert.equal((await refusal(nobody.GET("/api/v1/sessions"))).code, "unauthenticated");
});

async function refusal(call: Promise<unknown>): Promise<KurirError> {
  const failure = await call.then(() => undefined, (failure: unknown) => failure);
  assert(failure instanceof KurirError, String(failure));
  return failure;
}

async function until(done: () => Promise<boolean>): Promise<void> {
  while (!(await done())) {
    limited.signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
