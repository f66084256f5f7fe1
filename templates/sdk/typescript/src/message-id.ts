/** `msg_<store>_<webhook>_<number>`, or `<first>-<last>` in place of the number. */
const PATTERN = /^msg_(\w+)_(\d+)_(\d+)(?:-(\d+))?$/;

/** Names what is sent, the same over every retry. */
export interface MessageId {
  readonly storeId: string;
  readonly webhookId: number;
  readonly first: number;
  readonly last: number;
}

/**
 * Reads the header `webhook-id`; `undefined` if it is none of a tallyhook server.
 * @internal
 */
export function readMessageId(text: string): MessageId | undefined {
  const [, storeId, webhook, first, last] = PATTERN.exec(text) ?? [];
  if (storeId === undefined || webhook === undefined || first === undefined) return undefined;
  return {
    storeId,
    webhookId: Number(webhook),
    first: Number(first),
    last: Number(last ?? first),
  };
}
