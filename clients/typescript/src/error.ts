/** A field that is wrong. */
export interface Detail {
  field: string;
  message: string;
}

/** A refusal of Kurir's. `code` is for programs, and stays; `message` is for people. docs/errors.md lists all codes. */
export class KurirError extends Error {
  override readonly name = "KurirError";

  constructor(
    message: string,
    /** Of HTTP. */
    readonly status: number,
    /** "" where the answer is not Kurir's, but of something in between. */
    readonly code: string,
    /** Names the request in Kurir's logs. */
    readonly requestId: string,
    readonly details: readonly Detail[],
    /** Seconds; undefined if Kurir did not say. */
    readonly retryAfter: number | undefined,
  ) {
    super(message);
  }

  /** Reads a refusal. */
  static async of(answer: Response): Promise<KurirError> {
    const seconds = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
    const failure: unknown = await answer.json().catch(() => undefined);
    const f = (typeof failure === "object" && failure !== null ? failure : {}) as Partial<Record<"error" | "code" | "requestId", string>> & { details?: Detail[] };
    return new KurirError(f.error ?? `${answer.status} ${answer.statusText}`, answer.status, f.code ?? "",
      f.requestId ?? answer.headers.get("X-Request-Id") ?? "", f.details ?? [], seconds > 0 ? seconds : undefined);
  }
}
