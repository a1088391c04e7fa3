/**
 * A client of Kurir's API. The types in schema.ts are generated from the OpenAPI document, and openapi-fetch makes the requests;
 * this file adds what no document can say: credentials, repeats, errors as values, uploads, pages, webhooks.
 */
import createClient, { type Client } from "openapi-fetch";
import type { paths } from "./schema.js";
import { transport, type Options } from "./transport.js";

export type * from "./schema.js";
export { KurirError, type Detail } from "./error.js";
export { parseWebhook, type Delivery } from "./webhook.js";
export type { Options } from "./transport.js";

export type Kurir = Client<paths>;

/** Makes a client of one Kurir with one credential. Its calls are openapi-fetch's: `kurir.GET("/api/v1/sessions")`. */
export function createKurir(options: Options): Kurir {
  return createClient<paths>({ baseUrl: options.baseUrl, fetch: transport(options), bodySerializer: asJSON, querySerializer: { array: { style: "form", explode: false } } });
}

/** All bodies but forms are objects of JSON. A file is none, and would be stored as what JSON makes of it. */
function asJSON(body: unknown): string | FormData {
  if (body instanceof FormData) return body;
  if (typeof body !== "object" || body instanceof Blob || body instanceof ArrayBuffer || ArrayBuffer.isView(body)) {
    throw new TypeError("This body is no object: send files with upload()");
  }
  return JSON.stringify(body);
}

/** The `data` of an answer. A refusal is thrown as a KurirError already by the call itself. */
export async function data<T>(call: Promise<{ data?: { data: T }; response: Response }>): Promise<T> {
  const answer = await call;
  if (answer.data === undefined) throw new Error(`Kurir answered ${answer.response.status} without data`);
  return answer.data.data;
}

type UploadMedia = paths["/api/v1/sessions/{id}/media"]["post"];
type Kind = NonNullable<NonNullable<UploadMedia["parameters"]["query"]>["kind"]>;

/** Stores a file for a session's messages, as it is: send it by the `mediaId` of the answer. A `kind` has size and type checked for it. */
export function upload(kurir: Kurir, session: string, file: Blob | ArrayBuffer | Uint8Array<ArrayBuffer>, kind?: Kind) {
  return data(kurir.POST("/api/v1/sessions/{id}/media", {
    params: { path: { id: session }, ...(kind && { query: { kind } }) },
    headers: { "Content-Type": "application/octet-stream" },
    body: "", // its type in OpenAPI is a text; what is sent is the file
    bodySerializer: () => file,
  }));
}

/** Goes through the pages of a list: `page` reads the one at a cursor, undefined for the first. */
export async function* all<T>(page: (cursor?: string) => Promise<{ items: T[]; nextCursor: string | null }>): AsyncGenerator<T, void> {
  let cursor: string | undefined;
  do {
    const { items, nextCursor } = await page(cursor);
    yield* items;
    cursor = nextCursor ?? undefined;
  } while (cursor !== undefined);
}

type ListMessages = paths["/api/v1/sessions/{id}/messages"]["get"];
type Filter = NonNullable<ListMessages["parameters"]["query"]>;

/** Goes through the history of a session, newest first. */
export function messages(kurir: Kurir, session: string, filter: Filter = {}) {
  return all(async (cursor) => {
    const query = cursor === undefined ? filter : { ...filter, cursor };
    const page = await data(kurir.GET("/api/v1/sessions/{id}/messages", { params: { path: { id: session }, query } }));
    return { items: page.messages, nextCursor: page.nextCursor };
  });
}
