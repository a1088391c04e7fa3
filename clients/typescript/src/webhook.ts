import { Webhook } from "standardwebhooks";
import type { webhooks } from "./schema.js";

/** What a webhook delivers, by its type. `sequence` counts per webhook without gaps. */
export type Delivery = { [E in keyof webhooks]: webhooks[E]["post"]["requestBody"]["content"]["application/json"] }[keyof webhooks];

/**
 * Verifies a delivery as Standard Webhooks say, and reads it. `payload` is the body as it came, `secret` the webhook's whsec_….
 * Throws standardwebhooks' WebhookVerificationError where the signature is not right.
 */
export function parseWebhook(secret: string, headers: Headers | Record<string, string>, payload: string): Delivery {
  const plain = headers instanceof Headers ? Object.fromEntries(headers) : headers;
  return new Webhook(secret).verify(payload, plain) as Delivery;
}
