/** What a fault says besides its number, for a program to use. */
export interface FaultData {
  /** The member of the input that was wrong. */
  readonly field?: string;
  /** Which item of a list was wrong, from 0. */
  readonly index?: number;
  /** What was wrong, where the message is always the same. */
  readonly problem?: string;
  /** The name that was probably meant. */
  readonly nearest?: string;
  /** When trying again makes sense, in milliseconds from now. */
  readonly retry_after_ms?: number;
}

/** Whatever goes wrong with a call, but for a cancellation: that throws the signal's reason. */
export class TallyhookError extends Error {
  override readonly name: string = "TallyhookError";
}

/** The server refused the call or failed at it; there is a subclass for each number. */
export class FaultError extends TallyhookError {
  override readonly name: string = "FaultError";

  constructor(
    /** The number of the fault, such as 103. */
    readonly number: number,
    message: string,
    readonly data: FaultData = {},
  ) {
    super(message);
  }
}

/**
 * The server has another store than the one whose numbers the receiver's state knows: a backup was
 * put back, or another store is in its place, and a number that is done may stand for another event
 * now. The receiver has told `onError`, and begins anew by itself.
 */
export class OtherStoreError extends TallyhookError {
  override readonly name: string = "OtherStoreError";
}

/** The call was none that the server takes, so it was not run. */
export class ProtocolError extends TallyhookError {
  override readonly name: string = "ProtocolError";

  constructor(
    /** A number of JSON-RPC, such as -32602. */
    readonly code: number,
    message: string,
    /** The HTTP status of the answer. */
    readonly status: number,
  ) {
    super(message);
  }
}

/** No answer came, or none of a tallyhook server. Whether the call was run is not known. */
export class TransportError extends TallyhookError {
  override readonly name: string = "TransportError";
}

/** No answer came in time. Whether the call was run is not known. */
export class TimeoutError extends TransportError {
  override readonly name: string = "TimeoutError";
}
