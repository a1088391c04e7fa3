import { KurirError } from "./error.js";
import { takesKey } from "./once.js";

export interface Options {
  /** Kurir's address without a path, such as https://kurir.example.com. */
  baseUrl: string;
  /** An account's or session's API key, or the token of a login. Left out for what needs none. */
  credential?: string;
  /** How often a request is made at most. 4 unless it says otherwise; 1 is no repeat. */
  tries?: number;
  /** The longest pause between two tries, in seconds (30). Where Kurir asks for a longer one, its refusal is thrown at once. */
  pause?: number;
  /** What makes the requests, in place of the global fetch. */
  fetch?: (request: Request) => Promise<Response>;
}

/**
 * Adds the credential and the Idempotency-Key to requests, repeats those where that is safe, and throws refusals. The key is
 * chosen once, before the first try, so all tries are one request to Kurir: what was done by a try whose answer was lost is not
 * done again.
 */
export function transport(options: Options): (request: Request) => Promise<Response> {
  const { credential, tries = 4, pause = 30, fetch = (request) => globalThis.fetch(request) } = options;
  return async (request) => {
    if (credential && !request.headers.has("Authorization") && !request.headers.has("X-Api-Key")) {
      request.headers.set("Authorization", `Bearer ${credential}`);
    }
    let safe = request.method !== "POST" && request.method !== "PATCH";
    if (takesKey(request.method, new URL(request.url).pathname)) {
      safe = true;
      if (!request.headers.has("Idempotency-Key")) request.headers.set("Idempotency-Key", crypto.randomUUID());
    }
    for (let tried = 1; ; tried++) {
      let wait = 0.2 * 2 ** tried * (0.5 + Math.random());
      try {
        const answer = await fetch(tried < tries ? request.clone() : request);
        if (answer.status < 400) return answer;
        throw await KurirError.of(answer);
      } catch (failure) {
        request.signal.throwIfAborted();
        if (tried >= tries || !repeatable(failure, safe)) throw failure;
        if (failure instanceof KurirError && failure.retryAfter !== undefined) wait = failure.retryAfter;
        if (wait > pause) throw failure;
      }
      await sleep(wait, request.signal);
    }
  };
}

function repeatable(failure: unknown, safe: boolean): boolean {
  if (!(failure instanceof KurirError)) return safe; // there was no answer
  if (failure.status === 429) return true; // nothing was done
  return safe && (failure.status === 503 || failure.code === "idempotency_in_progress");
}

function sleep(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const given = () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", given);
      resolve();
    }, seconds * 1000);
    signal.addEventListener("abort", given, { once: true });
  });
}
