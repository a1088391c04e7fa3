/**
 * A client of Kurir's API. The types in schema.ts are generated from the OpenAPI document, and openapi-fetch makes the requests;
 * this file adds what no document can say: credentials, repeats, errors as values, pages, webhooks.
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
  return createClient<paths>({ baseUrl: options.baseUrl, fetch: transport(options) });
}

/** The `data` of an answer. A refusal is thrown as a KurirError already by the call itself. */
export async function data<T>(call: Promise<{ data?: { data: T }; response: Response }>): Promise<T> {
  const answer = await call;
  if (answer.data === undefined) throw new Error(`Kurir answered ${answer.response.status} without data`);
  return answer.data.data;
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
