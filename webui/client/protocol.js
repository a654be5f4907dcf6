// Constants of the protocol between a student's page and the server; docs/protocol.md describes it.

export const PROTOCOL_VERSION = 1;

/** What may be sent before the server has named its own limits in a welcome. */
export const DEFAULT_LIMITS = { frame_bytes: 1024 * 1024, events_per_frame: 2000, unacked: 1000 };

/** Codes with which the server closes a WebSocket. */
export const CLOSE = {
  later: 1013,
  badHello: 4400,
  token: 4401,
  removed: 4403,
  elsewhere: 4409,
  frameTooLarge: 4413,
  unusable: 4422,
  crowded: 4429,
  backendAway: 4503,
};
